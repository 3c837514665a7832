"""Move buckets between challengers and the champion, and no more of them than a change of weights needs.

The champion owns every bucket no challenger does. Growing takes the champion's lowest free buckets,
shrinking gives back the challenger's own highest; so a caller moved once to a challenger stays there
while it grows. All shrink first, then grow in the order of their names: what one gives back another
may take in the same change.
"""

from collections.abc import Iterable, Mapping

from kingmaker_contracts import buckets
from kingmaker_contracts.buckets import Ranges

Spans = list[tuple[int, int]]


def allocate(ranges: Ranges, weights: Mapping[str, int]) -> Ranges:
    """New ranges in which each challenger owns weight * 100 buckets. Challengers not in weights lose theirs.

    weights: percent by challenger. Raises ValueError when they are negative or add up to more than 100.
    """
    return move(ranges, {name: weight * buckets.PER_PERCENT for name, weight in weights.items()})


def move(ranges: Ranges, sizes: Mapping[str, int]) -> Ranges:
    """As `allocate`, with the number of buckets each challenger shall own; 0 leaves no entry."""
    if any(size < 0 for size in sizes.values()) or sum(sizes.values()) > buckets.COUNT:
        raise ValueError(f"sizes {dict(sizes)} do not fit into {buckets.COUNT} buckets")
    owned = {name: _lowest(_merged(ranges.get(name, [])), size) for name, size in sizes.items()}
    for name in sorted(sizes):
        missing = sizes[name] - buckets.size(owned[name])
        if missing > 0:
            free = _free(span for spans in owned.values() for span in spans)
            owned[name] = _merged(owned[name] + _lowest(free, missing))
    return {name: spans for name, spans in owned.items() if spans}


def _lowest(spans: Spans, count: int) -> Spans:
    """The `count` lowest buckets of ascending spans, or all when there are fewer."""
    taken: Spans = []
    for first, last in spans:
        if count <= 0:
            break
        end = min(last, first + count - 1)
        taken.append((first, end))
        count -= end - first + 1
    return taken


def _free(taken: Iterable[tuple[int, int]]) -> Spans:
    free: Spans = []
    at = 0
    for first, last in sorted(taken):
        if first > at:
            free.append((at, first - 1))
        at = last + 1
    if at < buckets.COUNT:
        free.append((at, buckets.COUNT - 1))
    return free


def _merged(spans: Spans) -> Spans:
    merged: Spans = []
    for first, last in sorted(spans):
        if merged and merged[-1][1] + 1 == first:
            merged[-1] = (merged[-1][0], last)
        else:
            merged.append((first, last))
    return merged
