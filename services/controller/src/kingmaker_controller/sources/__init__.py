"""Where resources come from: a file, or the Kubernetes API. Each gives the same `Reading`."""

from dataclasses import dataclass
from typing import Protocol

from kingmaker_contracts.served_model import Fault, ServedModel


@dataclass(frozen=True, slots=True)
class Document:
    """One model of a reading; the same object as before when nothing about it changed.

    resource: None when faults say why; generation: the source's own count of edits, None when it has none;
    uid: another one under the same name is another model.
    """

    resource: ServedModel | None
    faults: tuple[Fault, ...] = ()
    generation: int | None = None
    uid: str = ""
    created_at: str = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """All a source holds. models: by `namespace/name`; faults: of the source as a whole, when it cannot be told
    which models it holds: then nothing is removed."""

    models: dict[str, Document]
    faults: tuple[Fault, ...] = ()


class Source(Protocol):
    def poll(self) -> Reading | None:
        """A new reading, or None when nothing changed since the last one. Never raises for bad content."""
        ...
