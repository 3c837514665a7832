"""What a client asks for beside its rows: a variant, a deadline, and to stay with one variant."""

from collections.abc import Mapping
from typing import Final

from kingmaker_contracts import deadlines
from kingmaker_contracts.problems import Code, Problem
from kingmaker_gateway import batch as batches
from kingmaker_gateway.answers import Request, unknown_variant
from kingmaker_gateway.batch import Vocabulary
from kingmaker_gateway.protocols import Call, Language, Reader
from kingmaker_gateway.state import State

VARIANT_HEADER: Final = "x-kingmaker-variant"


class Wish:
    """What requests to one path with the same headers ask alike, but for whom they keep with one variant. variant: from
    the path; headers: names in lower case; language: how their bodies are read; is_plain: nothing is asked for but an
    answer."""

    __slots__ = ("_reader", "_vocabulary", "headers", "is_plain", "language", "variant")

    def __init__(self, variant: str | None, headers: Mapping[str, str], language: Language) -> None:
        self.variant = variant
        self.headers = headers
        self.language = language
        self.is_plain = variant is None and not headers
        self._vocabulary: Vocabulary | None = None
        self._reader: Reader | None = None

    def reader(self, vocabulary: Vocabulary) -> Reader:
        """Remembered for the vocabulary asked for last. Raises Problem."""
        if self._reader is None or vocabulary is not self._vocabulary:
            self._reader = self.language(self.headers, vocabulary)
            self._vocabulary = vocabulary
        return self._reader


def override(state: State, path: str | None, headers: Mapping[str, str]) -> int | None:
    """Index of the variant the client asks for by path or header. Raises Problem."""
    header = headers.get(VARIANT_HEADER) or None
    if path is not None and header is not None and path != header:
        raise Problem(Code.BAD_INPUT, f"the path asks for variant {path[:80]!r}, header {VARIANT_HEADER} for another")
    name = path if path is not None else header
    if name is None:
        return None
    if state.record.overrides != "Allowed":
        raise Problem(
            Code.OVERRIDE_DENIED, f"model {state.record.name!r} does not allow clients to choose a variant (overrides)"
        )
    if name not in state.table.variants:
        raise unknown_variant(state.record.name, name, state.table.variants)
    index = state.table.variants.index(name)
    if not state.takes_requests(index):
        raise Problem(Code.NOT_READY, f"variant {name!r} of model {state.record.name!r} is not ready")
    return index


def time_left_s(state: State, call: Call, headers: Mapping[str, str]) -> float:
    """The nearest of the model's limit and the client's own, in seconds. Raises Problem."""
    limit = state.deadline_s
    if call.timeout_s is not None:
        limit = min(limit, call.timeout_s)
    own = timeout_s(headers) if headers else None
    return limit if own is None else min(limit, own)


def timeout_s(headers: Mapping[str, str]) -> float | None:
    """The client's own limit, in seconds. Raises Problem."""
    text = headers.get(deadlines.TIMEOUT_HEADER)
    return None if text is None else deadlines.timeout_s(text)


def sticky_key(state: State, call: Call, request: Request) -> str | None:
    """What keeps this caller with one variant; None when it has no key. Raises Problem."""
    sticky = state.record.sticky
    if state.sticky_header is not None:
        value = request.header(state.sticky_header)
        return value.decode("latin-1") if value else None
    if sticky.source == "Feature":
        return batches.sticky_value(call.batch, sticky.name or "")
    return None
