"""`make demo`: champion and challenger share real traffic, and the monitor says what it saw.

Trains and publishes two models, does what `kingmaker up` does, replays later flights through the
gateway, edits a weight midway, prints a table, and stays up until Ctrl-C. With --exit, or without a
terminal, it ends after the table: code 0 only if every part worked.
"""

import argparse
import contextlib
import fcntl
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx
import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from examples.flights import features, replay, summary, train
from examples.flights.insistence import insisting
from kingmaker import controller_api, resource_file
from kingmaker.cli.failures import Failure
from kingmaker.cli.up import NeverStarted, running_stack, show_addresses, wait_until_served
from kingmaker.local import running
from kingmaker.local.layout import Layout
from kingmaker.local.stack import Stack, StackError
from kingmaker.publishing.errors import PublishError
from kingmaker_contracts.evidence import Evidence

MODEL = "flights"
CHALLENGER = "gbm"
NEW_WEIGHT = 30
RESOURCE = Path(__file__).with_name("served-model.yaml")
SETTLE_S = 30.0


@dataclass(frozen=True)
class Options:
    flights: int
    stay: bool
    folder: Path
    report: Path
    port_base: int | None


def main() -> None:
    options = _options()
    console = Console(width=None if sys.stdout.isatty() else 120)
    if os.environ.pop("MLFLOW_TRACKING_URI", None):
        console.print("The demo has a registry of its own: MLFLOW_TRACKING_URI is left alone")
    worked = False
    try:
        with _alone(options.folder):
            with insisting():  # what follows starts processes, and ends them on one interrupt
                _prepare(options, console)
            with running_stack(options.folder / RESOURCE.name, options.port_base, console) as stack:
                worked = _run(stack, options, console)
                if options.stay:
                    console.print("Everything stays up until Ctrl-C. Try:  .venv/bin/kingmaker get")
                    while True:
                        stack.supervise()
                        time.sleep(0.5)
    except (Failure, StackError, PublishError) as failure:
        sys.exit(f"demo: {failure}")
    except OSError as error:
        if error.filename is None:
            raise
        sys.exit(f"demo: {error.filename}: {(error.strerror or str(error)).lower()}")
    except (KeyboardInterrupt, NeverStarted):
        sys.exit("stopped")
    sys.exit(0 if worked else 1)


