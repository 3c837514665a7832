"""`kingmaker up FILE`: the whole stack on this machine, from one resource file."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from kingmaker import controller_api, resource_file
from kingmaker.cli.failures import Failure
from kingmaker.local import running
from kingmaker.local.layout import Layout
from kingmaker.local.ports import PortTaken
from kingmaker.local.stack import Stack, StackError

_READY_S = 120.0


def up(
    file: Annotated[Path, typer.Argument(help="A ServedModel file.")],
    port_base: Annotated[
        int | None, typer.Option(min=1024, max=65000, help="First of six ports in a row; left out, any free ones.")
    ] = None,
) -> None:
    """Run everything a ServedModel needs on this machine: Redis, MLflow, model servers, gateway, monitor, controller.

    State stays in .kingmaker/ beside the file. Edit the file (or use `kingmaker set-weight`) while it runs.
    Ctrl-C stops it all.
    """
    console = Console()
    try:
        with running_stack(file, port_base, console) as stack:
            wait_until_served(stack, console)
            show_addresses(stack, console)
            console.print("Ctrl-C stops everything.")
            while True:
                stack.supervise()
                time.sleep(0.5)
    except NeverStarted:
        console.print("stopped")


class NeverStarted(Exception):
    """Ctrl-C or SIGTERM came before the stack was up; what had been started is stopped."""


@contextmanager
def running_stack(file: Path, port_base: int | None, console: Console) -> Iterator[Stack]:
    """A started stack that is stopped on the way out: by Ctrl-C, SIGTERM, a terminal that is closed, or any error.

    Raises Failure for what a user can mend. Ctrl-C ends the with block quietly; before it, it raises NeverStarted.
    """
    is_up = False

    def terminate(_number: int, _frame: FrameType | None) -> None:
        # One request to stop is enough: a second Ctrl-C must not interrupt the stopping.
        for number in heeded:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    heeded = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup wants the stack to outlive its terminal
        heeded.append(signal.SIGHUP)
    previous = [(number, signal.signal(number, terminate)) for number in heeded]
    try:
        models = resource_file.load(file)
        with Stack(Layout.of(file), models, port_base, partial(_say, console)) as stack:
            is_up = True
            yield stack
    except KeyboardInterrupt:
        if not is_up:
            raise NeverStarted from None
        console.print("stopped")
    except (resource_file.ResourceFileError, StackError, PortTaken) as error:
        raise Failure(str(error)) from None
    finally:
        for number, handler in previous:
            signal.signal(number, handler)


def wait_until_served(stack: Stack, console: Console) -> None:
    """Wait until every model's champion serves and its challengers have what the file gives them.

    Tells each change of a model's message. Raises StackError after two minutes, with that message.
    """
    this = running.find(None, stack.layout.file)
    told: dict[str, str] = {}
    deadline = time.monotonic() + _READY_S
    while True:
        stack.supervise()
        views, silence = _ask(this)
        for view in views:
            line = f"{view.name}: {view.status.message}"
            if view.status.message and told.get(view.name) != line:
                told[view.name] = line
                _say(console, line, "dim")
        if views and all(_is_settled(view) for view in views):
            return
        if time.monotonic() > deadline:
            raise StackError(
                f"not ready after {_READY_S:g} s: "
                f"{silence or '; '.join(told.values()) or 'the controller knows no model'}"
            )
        time.sleep(0.1)


def _say(console: Console, line: str, style: str | None = None) -> None:
    """A line as it is: paths and messages of others hold brackets and colons, and a log wants no line broken."""
    console.print(Text(line), style=style, soft_wrap=True)


def _ask(this: running.Stack) -> tuple[list[controller_api.ModelView], str]:
    """What the controller says; nothing, and why, while it starts again: whoever supervises the stack sees to that."""
    try:
        return controller_api.models(this), ""
    except controller_api.ControllerError as error:
        return [], str(error)


def _is_settled(view: controller_api.ModelView) -> bool:
    state = {condition.type: condition.status for condition in view.status.conditions}
    is_up = all(variant.phase in ("Ready", "Failed") for variant in view.status.variants)
    return is_up and state.get("Ready") == "True" and state.get("Programmed") == "True"


def show_addresses(stack: Stack, console: Console) -> None:
    """Where everything listens."""
    at = stack.addresses
    rows = [
        ("gateway", f"{at['gateway']}  (API and its description: {at['gateway']}/docs)"),
        ("gateway metrics", f"{at['gateway_admin']}/metrics"),
        ("monitor", f"{at['monitor']}/docs  (evidence: {at['monitor']}/api/models, metrics: {at['monitor']}/metrics)"),
        ("controller", f"{at['controller']}/metrics"),
        ("MLflow", at["mlflow"] if stack.layout.registry_server else f"{at['mlflow']}  (takes 15 s to come up)"),
        ("Redis", at["redis"]),
        ("logs", str(stack.layout.logs)),
    ]
    for name, where in rows:
        _say(console, f"  {name:<16} {where}")
