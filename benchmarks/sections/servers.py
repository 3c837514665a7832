"""(b) One model server on one core, asked directly: ours against MLServer, KServe and BentoML."""

from benchmarks import figures, rounds
from benchmarks.figures import Ratio, Section
from benchmarks.lab import Lab, NotReady, Server
from benchmarks.load import Target
from benchmarks.models import BenchModel, load
from benchmarks.plan import Plan
from benchmarks.stacks import Stacks
from benchmarks.tools import Tools

OURS = "Kingmaker model server"
_PEERS = {"mlserver": "MLServer", "kserve": "KServe", "bentoml": "BentoML"}
_TUTORIAL = "FastAPI + pydantic"
_RATIOS = {**_PEERS, "fastapi": _TUTORIAL}


def run(tools: Tools, plan: Plan) -> Section:
    section = Section("servers")
    for name in ("gb25",) if plan.is_quick else ("gb25", "flights"):
        model = load(name)
        with Lab(f"servers-{name}") as lab:
            stacks = Stacks(lab, tools)
            targets = {OURS: _alone(stacks, model, stacks.model_server(model))}
            if name == "gb25" and not plan.is_quick:
                with section.spared(_TUTORIAL, NotReady):
                    targets[_TUTORIAL] = _alone(stacks, model, stacks.plain_fastapi(model))
            for tool, peer in _PEERS.items():
                if plan.is_quick and tool != "mlserver":
                    continue
                started = _start(stacks, model, tool, section)
                if started is not None:
                    targets[peer] = _alone(stacks, model, started)
            for connections in plan.levels if name == "gb25" else (64,):
                samples = rounds.take(stacks.generator, targets, connections, plan.runs, plan.seconds)
                label = f"{connections} connections"
                section.rows += [figures.row(who, name, label, found) for who, found in samples.items()]
                section.ratios += [
                    Ratio(_named(tool, connections), name, label, figures.ratio(samples[OURS], samples[peer], _RATE))
                    for tool, peer in _RATIOS.items()
                    if peer in samples
                ]
            if name == "gb25":
                section.footprint = lab.footprint()
    return section


_RATE = figures.throughput


def _alone(stacks: Stacks, model: BenchModel, server: Server) -> Target:
    return stacks.target(model, server, [server])


def _start(stacks: Stacks, model: BenchModel, tool: str, section: Section) -> Server | None:
    """A peer that is missing or does not come up is reported, and the others go on."""
    if not stacks.tools.has(tool):
        section.not_run[_PEERS[tool]] = stacks.tools.missing.get(tool, "not installed")
        return None
    try:
        return {"mlserver": stacks.mlserver, "kserve": stacks.kserve, "bentoml": stacks.bentoml}[tool](model)
    except NotReady as error:
        section.not_run[_PEERS[tool]] = str(error)
        return None


def _named(tool: str, connections: int) -> str:
    return f"server_vs_{tool}" if connections == 64 else f"server_vs_{tool}_at_{connections}"
