"""Let stacks take turns under the same load."""

from collections.abc import Mapping

from benchmarks.load import Generator, Sample, Target

Samples = dict[str, list[Sample]]


def take(
    generator: Generator, targets: Mapping[str, Target], connections: int, runs: int, seconds: int, *, think_ms: int = 0
) -> Samples:
    """`runs` samples of every target. A run to warm up comes first, and who begins changes from round to round."""
    samples: Samples = {name: [] for name in targets}
    names = list(targets)
    for name in names:
        generator.run(targets[name], connections, 1, think_ms)
    for number in range(runs):
        for name in rotated(names, number):
            samples[name].append(generator.run(targets[name], connections, seconds, think_ms))
    return samples


def rotated(names: list[str], by: int) -> list[str]:
    """The same names beginning with another."""
    at = by % len(names) if names else 0
    return names[at:] + names[:at]
