"""A state machine of edits, crashes, recoveries, outages, restarts and foreign records around reconcile."""

import importlib.util
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from kingmaker_contracts import buckets
from kingmaker_controller.rollout.facts import Identity

_spec = importlib.util.spec_from_file_location("controller_world", Path(__file__).with_name("conftest.py"))
assert _spec is not None and _spec.loader is not None
_conftest = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_conftest)

NAMES = ("ann", "gbm", "lr")
VARIANTS = [(name, f"models:/flights/{name}{i}") for name in NAMES for i in (1, 2)]
EMPTY_SPEC = {"champion": {"name": "lr", "model": "models:/flights/lr1"}}


@st.composite
def specs(draw: st.DrawFn) -> dict[str, Any]:
    names = draw(st.permutations(NAMES))
    chosen = [{"name": n, "model": f"models:/flights/{n}{draw(st.integers(1, 2))}"} for n in names]
    challengers = chosen[1 : 1 + draw(st.integers(0, 2))]
    left, weights = 100, {}
    for challenger in challengers:
        weights[challenger["name"]] = draw(st.integers(0, left))
        left -= weights[challenger["name"]]
    return {"champion": chosen[0], "challengers": challengers, "weights": weights, "paused": draw(st.booleans())}


class Interleavings(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = _conftest.World(EMPTY_SPEC)

    @rule(spec=specs())
    def edit(self, spec: dict[str, Any]) -> None:
        self.world.edit(spec)

    @rule()
    def spoil_the_file(self) -> None:
        self.world.edit({"champion": {}})

    @rule(variant=st.sampled_from(VARIANTS))
    def become_ready(self, variant: tuple[str, str]) -> None:
        if Identity(*variant) in self.world.observed:
            self.world.ready(*variant)

    @rule(variant=st.sampled_from(VARIANTS))
    def crash(self, variant: tuple[str, str]) -> None:
        if Identity(*variant) in self.world.observed:
            self.world.crash(*variant)

    @rule(up=st.booleans())
    def redis(self, up: bool) -> None:
        self.world.reachable = up

    @rule()
    def wipe_redis(self) -> None:
        self.world.record = None

    @rule()
    def restart(self) -> None:
        self.world.restart_controller()

    @rule(jump=st.integers(0, 20))
    def tamper(self, jump: int) -> None:
        record = self.world.record
        if record is not None:
            self.world.record = msgspec.structs.replace(record, ranges="", revision=record.revision + jump)

    @rule()
    def settle(self) -> None:
        world = self.world
        world.reachable = True
        world.settle()
        spec = world.desired.resource.spec
        weights = {n: w for n, w in spec.weights.items() if w and n != world.status.champion.name}
        if not spec.paused and not world.desired.faults:
            assert {n: s // 100 for n, s in world.shares.items()} == weights
            assert world.status.champion.name == spec.champion.name
            assert world.record == world.last

    @rule()
    def step(self) -> None:
        world = self.world
        before, shares = world.status, world.shares if world.status.routing else {}
        champion = before.champion
        outcome = world.step()
        status = outcome.status
        routing = outcome.routing
        if routing is None:
            return
        owned = world.shares
        assert sum(owned.values()) <= buckets.COUNT
        assert routing.champion.weight == 100 - sum(v.weight for v in routing.variants if v.role == "challenger")
        for variant in routing.variants:
            if owned.get(variant.name, 0) > shares.get(variant.name, 0):
                assert variant.endpoints, "it grew without being ready"
        if champion is not None and (status.champion.name, status.champion.version) != (
            champion.name,
            champion.version,
        ):
            assert routing.champion.endpoints, "it was crowned without being ready"
        if before.routing is not None:
            assert (routing.epoch, routing.revision) >= (before.routing.epoch, before.routing.revision)
        assert all(v.version for v in routing.variants)

    @invariant()
    def a_replay_changes_nothing(self) -> None:
        world = self.world
        first = world.look()
        saved = (world.status, world.last, world.record, world.known)
        world.status, world.last = first.status, first.routing
        if world.reachable and first.routing is not None:
            world.record = world.known = first.routing
        world.status, world.last = world.look().status, world.look().routing  # Programmed learns of the write
        again = world.look()
        assert again.status == world.status
        assert again.routing == first.routing
        assert again.events == ()
        world.status, world.last, world.record, world.known = saved


Interleavings.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestInterleavings = Interleavings.TestCase
