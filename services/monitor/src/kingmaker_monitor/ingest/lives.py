"""Which gateways' lives are over, so that what they still had in their buffers is lost.

A gateway writes its ack every second, and it lives for a minute. Last words are marked as such: by a gateway that
stops,
or by the next life of one that was killed. Without them an ack that is gone ends a life; GRACE_S forgives a Redis
that has just come back without the acks.
"""

from collections.abc import Mapping
from typing import Final

from kingmaker_monitor.accounts import Account
from kingmaker_monitor.ingest.discovery import Acks
from kingmaker_monitor.state import Producer

GRACE_S: Final = 5.0
_Key = tuple[str, Producer]


class Lives:
    """Remembers since when an ack is missing. Nothing of it needs to survive a restart."""

    def __init__(self, grace_s: float = GRACE_S) -> None:
        self._grace_s = grace_s
        self._missing: dict[_Key, float] = {}
        self._ended: set[_Key] = set()

    def look(self, acks: Acks, ended: set[str], accounts: Mapping[str, Mapping[Producer, Account]], now: float) -> None:
        """Compare what is known with what is there. ended: producers of last words; now: monotonic seconds."""
        missing: dict[_Key, float] = {}
        alive = [
            (model, producer) for model, known in accounts.items() for producer in known if not known[producer].closed
        ]
        for model, producer in alive:
            if producer.id not in acks.get((model, producer.partition), {}):
                missing[model, producer] = self._missing.get((model, producer), now)
        self._missing = missing
        self._ended = {key for key, since in missing.items() if now - since >= self._grace_s}
        self._ended |= {key for key in alive if key[1].id in ended}

    def take_ended(self, model: str, partition: int) -> frozenset[str]:
        """Producers of a stream whose lives were over before it was last read from."""
        found = {key for key in self._ended if key[0] == model and key[1].partition == partition}
        self._ended -= found
        return frozenset(producer.id for _, producer in found)
