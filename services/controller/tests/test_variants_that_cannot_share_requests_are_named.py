"""A challenger that gives a shared input another type gets no traffic from any gateway; the controller says so too."""

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from kingmaker_contracts import keys, wire
from kingmaker_contracts.profile import sha256_of
from kingmaker_contracts.status import VariantStatus
from kingmaker_controller.redis_store import RedisStore
from kingmaker_controller.rollout.facts import Identity, Observed
from kingmaker_controller.rollout.signatures import mismatched, type_of
from kingmaker_servicekit import redis_client
from tests.contracts import samples

if TYPE_CHECKING:
    from services.controller.tests.conftest import Stack

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
    assert mismatched(variants, INPUTS, {}) == expected
    plain = [variant(v.name, None) for v in variants]
    told = [INPUTS.get(profile or "", {}) for profile in profiles]
    observed = {Identity(v.name, v.model): Observed("Ready", inputs=i) for v, i in zip(plain, told, strict=True)}
    assert mismatched(plain, {}, observed) == expected, "without profiles their servers say the same"


def test_a_profiles_word_counts_more_than_a_servers() -> None:
    observed = {Identity("v1", "m"): Observed("Ready", inputs={"distance": "INT64"})}
    assert mismatched([variant("v0", "a"), variant("v1", "b")], INPUTS, observed) == {}
    assert "v1" in mismatched([variant("v0", "a"), variant("v1", None)], INPUTS, observed)


@pytest.mark.parametrize(("shape", "expected"), [([-1], "FP32"), ([-1, 1], "FP32"), ([-1, 4], "FP32[4]"), ([], "FP32")])
def test_a_type_says_how_much_a_row_takes(shape: list[int], expected: str) -> None:
    assert type_of("FP32", shape) == expected


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


def test_a_running_controller_reads_them_and_says_it(stack: "Stack") -> None:
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


def test_without_profiles_a_running_controller_asks_the_servers(stack: "Stack") -> None:
    for version, type_ in (("1", "FP32"), ("2", "INT64")):
        told = {"inputs": [{"name": "distance", "datatype": type_, "shape": [-1, 1]}]}
        (stack.registry / version).write_text(f"model {version}\n{json.dumps(told)}")
    stack.write(SPEC)
    stack.start()
    stack.until(lambda: stack.condition("VariantsReady")["reason"] == "SignatureMismatch", "it is said")
    text = "gbm gets no traffic: input 'distance' is INT64, for lr it is FP32"
    assert stack.condition("VariantsReady")["message"] == text
