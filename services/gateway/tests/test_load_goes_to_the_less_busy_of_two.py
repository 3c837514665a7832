"""Which server a frame goes to: a decision over endpoints, without a network."""

import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kingmaker_gateway import balancing
from kingmaker_gateway.breaker import Breaker
from kingmaker_gateway.settings import BreakerSettings

EJECT = BreakerSettings(failures=1, open_ms=2000, probes=1)


@dataclass(eq=False)
class Server:
    """What `pick` sees of an endpoint. taken: connections handed out; asked: how often one was wished for in vain."""

    idle: int = 4
    is_up: bool = True
    outstanding: int = 0
    breaker: Breaker = field(default_factory=lambda: Breaker(EJECT))
    taken: int = 0
    asked: int = 0

    @property
    def has_idle(self) -> bool:
        return self.idle > 0

    def take(self) -> object | None:
        if not self.idle:
            self.asked += 1
            return None
        self.idle -= 1
        self.taken += 1
        return object()


def pick(servers: list[Server], tried: Any = (), now: float = 0.0, seed: int = 0) -> Server | None:
    found = balancing.pick(servers, tried, now, random.Random(seed))  # type: ignore[arg-type]  # stand-ins
    return None if found is None else found[0]  # type: ignore[return-value]


@given(st.lists(st.integers(0, 9), min_size=2, max_size=6), st.integers())
def test_the_busiest_is_chosen_only_when_it_is_no_busier_than_another(outstanding: list[int], seed: int) -> None:
    servers = [Server(outstanding=count) for count in outstanding]
    chosen = pick(servers, seed=seed)
    assert chosen is not None
    assert sum(server.outstanding >= chosen.outstanding for server in servers) >= 2


def test_two_are_drawn_and_not_the_least_busy_of_all() -> None:
    """So that many gateways do not all fall upon one."""
    chosen: Counter[int] = Counter()
    for seed in range(600):
        servers = [Server(outstanding=count) for count in (0, 1, 2)]
        found = pick(servers, seed=seed)
        assert found is not None
        chosen[found.outstanding] += 1
    assert 300 < chosen[0] < 500  # two draws of three hold the idle one in two cases of three
    assert chosen[1] == 600 - chosen[0]


@given(st.data())
def test_whoever_is_chosen_has_a_connection_and_nobody_better_was_there(data: st.DataObject) -> None:
    servers = [
        Server(
            idle=data.draw(st.integers(0, 2)), is_up=data.draw(st.booleans()), outstanding=data.draw(st.integers(0, 3))
        )
        for _ in range(data.draw(st.integers(1, 5)))
    ]
    for server in servers:
        if data.draw(st.booleans()):
            server.breaker.failed(0.0)
    tried = [server for server in servers if data.draw(st.booleans())]
    had = {id(server): server.idle for server in servers}
    chosen = pick(servers, tried)
    candidates = [server for server in servers if server not in tried] or servers
    up = [server for server in candidates if server.is_up]
    well = [server for server in up if server.breaker.would_admit(0.0)]
    best = well or up or candidates
    if chosen is None:
        assert all(not had[id(server)] for server in (best if len(servers) > 1 else servers))
        assert any(server.asked for server in servers)  # one is being opened where there is room
    elif len(servers) > 1:
        assert chosen in best
        assert had[id(chosen)] > 0
    assert sum(server.taken for server in servers) == (chosen is not None)


def test_an_ejected_server_gets_one_frame_when_its_time_is_over() -> None:
    sick, well = Server(idle=100), Server(idle=100, outstanding=9)
    sick.breaker.failed(0.0)
    assert {pick([sick, well], now=1.9, seed=seed) is well for seed in range(20)} == {True}
    assert any(pick([sick, well], now=2.1, seed=seed) is sick for seed in range(20))
    sick.breaker.admits(2.1)  # the probe is on its way
    assert {pick([sick, well], now=2.2, seed=seed) is well for seed in range(20)} == {True}
    sick.breaker.succeeded()
    assert pick([sick, well], now=2.3) is sick
