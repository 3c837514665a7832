"""What the demo found: one table for people, one JSON file for programs. Pure but for the writing."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from examples.flights.replay import Answer, Progress
from kingmaker_contracts import buckets
from kingmaker_contracts.evidence import Evidence, FeatureDrift


@dataclass(frozen=True)
class WeightEdit:
    """A weight that was edited while traffic ran. at: time.monotonic(); before, after: ranges of the routing record."""

    challenger: str
    at: float
    before: str
    after: str


def seconds_until_followed(edit: WeightEdit, answers: list[Answer], salt: str) -> float | None:
    """Seconds from the edit until every answer follows it; None when no answer shows it.

    Only callers whose bucket changed hands can tell. The last of them that was still answered by the old
    rule ends the wait; an answer that was on its way when the rule changed counts as old.
    """
    before, after = _owned(edit.before, edit.challenger), _owned(edit.after, edit.challenger)
    old: list[float] = []
    new: list[float] = []
    for answer in answers:
        if answer.answered_at < edit.at or not answer.prediction_id:
            continue
        bucket = buckets.bucket_of(salt, answer.prediction_id)
        if (bucket in before) == (bucket in after):
            continue
        follows = (answer.variant == edit.challenger or answer.reason == "fallback") == (bucket in after)
        (new if follows else old).append(answer.answered_at)
    if not new:
        return None
    return max([*old, edit.at]) - edit.at if old else min(new) - edit.at


def _owned(ranges: str, challenger: str) -> set[int]:
    return {b for first, last in buckets.parse(ranges).get(challenger, []) for b in range(first, last + 1)}


def build(progress: Progress, evidence: Evidence, weight_change_s: float | None) -> dict[str, Any]:
    """The summary as plain data, in the form of build/demo-summary.json."""
    answered = sum(variant.answered for variant in evidence.variants.values())
    agreement = next(iter(evidence.agreement.values()), None)
    return {
        "flights_served": progress.served,
        "failed_requests": progress.failed,
        "variants": {
            name: {
                "requests": variant.answered,
                "share": round(variant.answered / answered, 4) if answered else None,
                "p50_ms": variant.latency.p50_ms,
                "p99_ms": variant.latency.p99_ms,
                "errors": variant.errors,
                "fallbacks": variant.fallbacks,
                "auc": variant.quality.auc,
                "auc_n": variant.quality.n,
            }
            for name, variant in evidence.variants.items()
        },
        "drift": {name: found.psi for name, found in drift(evidence).items()},
        "agreement": agreement.label if agreement else None,
        "events": {
            "sent": evidence.events.sent,
            "stored": evidence.events.stored,
            "dropped": evidence.events.dropped,
            "lost": evidence.events.lost,
        },
        "weight_change_s": weight_change_s,
    }


def drift(evidence: Evidence) -> dict[str, FeatureDrift]:
    """Every feature's drift: the champion's view, and the challenger's of features only it knows."""
    found: dict[str, FeatureDrift] = {}
    for variant in sorted(evidence.variants.values(), key=lambda one: one.role != "champion"):
        found = {**variant.drift, **found}
    return found


def faults(summary: dict[str, Any], wanted: int, labels_sent: int, evidence: Evidence) -> list[str]:
    """What did not work, in words. Empty: every part did."""
    events = summary["events"]
    checks = [
        (summary["flights_served"] == wanted, f"{summary['flights_served']} of {wanted} flights were served"),
        (summary["failed_requests"] == 0, f"{summary['failed_requests']} requests failed"),
        (
            events["stored"] == events["sent"] - events["dropped"] - events["lost"] and events["stored"] > 0,
            f"events do not add up: {events}",
        ),
        (events["lost"] == 0 and events["dropped"] == 0, f"events went missing: {events}"),
        (
            evidence.feedback.joined == labels_sent == wanted,
            f"{labels_sent} labels were sent and {evidence.feedback.joined} joined, of {wanted} flights",
        ),
        (len(summary["variants"]) == 2, f"evidence names {', '.join(summary['variants']) or 'no variant'}"),
        (all(one["auc"] for one in summary["variants"].values()), "a variant has no AUC"),
        (summary["agreement"] is not None, "no request was answered by both variants"),
        (
            summary["weight_change_s"] is not None and summary["weight_change_s"] < 2,
            f"the weight edit was followed after {summary['weight_change_s']} s, expected under 2 s",
        ),
    ]
    return [words for is_fine, words in checks if not is_fine]


def show(summary: dict[str, Any], evidence: Evidence, console: Console) -> None:
    """The table, and below it what belongs to no single variant."""
    table = Table(title=f"{summary['flights_served']:,} flights, {summary['failed_requests']} failed requests")
    table.add_column("variant")
    for column in ("requests", "share", "p50 ms", "p99 ms", "errors", "fallbacks", "AUC", "labels"):
        table.add_column(column, justify="right")
    for name, variant in summary["variants"].items():
        role = evidence.variants[name].role
        auc = f"{variant['auc']:.4f}" if variant["auc"] is not None else "-"
        table.add_row(
            f"{name} ({role})",
            f"{variant['requests']:,}",
            f"{variant['share']:.1%}",
            f"{variant['p50_ms']:.2f}",
            f"{variant['p99_ms']:.2f}",
            str(variant["errors"]),
            str(variant["fallbacks"]),
            auc,
            f"{variant['auc_n']:,}",
        )
    table.caption = "labels: outcomes joined to answers, and to the challenger's copies of them"
    console.print(table)
    shades = {"Drifted": "red", "Warning": "yellow", "Stable": "green", "NoData": "dim"}
    found = Table(title="drift against the training rows (PSI)", box=None, padding=(0, 2, 0, 0))
    for column in ("feature", "PSI", "KS", "verdict"):
        found.add_column(column, justify="right" if column in ("PSI", "KS") else "left")
    for feature, value in sorted(drift(evidence).items(), key=lambda item: -(item[1].psi or 0)):
        shade = shades[value.verdict]
        numbers = ("-" if number is None else f"{number:.3f}" for number in (value.psi, value.ks))
        found.add_row(feature, *numbers, f"[{shade}]{value.verdict}[/{shade}]")
    console.print(found)
    for challenger, pair in evidence.agreement.items():
        if pair.label is not None and pair.mean_abs_score_difference is not None:
            console.print(
                f"{challenger} and the champion on the same {pair.n:,} flights: same answer on {pair.label:.2%}, "
                f"scores {pair.mean_abs_score_difference:.4f} apart on average; of {pair.labelled:,} with an outcome "
                f"{challenger} alone was right on {pair.challenger_only_right}, the champion alone on "
                f"{pair.champion_only_right}",
                highlight=False,
            )
    events = ", ".join(f"{count:,} {what}" for what, count in summary["events"].items())
    console.print(f"events: {events}", highlight=False)
    seconds = summary["weight_change_s"]
    if seconds is not None:
        console.print(f"weight edit: followed by every answer after {seconds:.2f} s", highlight=False)


def write(summary: dict[str, Any], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(summary, indent=2) + "\n")
