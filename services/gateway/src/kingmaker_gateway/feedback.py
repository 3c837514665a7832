"""Labels from clients: check their form, and answer 202 only once Redis has them.

This is the one request that waits for Redis: labels are rare and precious, and a caller that was told 503
sends them again. Whether a label is unknown, late or a duplicate is the monitor's question.
"""

import asyncio
import datetime
import math
import time
from collections.abc import Mapping
from typing import Any, Final, cast

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from kingmaker_contracts import feedback, keys, prediction_ids, tensors
from kingmaker_contracts.feedback import MAX_LABELS, FeedbackBatch, LabelEvent
from kingmaker_contracts.problems import Code, Problem
from kingmaker_gateway.batch import refuse, shown
from kingmaker_gateway.metrics import Metrics
from kingmaker_gateway.settings import FeedbackSettings

NDJSON: Final = "application/x-ndjson"
MAX_TEXT: Final = 256
_APPEND: Final = """
for number, stream in ipairs(KEYS) do
  redis.call('XADD', stream, 'MAXLEN', '~', ARGV[1], '*', ARGV[2], ARGV[number + 2])
end
"""
"""All streams or none. KEYS: streams of one model. ARGV: entries to keep, the field, an entry for each stream."""
_FIELDS: Final = ("prediction_id", "label", "observed_at", "source")


def parse(body: bytes, content_type: str) -> list[LabelEvent]:
    """Labels in the order they were sent. Raises Problem, which names the item and the field."""
    if content_type.partition(";")[0].strip().lower() == NDJSON:
        lines = [(f"line {at}", line) for at, line in enumerate(body.split(b"\n"), 1) if line.strip()]
        _count(len(lines))
        return [_label(name, _json(line, f"{name}: ")) for name, line in lines]
    items = _json(body, "")
    if not isinstance(items, list):
        refuse(f"the body is {shown(items)}, expected a list of labels, or {NDJSON}")
    _count(len(items))
    return [_label(f"item {at}", item) for at, item in enumerate(items)]


class FeedbackWriter:
    """Appends labels to the streams their ids name."""

    def __init__(self, redis: Redis, namespace: str, settings: FeedbackSettings, metrics: Metrics) -> None:
        self._redis = redis
        self._namespace = namespace
        self._settings = settings
        self._metrics = metrics
        self._in_flight = 0

    async def write(self, model: str, labels: list[LabelEvent]) -> None:
        """All labels or none. Raises Problem when Redis has not taken them."""
        if self._in_flight >= self._settings.max_in_flight:
            raise Problem(Code.TOO_MANY_REQUESTS, f"{self._in_flight} feedback calls are in flight, no more are taken")
        self._in_flight += 1
        try:
            await self._append(model, labels)
        except (RedisError, OSError):  # OSError: also a time-out
            raise Problem(
                Code.FEEDBACK_UNAVAILABLE, "the labels could not be stored just now; send them again"
            ) from None
        finally:
            self._in_flight -= 1
        self._metrics.feedback_labels.labels(model).inc(len(labels))

    async def _append(self, model: str, labels: list[LabelEvent]) -> None:
        by_partition: dict[int, list[LabelEvent]] = {}
        for label in labels:
            by_partition.setdefault(prediction_ids.partition_of(label.id), []).append(label)
        received_at = time.time_ns() // 1_000_000
        entries = {
            keys.feedback(self._namespace, model, partition): feedback.encode(FeedbackBatch(received_at, part))
            for partition, part in by_partition.items()
        }
        bound = self._settings.max_stream_entries
        async with asyncio.timeout(self._settings.timeout_ms / 1000):
            if len(entries) == 1:
                [(stream, entry)] = entries.items()
                await self._redis.xadd(stream, {keys.ENTRY_FIELD: entry}, maxlen=bound, approximate=True)
            else:
                arguments: Any = [bound, keys.ENTRY_FIELD, *entries.values()]
                await cast(Any, self._redis.eval(_APPEND, len(entries), *entries, *arguments))


def _json(raw: bytes, where: str) -> Any:
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        refuse(where + tensors.json_fault(raw, error))


def _count(count: int) -> None:
    if count == 0:
        refuse("no labels, expected at least one")
    if count > MAX_LABELS:
        refuse(f"{count} labels in one call, expected at most {MAX_LABELS}")


def _label(where: str, item: Any) -> LabelEvent:
    if not isinstance(item, dict):
        refuse(f"{where} is {shown(item)}, expected an object")
    for name in item:
        if name not in _FIELDS:
            refuse(f"{where}: unknown field {name[:80]!r}; known fields: {', '.join(_FIELDS)}")
    id, row = _id(where, item)
    if "label" not in item:
        refuse(f"{where}: label is missing")
    label = item["label"]
    if type(label) not in (str, int, float, bool) or (isinstance(label, float) and not math.isfinite(label)):
        refuse(f"{where}: label is {shown(label)}, expected a string, a number or a boolean")
    if isinstance(label, int) and not -(2**63) <= label < 2**63:
        refuse(f"{where}: label is {shown(label)}, expected a number of 64 bits")
    if isinstance(label, str) and not 0 < len(label) <= MAX_TEXT:
        refuse(f"{where}: label has {len(label)} characters, expected 1 to {MAX_TEXT}")
    return LabelEvent(id, row, label, _time(where, item), _text(where, "source", item))


def _id(where: str, item: Mapping[str, Any]) -> prediction_ids.RowId:
    value = item.get("prediction_id")
    if value is None:
        refuse(f"{where}: prediction_id is missing")
    if not isinstance(value, str):
        refuse(f"{where}: prediction_id is {shown(value)}, expected a string")
    try:
        return prediction_ids.parse(value)
    except ValueError as error:
        refuse(f"{where}: prediction_id: {error}")


def _time(where: str, item: Mapping[str, Any]) -> str | None:
    text = _text(where, "observed_at", item)
    if text is None:
        return None
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None or "T" not in text.upper():
        refuse(f"{where}: observed_at is {text[:40]!r}, expected a time like 2026-01-31T12:00:00Z")
    return text


def _text(where: str, name: str, item: Mapping[str, Any]) -> str | None:
    value = item.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not 0 < len(value) <= MAX_TEXT:
        refuse(f"{where}: {name} is {shown(value)}, expected a string of 1 to {MAX_TEXT} characters")
    return value
