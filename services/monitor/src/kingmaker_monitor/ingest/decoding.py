"""Stream entries as read from Redis, and what is in them. An entry that cannot be read is counted, never fatal."""

import logging
from dataclasses import dataclass, field
from typing import Literal

from kingmaker_contracts import events, feedback, keys
from kingmaker_contracts.acks import EventAccount
from kingmaker_monitor.ingest import fold

logger = logging.getLogger(__name__)


@dataclass(slots=True, frozen=True)
class Stream:
    """One stream of one model. model: `namespace/name`."""

    model: str
    kind: Literal["events", "feedback"]
    partition: int

    @property
    def key(self) -> str:
        name = keys.events if self.kind == "events" else keys.feedback
        return name(*keys.split_model_id(self.model), self.partition)


@dataclass(slots=True, frozen=True)
class Read:
    """What one read of one stream gave. entries: (entry id, fields), oldest first; acks: by producer, known before
    this read began and to be applied because it reached the end of the stream; ended: producers whose life is over,
    likewise."""

    stream: Stream
    entries: list[tuple[bytes, dict[bytes, bytes]]]
    acks: dict[str, EventAccount] = field(default_factory=dict)
    ended: frozenset[str] = frozenset()


@dataclass(slots=True)
class Decoded:
    """A read, decoded. last: id of its last entry, None when there was none; entries: how many it had; malformed: of
    them, those given up; newest: by producer, the id of its last entry."""

    stream: Stream
    last: bytes | None
    acks: dict[str, EventAccount] = field(default_factory=dict)
    ended: frozenset[str] = frozenset()
    entries: int = 0
    batches: list[events.EventBatch] = field(default_factory=list)
    labels: list[feedback.FeedbackBatch] = field(default_factory=list)
    malformed: int = 0
    newest: dict[str, bytes] = field(default_factory=dict)

    @property
    def schemas(self) -> set[str]:
        return {batch.schema for batch in self.batches}


def decode(read: Read) -> Decoded:
    """Never raises: what cannot be read is counted, and the first of a read is logged."""
    last = read.entries[-1][0] if read.entries else None
    found = Decoded(read.stream, last, read.acks, read.ended, len(read.entries))
    for entry_id, fields in read.entries:
        try:
            raw = fields.get(keys.ENTRY_FIELD)
            if raw is None:
                raise events.BadEnvelope(f"field {keys.ENTRY_FIELD.decode()!r} is missing")
            if read.stream.kind == "events":
                batch = events.decode(raw)
                fold.check(batch)
                found.batches.append(batch)
                found.newest[batch.producer] = entry_id
            else:
                found.labels.append(feedback.decode(raw))
        except ValueError as error:  # BadEnvelope is one; numpy refuses impossible shapes with another
            found.malformed += 1
            if found.malformed == 1:
                logger.warning(
                    "stream entry unreadable, skipped",
                    extra={"stream": read.stream.key, "entry": entry_id.decode(), "error": str(error)},
                )
    return found
