"""Let stacks take turns under the same load."""

from collections.abc import Mapping, Sequence

from benchmarks.load import Generator, Sample, Target

Samples = dict[str, list[Sample]]
Targets = Mapping[str, Target]


def take(
    generator: Generator, targets: Targets, connections: int, runs: int, seconds: int, *, think_ms: int = 0
) -> Samples:
    """`runs` samples of every target. A run to warm up comes first, and who begins changes from round to round."""
    return take_of_several(generator, [targets], connections, runs, seconds, think_ms=think_ms)


def take_of_several(
    generator: Generator, sets: Sequence[Targets], connections: int, runs: int, seconds: int, *, think_ms: int = 0
) -> Samples:
    """The same where each target stands several times, every round taking the next set of them: two processes of one
    program differ by some percent for as long as they live."""
    names = list(sets[0])
    samples: Samples = {name: [] for name in names}
    for targets in sets:
        for name in names:
            generator.run(targets[name], connections, 1, think_ms)
    for number in range(runs):
        turn, at = divmod(number, len(sets))  # so that not always the same process begins
        targets = sets[at]
        for name in rotated(names, number + turn):
            samples[name].append(generator.run(targets[name], connections, seconds, think_ms))
    return samples


def rotated(names: list[str], by: int) -> list[str]:
    """The same names beginning with another."""
    at = by % len(names) if names else 0
    return names[at:] + names[:at]
