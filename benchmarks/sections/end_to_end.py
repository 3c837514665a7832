"""(c) Client to model through a 90/10 split to two servers, every server process of a stack on one core.

That counts our Valkey too. (h) is the same at 1 to 256 connections, where the cost of a request can be seen to
grow or not.
"""

from collections.abc import Callable

from benchmarks import figures, rounds, wakefulness
from benchmarks.figures import Ratio, Section
from benchmarks.lab import Lab, NotReady, Server
from benchmarks.load import Target
from benchmarks.models import BenchModel, load
from benchmarks.plan import Plan
from benchmarks.stacks import Split, Stacks
from benchmarks.tools import Tools

OURS = "Kingmaker"
_TUTORIAL = "FastAPI + httpx"
RATIOS = {
    "e2e_vs_envoy_mlserver": "Envoy + MLServer",
    "e2e_vs_envoy_kserve": "Envoy + KServe",
    "e2e_vs_envoy_own_server": "Envoy + our model server",
    "e2e_vs_fastapi_httpx": _TUTORIAL,
}
_ONLY_AT = {"Envoy + KServe": (1, 64), _TUTORIAL: (1, 64)}
"""Connections at which these take part; the others always do."""


def run(tools: Tools, plan: Plan) -> Section:
    section = Section("end_to_end")
    for name in ("gb25",) if plan.is_quick else ("gb25", "flights"):
        model = load(name)
        with Lab(f"end-to-end-{name}") as lab:
            stacks = Stacks(lab, tools)
            targets = start(stacks, model, with_kserve=not plan.is_quick and name == "gb25")
            if name == "gb25" and not plan.is_quick:
                with section.spared(_TUTORIAL, NotReady):
                    targets[_TUTORIAL] = _tutorial(stacks, model)
            for connections in plan.end_to_end_levels if name == "gb25" else (64,):
                here = {n: target for n, target in targets.items() if connections in _ONLY_AT.get(n, (connections,))}
                samples = rounds.take(stacks.generator, here, connections, plan.runs, plan.seconds)
                label = f"{connections} connections"
                section.rows += [figures.row(who, name, label, found) for who, found in samples.items()]
                section.ratios += _ratios(name, connections, label, samples)
            if 1 in plan.end_to_end_levels and name == "gb25":
                _where_the_generator_sleeps(section, stacks, targets, plan)
            if name == "gb25":
                section.footprint = lab.footprint()
    if not tools.has("envoy"):
        section.not_run["Envoy"] = tools.missing.get("envoy", "not installed")
    return section


def _where_the_generator_sleeps(section: Section, stacks: Stacks, targets: dict[str, Target], plan: Plan) -> None:
    """One connection again with a generator whose core may sleep, where it was kept awake until now."""
    with wakefulness.of(stacks.lab.load_core, wakefulness.ANY) as can_choose:
        if not can_choose:
            return
        usual = {name: target for name, target in targets.items() if name not in _ONLY_AT}
        samples = rounds.take(stacks.generator, usual, 1, plan.runs, plan.seconds)
    label = "1 connection, the generator's core may sleep"
    section.rows += [figures.row(who, "gb25", label, found) for who, found in samples.items()]
    section.ratios += _ratios("gb25", "1_asleep", label, samples)


def start(stacks: Stacks, model: BenchModel, *, with_kserve: bool) -> dict[str, Target]:
    """Every stack, idle until it is its turn."""
    own = [stacks.model_server(model) for _ in range(2)]
    valkey = stacks.valkey()
    gateway = stacks.gateway(model, Split(*(server.address for server in own)), valkey)
    targets = {OURS: stacks.target(model, gateway, [gateway, *own, valkey])}
    if not stacks.tools.has("envoy"):
        return targets
    targets["Envoy + our model server"] = _behind_envoy(stacks, model, own)
    if stacks.tools.has("mlserver"):
        targets["Envoy + MLServer"] = _behind_envoy(stacks, model, _two(stacks.mlserver, model))
    if with_kserve and stacks.tools.has("kserve"):
        targets["Envoy + KServe"] = _behind_envoy(stacks, model, _two(stacks.kserve, model))
    return targets


def _tutorial(stacks: Stacks, model: BenchModel) -> Target:
    """What a tutorial would build."""
    plain = _two(stacks.plain_fastapi, model)
    front = stacks.plain_httpx(model, *(server.address for server in plain))
    return stacks.target(model, front, [front, *plain])


def _two(start_one: Callable[[BenchModel], Server], model: BenchModel) -> list[Server]:
    return [start_one(model) for _ in range(2)]


def _behind_envoy(stacks: Stacks, model: BenchModel, servers: list[Server]) -> Target:
    envoy = stacks.envoy(servers[0].address, servers[1].address)
    return stacks.target(model, envoy, [envoy, *servers])


def _ratios(model: str, connections: int | str, label: str, samples: rounds.Samples) -> list[Ratio]:
    found = []
    for name, peer in RATIOS.items():
        if peer in samples:
            named = name if connections == 64 else f"{name}_at_{connections}"
            ours, theirs = samples[OURS], samples[peer]
            found.append(Ratio(named, model, label, figures.ratio(ours, theirs, figures.throughput)))
            found.append(Ratio(f"{named}_p99", model, label, figures.ratio(ours, theirs, figures.p99)))
    return found
