"""The `kingmaker` command. Each subcommand is a file of its own; errors are one line on standard error."""

import sys

import typer

from kingmaker.cli.drift import drift
from kingmaker.cli.failures import Failure
from kingmaker.cli.get import get
from kingmaker.cli.place import Defaults
from kingmaker.cli.publish import publish
from kingmaker.cli.up import up
from kingmaker.cli.weights import set_weight

app = typer.Typer(
    name="kingmaker",
    help="Serve a champion model, let challengers prove themselves on the same traffic.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(up)
app.command()(get)
app.command()(drift)
app.command("set-weight")(set_weight)
app.command()(publish)


def main() -> None:
    """Entry point of the console script."""
    _run(Defaults(), "kingmaker")


def kubectl_plugin() -> None:
    """Entry point of `kubectl kingmaker`: the same commands, looking at the cluster unless told otherwise."""
    _run(Defaults(in_cluster=True), "kubectl kingmaker")


def _run(defaults: Defaults, name: str) -> None:
    try:
        app(obj=defaults, prog_name=name)
    except Failure as failure:
        print(failure, file=sys.stderr)  # noqa: T201 - a command speaks to its user
        raise SystemExit(failure.code) from None
