"""(f) What recording every prediction costs the gateway, and what Redis being gone costs it.

The gateway alone, in front of upstreams that cost next to nothing, since its throughput is what the bar speaks
of; Valkey has the load generator's core.
"""

import json
import subprocess
import sys

from benchmarks import figures, folders, rounds
from benchmarks.figures import Ratio, Section
from benchmarks.lab import HOST, Lab, Server, environment
from benchmarks.models import load
from benchmarks.plan import Plan
from benchmarks.stacks import Split, Stacks, stream_bytes_per_row
from benchmarks.tools import Tools

CONNECTIONS = 64
_LABEL = f"{CONNECTIONS} connections"
_ON, _OFF, _GONE = (f"Kingmaker gateway, {state}" for state in ("recording", "not recording", "Redis gone"))
_WIDTH = 25
_RATE = 140_000
BYTES_NOTE = "bytes of Redis per recorded prediction"
CPU_NOTE = "gateway's processor time per recorded prediction, us"
_SECONDS = 5
_PROCESSES = 3
"""Gateways of each kind, as in the shadow part."""


def run(tools: Tools, plan: Plan) -> Section:
    model, section = load("gb25"), Section("recording")
    with Lab("recording") as lab:
        stacks = Stacks(lab, tools)
        valkey, lost = stacks.valkey(lab.load_core), stacks.valkey(lab.load_core)
        split = Split(*(stacks.trivial(model, _WIDTH).address for _ in range(2)))
        sets = []
        for _ in range(_PROCESSES):
            gateways = {
                _ON: stacks.gateway(model, split, valkey),
                _OFF: stacks.gateway(model, split, valkey, records=False),
            }
            if not plan.is_quick:
                gateways[_GONE] = stacks.gateway(model, split, lost)
            sets.append({name: stacks.constant_target(model, gateway) for name, gateway in gateways.items()})
        lab.stop([lost])
        samples = rounds.take_of_several(stacks.generator, sets, CONNECTIONS, plan.own_runs, plan.seconds)
        section.notes[BYTES_NOTE] = stream_bytes_per_row(valkey)
        if not plan.is_quick:
            section.notes |= _alone(valkey, lab)
    section.rows = [figures.row(name, "gb25", _LABEL, found) for name, found in samples.items()]
    on, off = samples[_ON], samples[_OFF]
    section.ratios = [Ratio("recorder_throughput_ratio", "gb25", _LABEL, figures.ratio(on, off, figures.throughput))]
    spent = [a.total_cpu_us - b.total_cpu_us for a, b in zip(on, off, strict=True)]
    section.notes[CPU_NOTE] = figures.figure(spent).median
    if _GONE in samples:
        gone = figures.ratio(samples[_GONE], on, figures.throughput)
        section.ratios.append(Ratio("redis_gone_throughput_ratio", "gb25", _LABEL, gone))
    return section


def _alone(valkey: Server, lab: Lab) -> dict[str, float]:
    """The recorder by itself, offered more than the fastest gateway answers; see `benchmarks.recorder_rate`."""
    command = ["taskset", "-c", str(lab.server_core), sys.executable, "-m", "benchmarks.recorder_rate"]
    command += [f"redis://{HOST}:{valkey.port}/0", str(_RATE), str(_SECONDS)]
    done = subprocess.run(
        command, env=environment(), cwd=folders.REPOSITORY, capture_output=True, text=True, timeout=60, check=True
    )
    found: dict[str, float] = json.loads(done.stdout)
    prefix = f"recorder alone, offered {_RATE} records a second"
    return {
        f"{prefix}: offered": found["offered_per_s"],
        f"{prefix}: dropped, records": found["dropped"],
        f"{prefix}: most waiting at a time, records": found["most_waiting"],
        f"{prefix}: processor time per record, us": found["cpu_us_per_record"],
    }
