"""`kingmaker get`: the columns of `kubectl get servedmodels`, for a stack on this machine or for a cluster."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from kingmaker import controller_api
from kingmaker.cli.failures import Failure
from kingmaker.cli.place import Context, InCluster, Namespace, cluster_of
from kingmaker.cluster import ClusterError
from kingmaker.controller_api import ControllerError, ModelView
from kingmaker.local import running

_COLUMNS = ("NAME", "MODE", "PHASE", "CHAMPION", "WEIGHTS", "READY", "AGE", "MESSAGE")


def get(
    ctx: typer.Context,
    model: Annotated[str | None, typer.Argument(help="Name of the model; all of the stack's when left out.")] = None,
    *,
    file: Annotated[Path | None, typer.Option(help="The stack of this resource file.")] = None,
    output: Annotated[str, typer.Option("--output", "-o", help="table or json.")] = "table",
    in_cluster: InCluster = None,
    namespace: Namespace = None,
    context: Context = None,
) -> None:
    """Show who is champion, which challenger has what live weight, in which phase, and why."""
    if output not in ("table", "json"):
        raise Failure(f"--output is {output!r}, expected table or json", 2)
    cluster = cluster_of(ctx, in_cluster, namespace, context)
    if cluster is not None and file is not None:
        raise Failure("--file is for a stack on this machine: leave it out, or add --local", 2)
    try:
        views = cluster.models(model) if cluster is not None else _of_stack(model, file)
    except (running.NotFound, ControllerError, ClusterError) as error:
        raise Failure(str(error)) from None
    if output == "json":
        typer.echo(msgspec.json.format(msgspec.json.encode(views), indent=2).decode())
        return
    typer.echo(_columns(views, datetime.now(UTC)))


def _of_stack(model: str | None, file: Path | None) -> list[ModelView]:
    stack = running.find(model, file)
    views = controller_api.models(stack)
    wanted = [view for view in views if model in (None, view.name, f"{view.namespace}/{view.name}")]
    if model is not None and not wanted:
        names = ", ".join(view.name for view in views) or "none"
        raise Failure(f"the stack of {stack.file} serves no model named {model}; it serves {names}")
    return wanted


def _columns(views: list[ModelView], now: datetime) -> str:
    """Rows under headings, three spaces apart and never wrapped, as kubectl prints them."""
    rows = [_COLUMNS, *(_cells(view, now) for view in views)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    return "\n".join(
        "   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _cells(view: ModelView, now: datetime) -> tuple[str, ...]:
    status = view.status
    champion = status.champion.name if status.champion else ""
    weights = status.summary.weights
    return (
        view.name,
        view.mode,
        status.phase,
        champion,
        weights,
        ready(view),
        age(view.created_at, now),
        status.message.replace("\n", " "),
    )


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
