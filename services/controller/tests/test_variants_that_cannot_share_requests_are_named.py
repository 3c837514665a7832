"""A challenger that gives a shared input another type gets no traffic from any gateway; the controller says so too."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from kingmaker_contracts import keys, wire
from kingmaker_contracts.profile import sha256_of
from kingmaker_contracts.status import VariantStatus
from kingmaker_controller.redis_store import RedisStore
from kingmaker_controller.rollout.facts import Identity
from kingmaker_controller.rollout.signatures import mismatched
from kingmaker_servicekit import redis_client
from tests.contracts import samples

SPEC = {
    "champion": {"name": "lr", "model": "models:/flights/1"},
    "challengers": [{"name": "gbm", "model": "models:/flights/2"}],
    "weights": {"gbm": 20},
}


def variant(name: str, profile: str | None) -> VariantStatus:
    return VariantStatus(name=name, model="m", version="1", phase="Ready", profile=profile)


INPUTS = {
    "a": {"distance": "FP32", "hour": "INT64"},
    "b": {"distance": "FP32", "wind": "FP32"},
    "c": {"distance": "INT64"},
    "d": {"wind": "FP64"},
    "e": {"distance": "FP32[4]"},
}


@pytest.mark.parametrize(
    ("profiles", "expected"),
    [
        (["a"], {}),
        (["a", "b"], {}),
        (["a", "c"], {"v1": "input 'distance' is INT64, for v0 it is FP32"}),
        (["a", "b", "d"], {"v2": "input 'wind' is FP64, for v1 it is FP32"}),
        (["a", "e"], {"v1": "input 'distance' is FP32[4], for v0 it is FP32"}),
        (["a", "c", "c"], {"v1": "input 'distance' is INT64, for v0 it is FP32"}
                          | {"v2": "input 'distance' is INT64, for v0 it is FP32"}),
        (["a", None], {}),
        ([None, "c"], {}),
        (["a", "not read yet"], {}),
    ],
)  # fmt: skip
def test_an_input_has_one_type_for_all_who_get_it(profiles: list[str | None], expected: dict[str, str]) -> None:
    variants = [variant(f"v{i}", profile) for i, profile in enumerate(profiles)]
    assert mismatched(variants, INPUTS) == expected


def test_the_condition_names_the_variant_and_an_event_says_it_once(world_of: Any) -> None:
    world = world_of(SPEC)
    world.inputs = INPUTS
    world.settle()
    for name, profile in (("lr", "a"), ("gbm", "c")):
        identity = Identity(name, f"models:/flights/{'1' if name == 'lr' else '2'}")
        world.observed[identity] = replace(world.observed[identity], profile=profile)
    world.status = msgspec.structs.replace(
        world.status,
        variants=[msgspec.structs.replace(v, profile={"lr": "a", "gbm": "c"}[v.name]) for v in world.status.variants],
    )
    outcome = world.step()
    told = world.condition("VariantsReady")
    assert (told.status, told.reason) == ("False", "SignatureMismatch")
    assert told.message == "gbm gets no traffic: input 'distance' is INT64, for lr it is FP32"
    assert [e.message for e in outcome.events if e.reason == "SignatureMismatch"] == [told.message]
    assert not [e for e in world.step().events if e.reason == "SignatureMismatch"]
    assert world.condition("Ready").status == "True"


async def test_inputs_are_read_from_the_stored_profile(valkey: Any) -> None:
    store = RedisStore(redis_client.connect(valkey.url))
    assert await store.inputs("shop", "flights", "aa") is None
    raw = wire.write_json(samples.PROFILE)
    valkey.client.set(keys.profile("shop", "flights", sha256_of(raw)), raw)
    found = await store.inputs("shop", "flights", sha256_of(raw))
    assert found == {f.name: f.datatype for f in samples.PROFILE.inputs}
    valkey.client.set(keys.profile("shop", "flights", "bb"), b"no profile")
    assert await store.inputs("shop", "flights", "bb") == {}, "said once, and not asked again at every step"
    await store.close()


def test_a_running_controller_reads_them_and_says_it(stack: Any) -> None:
    first = samples.PROFILE.inputs[0]
    other = msgspec.structs.replace(first, datatype="INT64" if first.datatype != "INT64" else "FP32")
    changed = msgspec.structs.replace(samples.PROFILE, inputs=[other, *samples.PROFILE.inputs[1:]])
    for version, profile in (("1", samples.PROFILE), ("2", changed)):
        (stack.registry / f"{version}.profile").write_bytes(wire.write_json(profile))
    stack.write(SPEC)
    stack.start()
    stack.until(lambda: stack.condition("VariantsReady")["reason"] == "SignatureMismatch", "it is said")
    assert (
        f"gbm gets no traffic: input '{first.name}' is {other.datatype}" in stack.condition("VariantsReady")["message"]
    )
    assert stack.condition("Ready")["status"] == "True"
