"""`kingmaker get`: the columns of `kubectl get servedmodels`, for a stack on this machine."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from kingmaker import controller_api
from kingmaker.cli.failures import Failure
from kingmaker.controller_api import ControllerError, ModelView
from kingmaker.local import running

_COLUMNS = ("NAME", "MODE", "PHASE", "CHAMPION", "WEIGHTS", "READY", "AGE", "MESSAGE")


def get(
    model: Annotated[str | None, typer.Argument(help="Name of the model; all of the stack's when left out.")] = None,
    file: Annotated[Path | None, typer.Option(help="The stack of this resource file.")] = None,
    output: Annotated[str, typer.Option("--output", "-o", help="table or json.")] = "table",
) -> None:
    """Show who is champion, which challenger has what live weight, in which phase, and why."""
    if output not in ("table", "json"):
        raise Failure(f"--output is {output!r}, expected table or json", 2)
    try:
        stack = running.find(model, file)
        views = [
            view for view in controller_api.models(stack) if model in (None, view.name, f"{view.namespace}/{view.name}")
        ]
    except (running.NotFound, ControllerError) as error:
        raise Failure(str(error)) from None
    if output == "json":
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(views), indent=2).decode() + "\n")
        return
    _print(views, datetime.now(UTC))


def _print(views: list[ModelView], now: datetime) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in _COLUMNS:
        table.add_column(column, overflow="fold" if column == "MESSAGE" else "ellipsis", no_wrap=column != "MESSAGE")
    for view in views:
        status = view.status
        champion = status.champion.name if status.champion else ""
        cells = (
            view.name,
            view.mode,
            status.phase,
            champion,
            status.summary.weights,
            ready(view),
            age(view.created_at, now),
        )
        table.add_row(*cells, status.message)
    Console(highlight=False).print(table)


def ready(view: ModelView) -> str:
    return next((condition.status for condition in view.status.conditions if condition.type == "Ready"), "Unknown")


def age(created_at: str, now: datetime) -> str:
    """How old something is, as kubectl writes it: 45s, 3m, 2h, 5d."""
    seconds = max(0, int((now - datetime.fromisoformat(created_at)).total_seconds()))
    if seconds < 120:
        return f"{seconds}s"
    if seconds < 3 * 3600:
        return f"{seconds // 60}m"
    return f"{seconds // 3600}h" if seconds < 48 * 3600 else f"{seconds // 86400}d"
