"""`kingmaker set-weight MODEL CHALLENGER=PERCENT ...`: edit weights in a resource file."""

from pathlib import Path
from typing import Annotated

import typer

from kingmaker import resource_file
from kingmaker.cli.failures import Failure
from kingmaker.local import running


def set_weight(
    model: Annotated[str, typer.Argument(help="Name of the model.")],
    weights: Annotated[list[str], typer.Argument(metavar="CHALLENGER=PERCENT...", help="For example: gbm=20")],
    file: Annotated[
        Path | None, typer.Option(help="The resource file; else that of the stack that serves MODEL.")
    ] = None,
) -> None:
    """Give challengers their share of live traffic. The champion gets what is left.

    Edits the resource file, as an editor would; everything else in it stays as it is.
    A running stack follows within 2 seconds.
    """
    wanted = dict(_parsed(text) for text in weights)
    try:
        where = file or running.find(model, None).layout.file
        before = resource_file.set_weights(where, model, wanted)
    except (running.NotFound, resource_file.ResourceFileError) as error:
        raise Failure(str(error)) from None
    for name, percent in wanted.items():
        was = "not set" if before[name] is None else f"{before[name]} %"
        typer.echo(f"{model}: {name} {was} -> {percent} % in {where}")


def _parsed(text: str) -> tuple[str, int]:
    name, equals, percent = text.partition("=")
    if not (name and equals and percent.isdecimal() and int(percent) <= 100):
        raise Failure(f"{text!r} is not CHALLENGER=PERCENT with a whole number from 0 to 100, for example gbm=20", 2)
    return name, int(percent)
