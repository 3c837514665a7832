"""What a variant without a profile takes stands in no record: each leader asks its server, once."""

import asyncio
from dataclasses import replace
from functools import partial

import pytest

from kingmaker_contracts.served_model import Champion
from kingmaker_controller.rollout.facts import WantedVariant
from kingmaker_controller.runtimes import manifests, pods
from tests.cluster.copies import until
from tests.cluster.pretended import Answers
from tests.cluster.test_a_slow_registry_delays_nobody_else import Around, around  # noqa: F401 - a fixture

pytestmark = pytest.mark.fake_only("the pod is only said to run")

MODEL = "default/quick"
PINNED = WantedVariant("lr", "models:/quick/1", "1", "1" * 64, None, 1, asked=Champion(name="lr", model="m"))


@pytest.mark.parametrize("profile", [None, "b" * 64])
async def test_a_pinned_variant_is_asked_unless_its_profile_says_it(
    around: Around,  # noqa: F811
    profile: str | None,
) -> None:
    around.want("quick")
    await until(partial(around.made, "quick"))
    identity = PINNED.identity
    name = manifests.name_of(MODEL, identity)
    pod = {
        "metadata": {"name": "p", "labels": {manifests.ID_LABEL: name}, "annotations": {manifests.VERSION: "1"}},
        "status": {"podIP": "127.0.9.1", "conditions": [{"type": "Ready", "status": "True"}]},
    }
    answers = Answers()
    answers.start(pod)
    around.runtime.apply(MODEL, [replace(PINNED, profile=profile)])
    around.runtime.note_pod("p", pods.slim(pod))

    def seen() -> dict[str, str]:
        return dict(around.runtime.observe(MODEL, {identity})[identity].inputs)

    assert seen() == {}
    if profile is None:
        await until(lambda: seen() == {"x": "FP32[2]"})
    else:
        assert "ask a model server" not in {task.get_name() for task in asyncio.all_tasks()}
    answers.close()
