"""Rounds over several processes of each kind, and the ports they listen on."""

from pathlib import Path
from typing import Any, cast

from benchmarks import lab, rounds
from benchmarks.load import Generator, Target


class Heard:
    """A generator that writes down whom it was to load."""

    def __init__(self) -> None:
        self.urls: list[str] = []

    def run(self, target: Target, connections: int, seconds: int, think_ms: int = 0) -> Any:
        self.urls.append(target.url)
        return target.url


def sets(*urls: dict[str, str]) -> list[dict[str, Target]]:
    return [{name: Target(url, Path(), []) for name, url in one.items()} for one in urls]


def test_every_round_takes_the_next_set_and_compares_within_it() -> None:
    heard = Heard()
    several = sets({"off": "off 1", "on": "on 1"}, {"off": "off 2", "on": "on 2"})
    samples = cast(Any, rounds.take_of_several(cast(Generator, heard), several, 64, 3, 1))
    assert samples == {"off": ["off 1", "off 2", "off 1"], "on": ["on 1", "on 2", "on 1"]}
    assert heard.urls[:4] == ["off 1", "on 1", "off 2", "on 2"]  # each is warm before anything counts
    assert heard.urls[4:] == ["off 1", "on 1", "on 2", "off 2", "on 1", "off 1"]  # and not always the same begins


def test_ports_are_below_those_the_kernel_gives_to_connections() -> None:
    ports = [lab.free_port() for _ in range(20)]
    assert len(set(ports)) == 20
    assert all(1024 < port < 32768 for port in ports)