def _options() -> Options:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--flights", type=int, default=50_000, help="how many to replay (default 50,000)")
    parser.add_argument("--exit", action="store_true", help="end after the table")
    parser.add_argument("--folder", type=Path, default=Path("build/demo"), help="where the stack keeps its state")
    parser.add_argument("--report", type=Path, default=Path("build/demo-summary.json"), help="the table as JSON")
    parser.add_argument("--port-base", type=int, help="first of six ports in a row (default: free ones)")
    given = parser.parse_args()
    if given.flights < 1000:
        parser.error(f"--flights is {given.flights}; fewer than 1000 show nothing")
    if given.port_base is not None and not 1024 <= given.port_base <= 65000:
        parser.error(f"--port-base is {given.port_base}, expected 1024 to 65000")
    stay = not given.exit and sys.stdout.isatty()
    return Options(given.flights, stay, given.folder, given.report, given.port_base)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """The folder is this demo's until the end: what another one left there is removed. Raises Failure."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Failure(f"a demo runs already in {folder}; stop it, or choose another --folder") from None
        yield


def _prepare(options: Options, console: Console) -> None:
    """A fresh folder with the resource in it and both models published beside it."""
    layout = Layout.of(options.folder / RESOURCE.name)
    if any(stack.layout.state == layout.state for stack in running.all_stacks()):
        raise Failure(f"a stack runs in {options.folder}; stop it, or choose another --folder")
    if layout.state.exists():
        shutil.rmtree(layout.state)
    shutil.copyfile(RESOURCE, layout.file)
    layout.prepare()
    console.print("[bold]1. Train and publish[/bold] champion lr and challenger gbm on January and February 2013")
    began = time.monotonic()

    def tell(stage: str, done: int, total: int) -> None:
        console.print(f"   {time.monotonic() - began:4.1f} s  {stage} ({done}/{total})", highlight=False)

    for alias, version in train.train_and_publish(layout.registry_uri, tell).items():
        auc = version.metrics["auc"]
        console.print(f"   published {version.uri} as {alias}: AUC {auc:.4f} on held-out flights", highlight=False)


def _run(stack: Stack, options: Options, console: Console) -> bool:
    console.print("[bold]2. Start[/bold] what `kingmaker up` starts")
    wait_until_served(stack, console)
    show_addresses(stack, console)
    console.print(f"[bold]3. Replay[/bold] {options.flights:,} later flights in the order they departed")
    run = replay.Replay(stack.addresses["gateway"], MODEL, _flights(options.flights))
    done, edit = _replay(run, stack, options, console)
    evidence = _settled(stack, options.flights)
    salt = f"default/{MODEL}"
    weight_change_s = summary.seconds_until_followed(edit, done.answers, salt) if edit else None
    found = summary.build(done, evidence, weight_change_s)
    summary.write(found, options.report)
    summary.show(found, evidence, console)
    if options.stay:
        show_addresses(stack, console)
    faults = summary.faults(found, options.flights, done.labels_sent, evidence)
    for fault in faults:
        console.print(f"[red]did not work:[/red] {fault}", highlight=False)
    if done.first_failure:
        console.print(f"[red]first failure:[/red] {done.first_failure}", highlight=False, markup=False)
    return not faults


def _flights(count: int) -> Iterator[features.Flight]:
    later = train.later_flights()
    if count > len(later):
        raise Failure(f"--flights is {count}; after February {len(later)} flights departed")
    return features.as_requests(later.head(count))


def _replay(
    run: replay.Replay, stack: Stack, options: Options, console: Console
) -> tuple[replay.Progress, summary.WeightEdit | None]:
    edit: list[summary.WeightEdit] = []

    def edit_weight() -> None:
        edit.append(_edit_weight(stack, console.print))

    editor = threading.Thread(target=edit_weight, daemon=True)
    bar = Progress(
        TextColumn("   {task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn(), console=console
    )
    with bar:
        task = bar.add_task("", total=options.flights)

        def watch(progress: replay.Progress) -> None:
            stack.supervise()
            day = datetime.fromtimestamp(progress.clock, UTC).strftime("%d %b") if progress.clock else ""
            bar.update(task, completed=progress.served, description=f"{day} {progress.served:>7,} flights")
            if progress.served >= options.flights // 2 and editor.ident is None:
                editor.start()

        try:
            done = run.run(watch)
        finally:
            run.stop()
    if editor.ident is not None:
        editor.join(10)
    return done, edit[0] if edit else None


def _edit_weight(stack: Stack, say: Callable[[str], None]) -> summary.WeightEdit:
    """Edit the file as `kingmaker set-weight` does, and read from the controller what became of it."""
    before = _ranges(stack)
    at = time.monotonic()
    resource_file.set_weights(stack.layout.file, MODEL, {CHALLENGER: NEW_WEIGHT})
    say(f"   edited the file, as `kingmaker set-weight {MODEL} {CHALLENGER}={NEW_WEIGHT}` does")
    while (after := _ranges(stack)) == before and time.monotonic() < at + 10:
        time.sleep(0.05)
    return summary.WeightEdit(CHALLENGER, at, before, after)


def _ranges(stack: Stack) -> str:
    views = controller_api.models(running.find(None, stack.layout.file))
    routing = next(view.status.routing for view in views if view.name == MODEL)
    return routing.ranges if routing else ""


def _settled(stack: Stack, labels: int) -> Evidence:
    """Evidence once every event and label has arrived, or as it is when they take too long."""
    url = f"{stack.addresses['monitor']}/api/models/{MODEL}"
    deadline = time.monotonic() + SETTLE_S
    while True:
        stack.supervise()
        evidence = msgspec.json.decode(
            httpx.get(url, timeout=5, trust_env=False).raise_for_status().content, type=Evidence
        )
        events = evidence.events
        is_complete = events.stored and events.stored == events.sent - events.dropped - events.lost
        if (is_complete and evidence.feedback.joined >= labels) or time.monotonic() > deadline:
            return evidence
        time.sleep(0.25)


if __name__ == "__main__":
    main()
