"""(a) One hop on one core: our gateway against Envoy's weighted clusters and nginx's split_clients.

Upstreams cost next to nothing and run on the load generator's core: `return 200` of nginx for the proxies,
which pass bytes on, and a constant answer for every row for our gateway, which understands them.
"""

from benchmarks import figures, rounds
from benchmarks.figures import Ratio, Section
from benchmarks.lab import Lab
from benchmarks.load import Sample, Target
from benchmarks.models import load
from benchmarks.plan import Plan
from benchmarks.stacks import Split, Stacks
from benchmarks.tools import Tools

OURS = "Kingmaker gateway"
CONNECTIONS = 64
_WIDTH = 25
CPU_NOTE = "gateway's processor time a request, 64 connections, us"
_NOTHING = "no proxy"


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
            upstream = stacks.constant(model)
            constant = upstream.address
            targets[_NOTHING] = stacks.constant_target(model, upstream)
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
            if connections == CONNECTIONS:
                section.notes[CPU_NOTE] = figures.figure([s.total_cpu_us for s in samples[OURS]]).median
        section.footprint = lab.footprint()
    return section


def _ratios(name: str, label: str, connections: int, samples: rounds.Samples, peer: str) -> list[Ratio]:
    """Requests a second, and processor time the other way round, so that above 1 is good in both; and the time added,
    where below 1 is."""
    at = "" if connections == CONNECTIONS else f"_at_{connections}"
    ours, theirs, nothing = samples[OURS], samples[peer], samples[_NOTHING]
    return [
        Ratio(f"{name}{at}", "gb25", label, figures.ratio(ours, theirs, figures.throughput)),
        Ratio(f"{name}{at}_cpu", "gb25", label, figures.ratio(theirs, ours, figures.cpu)),
        Ratio(f"{name.replace('hop', 'hop_added_p50')}{at}", "gb25", label, _added(ours, theirs, nothing)),
    ]


def _added(ours: list[Sample], theirs: list[Sample], nothing: list[Sample]) -> figures.Figure:
    """What we add to the median latency over what they add to it, round by round."""
    rounds_ = zip(ours, theirs, nothing, strict=True)
    return figures.figure([(a.p50_ms - n.p50_ms) / max(b.p50_ms - n.p50_ms, 1e-3) for a, b, n in rounds_])
