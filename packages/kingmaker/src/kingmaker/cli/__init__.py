"""The `kingmaker` command. Each subcommand is a file of its own; errors are one line on standard error."""

import sys

import typer

from kingmaker.cli.drift import drift
from kingmaker.cli.failures import Failure
from kingmaker.cli.get import get
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
    try:
        app()
    except Failure as failure:
        print(failure, file=sys.stderr)  # noqa: T201 - a command speaks to its user
        raise SystemExit(failure.code) from None
