"""What was trimmed before it was read is noticed and counted, and a stream that forgot its end is read again."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kingmaker_monitor.positions import Extent, Position, id_of, standing

if TYPE_CHECKING:
    from services.monitor.tests.conftest import Process, World

READ_5 = Position(b"50-0", 5)


@pytest.mark.parametrize(
    ("position", "extent", "trimmed", "replaced", "waiting", "behind_ms"),
    [
        (Position(), Extent(b"0-0", 0, 0), 0, False, 0, 0),
        (Position(), Extent(b"30-0", 3, 3), 0, False, 3, 0),
        (READ_5, Extent(b"50-0", 5, 5), 0, False, 0, 0),
        (READ_5, Extent(b"50-0", 5, 2), 0, False, 0, 0),  # trimmed what was read
        (READ_5, Extent(b"90-0", 9, 4), 0, False, 4, 40),
        (READ_5, Extent(b"90-0", 9, 3), 1, False, 3, 40),  # trimmed one too many
        (READ_5, Extent(b"90-0", 9, 0), 4, False, 0, 0),
        (READ_5, Extent(b"40-0", 4, 4), 0, True, 4, 0),  # Redis forgot its last second
        (READ_5, Extent(b"40-0", 4, 2, b"30-0"), 0, True, 2, 0),  # and had trimmed what was read
        (READ_5, Extent(b"99-0", 4, 2, b"50-0"), 0, True, 2, 0),  # and got another entry since
        (READ_5, Extent(b"99-0", 4, 2, b"80-0"), 2, True, 2, 0),  # Redis came back empty, and trimmed
        (READ_5, Extent(b"99-0", 2, 2), 0, True, 2, 0),  # Redis came back empty
        (READ_5, Extent(b"99-0", 4, 1), 3, True, 1, 0),
    ],
)
def test_a_stream_beside_its_reader(
    position: Position, extent: Extent, trimmed: int, replaced: bool, waiting: int, behind_ms: int
) -> None:
    found = standing(position, extent)
    assert (found.trimmed, found.replaced, found.waiting, found.behind_ms) == (trimmed, replaced, waiting, behind_ms)


@given(st.lists(st.sampled_from(["add", "read", "trim", "look"]), max_size=60))
def test_entries_are_read_or_trimmed_whatever_happens_in_which_order(steps: list[str]) -> None:
    """Against a stream kept as a list: every entry ever added was read or is counted as trimmed once the end is
    reached."""
    stream: list[int] = []
    added, position, read, trimmed = 0, Position(), 0, 0
    for step in [*steps, *["read"] * len(steps), "look"]:
        if step == "add":
            added += 1
            stream.append(added)
        elif step == "trim" and stream:
            stream.pop(0)
        elif step == "read":
            new = [n for n in stream if n > id_of(position.offset)[0]][:2]
            if new:
                position = Position(b"%d-0" % new[-1], position.read + len(new))
                read += len(new)
        elif step == "look":
            found = standing(position, Extent(b"%d-0" % added, added, len(stream)))
            position, trimmed = found.position, trimmed + found.trimmed
            assert not found.replaced
    assert read + trimmed == added


def test_labels_that_were_trimmed_unread_are_counted(
    new_process: "Callable[..., Process]", publish: Callable[..., None], valkey: Any, world: "World"
) -> None:
    publish(valkey.client, world.plan(), world.batch(1), *[world.labels((1000 + i, 1)) for i in range(5)])
    valkey.client.xtrim(world.feedback_stream.key, maxlen=2, approximate=False)
    monitor = new_process(valkey.url)
    monitor.start()
    monitor.until(lambda: monitor.evidence().feedback.joined == 2)
    monitor.until(
        lambda: (
            'kingmaker_monitor_entries_trimmed_total{model="flights",stream="feedback"} 3.0'
            in monitor.get("/metrics").text
        )
    )
    assert (
        'kingmaker_monitor_entries_trimmed_total{model="flights",stream="events"} 0.0' in monitor.get("/metrics").text
    )


def test_an_emptied_redis_is_read_from_its_beginning(
    new_process: "Callable[..., Process]", publish: Callable[..., None], valkey: Any, world: "World"
) -> None:
    publish(valkey.client, world.plan(), world.batch(1), world.batch(2), world.batch(3))
    monitor = new_process(valkey.url)
    monitor.start()
    monitor.until(lambda: monitor.evidence().events.stored == 30)
    valkey.client.flushall()
    publish(valkey.client, world.plan())
    key = world.event_stream.key
    for number, batch in enumerate((world.batch(3), world.batch(4)), 1):  # ids of a clock that was set back
        from kingmaker_contracts import events

        valkey.client.xadd(key, {"b": events.encode(batch)}, id=f"{number}-0")
    monitor.until(lambda: monitor.evidence().events.stored == 40)
    assert monitor.evidence().events.duplicates == 10
    assert monitor.evidence().events.lost == 0
