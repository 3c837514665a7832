"""`kingmaker drift MODEL`: which columns of which variant look other than they should, worst first."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kingmaker import monitor_api
from kingmaker.cli.failures import Failure
from kingmaker.local import running
from kingmaker.monitor_api import MonitorError
from kingmaker_contracts.report import Against, ColumnDrift, DriftTable, ModelReport, WindowName

_WINDOWS: tuple[WindowName, ...] = ("1h", "24h", "rollout")
_AGAINST: tuple[Against, ...] = ("training", "champion")
_SEVERITY = ("NoData", "Stable", "Warning", "Drifted")
_WORDS = {"NoData": "insufficient data", "Stable": "stable", "Warning": "warning", "Drifted": "DRIFTED"}
_STYLES = {"NoData": "dim", "Stable": "green", "Warning": "yellow", "Drifted": "bold red"}
_HEADINGS = ("COLUMN", "VERDICT", "ROWS", "PSI", "CORRECTED", "NOISE", "JS", "KS", "WASSERSTEIN", "MISSING", "OUTSIDE")
PREDICTION = "(prediction)"
_WIDE = 10_000
"""Columns of text: wrapping is the terminal's, for a number that is cut is another number."""


def drift(  # noqa: PLR0917 - typer calls it by name
    model: Annotated[str, typer.Argument(help="Name of the model.")],
    window: Annotated[str, typer.Option(help="1h, 24h or rollout.")] = "24h",
    against: Annotated[str | None, typer.Option(help="training or champion; both when left out.")] = None,
    variant: Annotated[str | None, typer.Option(help="One variant; all when left out.")] = None,
    file: Annotated[Path | None, typer.Option(help="The stack of this resource file.")] = None,
    monitor: Annotated[
        str | None, typer.Option(help="http://HOST:PORT of a monitor, instead of a local stack.")
    ] = None,
    output: Annotated[str, typer.Option("--output", "-o", help="table or json.")] = "table",
) -> None:
    """Show how far each variant's traffic is from its training rows and from the champion's traffic.

    OUTSIDE is the share of numbers outside what training saw, or of categories training never saw; "not known" where
    the profile cannot tell those from rare ones. With fewer than 500 rows the verdict is "insufficient data", which
    is not "stable".
    """
    _one_of("--window", window, _WINDOWS)
    _one_of("--output", output, ("table", "json"))
    if against is not None:
        _one_of("--against", against, _AGAINST)
    try:
        address = monitor or running.find(model, file).addresses["monitor"]
        found = monitor_api.report(address.rstrip("/"), model.rpartition("/")[2])
    except (running.NotFound, MonitorError) as error:
        raise Failure(str(error)) from None
    if variant is not None and variant not in found.windows:
        raise Failure(f"{model} has no variant {variant!r}; it has {', '.join(found.windows)}", 2)
    if output == "json":
        typer.echo(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
        return
    console = Console(width=_WIDE, highlight=False)
    for part in tables(found, window, against, variant):  # type: ignore[arg-type]
        console.print(part)


def tables(
    found: ModelReport, window: WindowName, against: Against | None = None, variant: str | None = None
) -> list[Table | Text]:
    """A heading and a table for each variant and reference, then what the pipeline lost, if anything."""
    parts: list[Table | Text] = []
    for name, windows in found.windows.items():
        if variant not in (None, name):
            continue
        report = windows[window]
        wanted = {to: table for to, table in report.drift.items() if against in (None, to)}
        rows = report.answered + report.shadowed
        if not wanted:
            role = found.variants[name].role if name in found.variants else ""
            why = "it is the champion" if against == "champion" and role == "champion" else "it has no usable profile"
            parts.append(Text(f"{name}: {rows:,} rows in {window}; nothing to hold them against: {why}"))
        for to, table in wanted.items():
            parts += [_heading(name, window, to, table, rows), _table(table)]
    lost = found.events
    if lost.lost or lost.dropped or found.pipeline.mishaps:
        parts.append(
            Text(f"events: {lost.stored:,} of {lost.sent:,} counted, {lost.dropped:,} dropped, {lost.lost:,} lost")
        )
        parts += [Text(f"{mishap.at}: {mishap.what}") for mishap in found.pipeline.mishaps]
    return parts


def _heading(variant: str, window: str, against: str, table: DriftTable, rows: int) -> Text:
    share = "" if table.drifted_share is None else f", {table.drifted} of {table.judged} columns drifted"
    headline = "" if table.headline is None else f", headline {table.headline:.3f}"
    heading = Text(f"\n{variant} against {against}, {window}, {rows:,} rows: ")
    heading.append(_WORDS[table.verdict], _STYLES[table.verdict])
    return heading.append(f"{share}{headline}")


def _table(table: DriftTable) -> Table:
    """Columns by severity, then by corrected PSI; the prediction first."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for i, heading in enumerate(_HEADINGS):
        shown.add_column(heading, justify="left" if i < 2 else "right", no_wrap=True)
    columns = sorted(table.columns.items(), key=lambda item: _order(item[1]), reverse=True)
    for name, column in [(PREDICTION, table.prediction), *columns]:
        shown.add_row(*_row(name, column))
    return shown


def _row(name: str, column: ColumnDrift) -> list[str | Text]:
    verdict = Text(_WORDS[column.verdict], _STYLES[column.verdict])
    if column.now != column.verdict:
        verdict.append(f" (this hour {_WORDS[column.now]})", "dim")
    outside = column.out_of_range if column.out_of_range is not None else column.new
    is_unknown = outside is None and column.classes_moved is not None
    numbers = (column.psi, column.psi_corrected, column.noise, column.jensen_shannon, column.ks, column.wasserstein)
    # names are whatever a publisher called them: Text is never read as markup
    return [Text(name), verdict, f"{column.n:,}", *map(_number, numbers), _percent(column.missing),
            "not known" if is_unknown else _percent(outside)]  # fmt: skip


def _order(column: ColumnDrift) -> tuple[int, float]:
    return _SEVERITY.index(column.verdict), column.psi_corrected or 0.0


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


def _one_of(option: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise Failure(f"{option} is {value!r}, expected {', '.join(known[:-1])} or {known[-1]}", 2)
