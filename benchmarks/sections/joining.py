"""What joining rows of many requests into frames is worth: our gateway beside itself with frames of one row.

Both ask the same two model servers, everything on one core.
"""

from benchmarks import figures, rounds
from benchmarks.figures import Ratio, Section
from benchmarks.lab import Lab
from benchmarks.models import load
from benchmarks.plan import Plan
from benchmarks.stacks import Split, Stacks
from benchmarks.tools import Tools

_JOINING, _BY_ROW = "Kingmaker", "Kingmaker, a row a frame"
_LEVELS = (1, 64)
_PROCESSES = 3
"""Gateways of each kind, as in the shadow part."""


def run(tools: Tools, plan: Plan) -> Section:
    model, section = load("gb25"), Section("joining")
    with Lab("joining") as lab:
        stacks = Stacks(lab, tools)
        servers, valkey = [stacks.model_server(model) for _ in range(2)], stacks.valkey()
        split = Split(*(server.address for server in servers))
        sets = []
        for _ in range(_PROCESSES):
            gateways = {
                _JOINING: stacks.gateway(model, split, valkey),
                _BY_ROW: stacks.gateway(model, split, valkey, max_frame_rows=1),
            }
            sets.append({name: stacks.target(model, g, [g, *servers, valkey]) for name, g in gateways.items()})
        for connections in _LEVELS:
            samples = rounds.take_of_several(stacks.generator, sets, connections, plan.own_runs, plan.seconds)
            label = f"{connections} connections"
            section.rows += [figures.row(who, "gb25", label, found) for who, found in samples.items()]
            named = "coalescing_vs_row_by_row" + ("" if connections == 64 else f"_at_{connections}")
            value = figures.ratio(samples[_JOINING], samples[_BY_ROW], figures.throughput)
            section.ratios.append(Ratio(named, "gb25", label, value))
    return section
