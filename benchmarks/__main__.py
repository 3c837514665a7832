"""`python -m benchmarks [--quick] [--only PART ...]`: measure, write the results, fill docs/performance.md.

--quick writes build/bench-quick.json with the core ratios and nothing else. A part that fails is reported and
the others go on; the exit code then says so.
"""

import argparse
import dataclasses
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Final

import msgspec

from benchmarks import figures, folders, machine, report, results, tools, wakefulness
from benchmarks.figures import Section
from benchmarks.lab import NotReady, cores
from benchmarks.load import BadLoad
from benchmarks.plan import QUICK, WHOLE, Plan
from benchmarks.sections import (
    end_to_end,
    fixed_rate,
    growth,
    hop,
    joining,
    monitoring,
    profile,
    recording,
    servers,
    shadow,
)
from benchmarks.tools import ToolMissing, Tools

Part = Callable[[Tools, Plan], Section]
PARTS: Final[dict[str, Part]] = {
    "hop": hop.run,
    "servers": servers.run,
    "end_to_end": end_to_end.run,
    "joining": joining.run,
    "shadow": shadow.run,
    "recording": recording.run,
    "fixed_rate": fixed_rate.run,
    "growth": growth.run,
    "profile": profile.run,
    "monitoring": monitoring.run,
}
_QUICK_PARTS: Final = ("hop", "servers", "end_to_end", "shadow", "recording")
_QUICK_TOOLS: Final = ("wrk", "nginx", "envoy", "mlserver")
QUICK_RATIOS: Final = (
    "hop_vs_envoy",
    "hop_vs_nginx",
    "server_vs_mlserver",
    "e2e_vs_envoy_mlserver",
    "e2e_vs_envoy_own_server",
    "shadow_hung_p99_ratio",
    "shadow_dead_p99_ratio",
    "shadow_hung_throughput_ratio",
    "recorder_throughput_ratio",
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="only the core ratios, about two minutes")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--runs", type=int, help="rounds of each comparison, instead of 5 (3 with --quick)")
    arguments = parser.parse_args()
    # also when started in the background, where Ctrl-C is ignored, and when the terminal is lost
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    plan = QUICK if arguments.quick else WHOLE
    if arguments.runs is not None:
        runs = max(1, arguments.runs)
        plan = dataclasses.replace(plan, runs=runs, own_runs=runs)
    names = arguments.only or list(_QUICK_PARTS if plan.is_quick else PARTS)
    try:
        _, load_core = cores()
        found = tools.fetch(list(_QUICK_TOOLS if plan.is_quick else (*tools.DEBIAN, *tools.PEERS)))
        found["wrk"]
    except (RuntimeError, ToolMissing) as error:
        sys.stderr.write(f"benchmarks: {error}\n")
        return 2
    for name, why in found.missing.items():
        _say(f"NOT RUN: {name}: {why}")
    try:
        with wakefulness.of(load_core, wakefulness.AWAKE, after=wakefulness.ANY) as is_awake:
            if not is_awake:
                _say("the load generator's core may sleep: keeping it awake takes root and a kernel that can poll")
            return _measure(names, plan, found, whole=not arguments.only, is_awake=is_awake)
    except KeyboardInterrupt:
        sys.stderr.write("benchmarks: interrupted, everything is stopped\n")
        return 130


def _measure(names: list[str], plan: Plan, found: Tools, *, whole: bool, is_awake: bool) -> int:
    described = machine.describe() | {"generator's core": "kept awake" if is_awake else "may sleep"}
    shutil.rmtree(folders.RUN, ignore_errors=True)
    folders.RAW.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    plan = dataclasses.replace(plan, ends_at=began + plan.most_s)
    sections: list[Section] = []
    not_run = dict(found.missing)
    for name in names:
        if time.monotonic() - began > plan.limit_s:
            not_run[name] = "the time was up"
            continue
        _say(f"{name} ...")
        try:
            section = PARTS[name](found, plan)
        except (NotReady, BadLoad, ToolMissing, OSError, subprocess.SubprocessError) as error:
            not_run[name] = f"{type(error).__name__}: {error}"
            _say(f"NOT RUN: {name}: {error}")
            continue
        not_run |= section.not_run
        sections.append(section)
        (folders.RAW / f"{name}.json").write_bytes(msgspec.json.encode(section))
        _say(report.section_text(section))
    seconds = time.monotonic() - began
    if whole and plan.is_quick:
        folders.QUICK.parent.mkdir(exist_ok=True)
        quick = figures.quick(sections, QUICK_RATIOS)
        folders.QUICK.write_bytes(msgspec.json.format(msgspec.json.encode(quick), indent=2) + b"\n")
        _say(f"{folders.QUICK.relative_to(folders.REPOSITORY)}: {msgspec.json.encode(quick).decode()}")
    elif whole:
        taken = results.Results(
            results.today(), described, machine.versions(found), sections, round(seconds, 1), not_run
        )
        _say(f"{results.write(taken).relative_to(folders.REPOSITORY)}")
        report.main()
    _say(f"took {seconds:.0f} s, wrong answers: {figures.wrong_answers(sections)}")
    failed = [name for name in names if name in not_run]
    return 1 if failed or figures.wrong_answers(sections) else 0


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
