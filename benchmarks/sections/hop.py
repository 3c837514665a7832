"""(a) One hop on one core: our gateway against Envoy's weighted clusters and nginx's split_clients.

Upstreams cost next to nothing and run on the load generator's core: `return 200` of nginx for the proxies,
which pass bytes on, and a constant answer for every row for our gateway, which understands them.
"""

from benchmarks import figures, rounds
from benchmarks.figures import Ratio, Section
from benchmarks.lab import Lab
from benchmarks.load import Target
from benchmarks.models import load
from benchmarks.plan import Plan
from benchmarks.stacks import Split, Stacks
from benchmarks.tools import Tools

OURS = "Kingmaker gateway"
_WIDTH = 25


def run(tools: Tools, plan: Plan) -> Section:
    model, section = load("gb25"), Section("hop")
    with Lab("hop") as lab:
        stacks = Stacks(lab, tools)
        targets: dict[str, Target] = {}
        valkey = stacks.valkey(lab.load_core)
        upstreams = [stacks.trivial(model, _WIDTH).address for _ in range(2)]
        gateway = stacks.gateway(model, Split(*upstreams), valkey)
        targets[OURS] = stacks.constant_target(model, gateway)
        if tools.has("nginx"):
            constant = stacks.constant(model).address
            targets["nginx split_clients"] = stacks.constant_target(model, stacks.nginx(constant, constant))
            if tools.has("envoy"):
                targets["Envoy weighted clusters"] = stacks.constant_target(model, stacks.envoy(constant, constant))
        for connections in plan.levels:
            samples = rounds.take(stacks.generator, targets, connections, plan.runs, plan.seconds)
            label = f"{connections} connections"
            section.rows += [figures.row(name, "gb25", label, found) for name, found in samples.items()]
            for name, peer in (("hop_vs_envoy", "Envoy weighted clusters"), ("hop_vs_nginx", "nginx split_clients")):
                if peer in samples:
                    section.ratios += _ratios(name, label, connections, samples, peer)
        section.footprint = lab.footprint()
    return section


def _ratios(name: str, label: str, connections: int, samples: rounds.Samples, peer: str) -> list[Ratio]:
    """Requests a second, and processor time the other way round, so that above 1 is good in both."""
    named = name if connections == 64 else f"{name}_at_{connections}"
    ours, theirs = samples[OURS], samples[peer]
    return [
        Ratio(named, "gb25", label, figures.ratio(ours, theirs, figures.throughput)),
        Ratio(f"{named}_cpu", "gb25", label, figures.ratio(theirs, ours, figures.cpu)),
    ]
