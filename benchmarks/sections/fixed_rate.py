"""(d) 500 requests a second whether or not the answers come: the latency a caller sees at ordinary load."""

import json
import subprocess
import sys

from benchmarks import figures, folders
from benchmarks.figures import Ratio, Section
from benchmarks.lab import Lab
from benchmarks.load import Sample, Target
from benchmarks.models import load
from benchmarks.open_loop import Told
from benchmarks.plan import Plan
from benchmarks.sections import end_to_end
from benchmarks.stacks import Stacks
from benchmarks.tools import Tools

RATE = 500
_SECONDS = 2


def run(tools: Tools, plan: Plan) -> Section:
    model, section = load("gb25"), Section("fixed_rate")
    pool = folders.RUN / "pool.json"
    pool.parent.mkdir(parents=True, exist_ok=True)
    pool.write_text(json.dumps({"bodies": model.bodies, "answers": [[a.first, a.second] for a in model.answers]}))
    with Lab("fixed-rate") as lab:
        stacks = Stacks(lab, tools)
        targets = end_to_end.start(stacks, model, with_kserve=True)
        samples: dict[str, list[Sample]] = {name: [] for name in targets}
        for number in range(plan.runs + 1):
            for name, target in targets.items():
                sample = _ask(lab, target, str(pool))
                if number:  # the first round warms up
                    samples[name].append(sample)
        label = f"{RATE} requests/s, open loop"
        section.rows = [figures.row(name, "gb25", label, found) for name, found in samples.items()]
        ours = samples[end_to_end.OURS]
        section.ratios = [
            Ratio(f"{name}_p99_at_{RATE}_per_s", "gb25", label, figures.ratio(ours, samples[peer], figures.p99))
            for name, peer in end_to_end.RATIOS.items()
            if peer in samples
        ]
    return section


def _ask(lab: Lab, target: Target, pool: str) -> Sample:
    before = {id(server): server.cpu_s() for server in target.servers}
    command = ["taskset", "-c", str(lab.load_core), sys.executable, "-m", "benchmarks.open_loop"]
    command += [target.url, pool, str(RATE), str(_SECONDS)]
    done = subprocess.run(command, cwd=folders.REPOSITORY, capture_output=True, text=True, check=True, timeout=60)
    told: Told = Told(**json.loads(done.stdout))
    cpu: dict[str, float] = {}
    for server in target.servers:
        spent = (server.cpu_s() - before[id(server)]) / max(1, told.answered) * 1e6
        cpu[server.name] = cpu.get(server.name, 0.0) + spent
    return Sample(
        told.answered / _SECONDS, told.p50_ms, told.p99_ms, told.answered, told.answered, told.wrong, told.failed, cpu
    )
