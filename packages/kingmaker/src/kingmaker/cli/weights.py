"""`kingmaker set-weight MODEL CHALLENGER=PERCENT ...`: edit weights in a resource file, or in a cluster."""

from pathlib import Path
from typing import Annotated

import typer

from kingmaker import resource_file
from kingmaker.cli.failures import Failure
from kingmaker.cli.place import Context, InCluster, Namespace, cluster_of
from kingmaker.cluster import ClusterError
from kingmaker.local import running


def set_weight(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(help="Name of the model.")],
    weights: Annotated[list[str], typer.Argument(metavar="CHALLENGER=PERCENT...", help="For example: gbm=20")],
    *,
    file: Annotated[
        Path | None, typer.Option(help="The resource file; else that of the stack that serves MODEL.")
    ] = None,
    in_cluster: InCluster = None,
    namespace: Namespace = None,
    context: Context = None,
) -> None:
    """Give challengers their share of live traffic. The champion gets what is left.

    On this machine it edits the resource file, as an editor would, and a running stack follows within 2 seconds.
    In a cluster it patches the resource. Either way everything else in it stays as it is.
    """
    wanted = _wanted(weights)
    cluster = cluster_of(ctx, in_cluster, namespace, context)
    if cluster is not None and file is not None:
        raise Failure("--file is for a stack on this machine: leave it out, or add --local", 2)
    try:
        if cluster is not None:
            where, before = "the cluster", cluster.set_weights(model, wanted)
        else:
            path = file or running.find(model, None).layout.file
            where, before = str(path), resource_file.set_weights(path, model, wanted)
    except (running.NotFound, resource_file.ResourceFileError, ClusterError) as error:
        raise Failure(str(error)) from None
    for name, percent in wanted.items():
        was = "not set" if before[name] is None else f"{before[name]} %"
        typer.echo(f"{model}: {name} {was} -> {percent} % in {where}")


def _wanted(weights: list[str]) -> dict[str, int]:
    wanted: dict[str, int] = {}
    for name, percent in map(_parsed, weights):
        if name in wanted:
            both = f"{wanted[name]} and {percent}"
            raise Failure(f"{name} stands twice: {both}; expected one weight for each challenger", 2)
        wanted[name] = percent
    return wanted


def _parsed(text: str) -> tuple[str, int]:
    name, equals, percent = text.partition("=")
    if not (name and equals and percent.isdecimal() and len(percent) <= 3 and int(percent) <= 100):
        raise Failure(f"{text!r} is not CHALLENGER=PERCENT with a whole number from 0 to 100, for example gbm=20", 2)
    return name, int(percent)
