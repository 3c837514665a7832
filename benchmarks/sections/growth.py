"""(h) One to four gateway processes in front of two model servers, all on one core.

Two cores cannot show that throughput scales; they can show what scaling costs: processor time per request by
process. (Its growth with connections is in the end-to-end part.)
"""

from benchmarks import figures, rounds
from benchmarks.figures import Section
from benchmarks.lab import Lab
from benchmarks.models import load
from benchmarks.plan import Plan
from benchmarks.stacks import Split, Stacks
from benchmarks.tools import Tools

CONNECTIONS = 64
_PROCESSES = 4


def run(tools: Tools, plan: Plan) -> Section:
    model, section = load("gb25"), Section("growth")
    with Lab("growth") as lab:
        stacks = Stacks(lab, tools)
        servers = [stacks.model_server(model) for _ in range(2)]
        valkey = stacks.valkey()
        split = Split(*(server.address for server in servers))
        gateways = [stacks.gateway(model, split, valkey) for _ in range(_PROCESSES)]
        targets = {
            f"Kingmaker, {n} gateway{'s' if n > 1 else ''}": stacks.target(
                model, gateways[0], [*gateways[:n], *servers, valkey], *gateways[1:n]
            )
            for n in range(1, _PROCESSES + 1)
        }
        samples = rounds.take(stacks.generator, targets, CONNECTIONS, plan.runs, plan.seconds)
    label = f"{CONNECTIONS} connections"
    section.rows = [figures.row(name, "gb25", label, found) for name, found in samples.items()]
    return section
