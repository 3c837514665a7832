"""Where the time of one request goes: py-spy looks at the gateway, and at the model server, while they are loaded.

Each has the servers' core to itself, for time in which another process had the core would count as its own. The
gateway is in front of upstreams that cost next to nothing, as in (a) and (f); the model server is asked in JSON.

A sample counts for the step its innermost frame of ours belongs to, so what a step calls (numpy, msgspec, ONNX
Runtime) is part of it; what is under none of ours is the event loop and, for the loop reads sockets and writes what
was queued, most of the kernel's time. Each sample stops the process for a moment: a stack that is read while it runs is
torn, and half of what was ours seemed to be the loop's. Shares are turned into microseconds with the processor time a
request cost in runs that nobody watched.
"""

import subprocess
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from benchmarks import figures
from benchmarks.figures import Section
from benchmarks.lab import Lab, Server
from benchmarks.load import Target
from benchmarks.models import load
from benchmarks.plan import Plan
from benchmarks.stacks import Split, Stacks
from benchmarks.tools import Tool, Tools

CONNECTIONS: Final = 64
_SECONDS: Final = 8
_WIDTH: Final = 25
_SAMPLES_A_SECOND: Final = 200
_FLUSH: Final = "record: columns of a flush, and Redis"
_REST: Final = "event loop: polling, reading sockets, calling back"
_TENSORS: Final = ("tensors.py", "json_tensors.py", "raw_tensors.py")

Step = tuple[str, tuple[str, ...]]
"""Its name, and the files whose frames belong to it."""

GATEWAY: Final[Sequence[Step]] = (
    (_FLUSH, ("recorder.py", "redis_client.py", "runs.py", "envelope.py", "events.py")),
    ("write answers to clients", ("fast_answers.py", "fast_turns.py")),
    ("parse HTTP", ("fast_http.py", "fast_waiting.py", "fast_call.py", "httptools_impl.py")),
    ("read rows", ("usual.py", "protocols.py", "batch.py", "codec.py", "rows.py")),
    ("name, split, choose", ("ids.py", "prediction_ids.py", "split.py", "buckets.py", "wishes.py", "models.py")),
    ("word answers", ("plain.py", "answers.py")),
    ("join rows, write and read frames", ("frames.py", "replies.py", "connection.py", *_TENSORS, "signature.py")),
    ("choose a server, keep its account", ("upstream.py", "endpoint.py", "balancing.py", "breaker.py", "parts.py")),
    ("who travels with whom", ("coalescer.py", "aftermath.py")),
    ("a request's own book-keeping", ("router.py", "desk.py", "prediction.py", "hot_path.py", "tally.py", "shadow.py")),
)
MODEL_SERVER: Final[Sequence[Step]] = (
    ("ONNX Runtime", ("session.py", "onnxruntime_inference_collection.py")),
    ("parse HTTP", ("fast_http.py", "fast_waiting.py", "fast_call.py", "httptools_impl.py")),
    ("write answers", ("fast_answers.py", "fast_turns.py")),
    ("read rows", ("reading.py", "typed.py", "typed_rows.py", "columns.py", *_TENSORS, "rows.py")),
    ("join and cut apart", ("batching.py", "run.py", "bound.py", "job.py", "predict.py", "hot_path.py", "rounds.py")),
    ("word answers", ("answers.py",)),
    ("metrics", ("metrics.py", "values.py")),
)


def run(tools: Tools, plan: Plan) -> Section:
    section, model = Section("profile"), load("gb25")
    if not tools.has("py-spy"):
        section.not_run["py-spy"] = tools.missing.get("py-spy", "not installed")
        return section
    with Lab("profile") as lab:
        stacks = Stacks(lab, tools)
        split = Split(*(stacks.trivial(model, _WIDTH).address for _ in range(2)))
        gateway = stacks.gateway(model, split, stacks.valkey(lab.load_core))
        server = stacks.model_server(model)
        for watched, target, steps in (
            (gateway, stacks.constant_target(model, gateway), GATEWAY),
            (server, stacks.target(model, server, [server]), MODEL_SERVER),
        ):
            generator = stacks.generator
            generator.run(target, CONNECTIONS, 1)
            in_kernel, whole = watched.kernel_s(), watched.cpu_s()
            plain = [generator.run(target, CONNECTIONS, plan.seconds) for _ in range(plan.own_runs)]
            row = figures.row(watched.name, "gb25", f"{CONNECTIONS} connections", plain)
            section.rows.append(row)
            share = (watched.kernel_s() - in_kernel) / (watched.cpu_s() - whole)
            section.notes[f"{watched.name}: of a request, in the kernel, us"] = share * row.cpu_by_server[watched.name]
            _look(section, stacks, watched, target, steps)
    return section


def _look(section: Section, stacks: Stacks, server: Server, target: Target, steps: Sequence[Step]) -> None:
    """Adds a note a step. The cost of a request is that of the runs nobody watched."""
    spy = _watch(stacks.tools["py-spy"], server, stacks.lab.load_core)
    stacks.generator.run(target, CONNECTIONS, _SECONDS + 1)
    seen, words = spy.communicate(timeout=30)
    if spy.returncode != 0:
        section.not_run[server.name] = f"py-spy: {(words.strip().splitlines() or ['it failed'])[-1]}"
        return
    cost = section.rows[-1].cpu_by_server[server.name]
    for name, share in shares(seen.splitlines(), steps).items():
        section.notes[f"{server.name}: {name}, us a request"] = share * cost


def _watch(py_spy: Tool, server: Server, core: int) -> "subprocess.Popen[str]":
    command = [
        "taskset",
        "-c",
        str(core),
        str(py_spy.path),
        "record",
        "--pid",
        str(server.process.pid),
    ]
    command += ["--format", "raw", "--output", "/dev/stdout", "--rate", str(_SAMPLES_A_SECOND)]
    return subprocess.Popen(
        [*command, "--duration", str(_SECONDS)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",  # it reads a process that does not stand still
    )


def shares(raw: Iterable[str], steps: Sequence[Step]) -> dict[str, float]:
    """Share of the samples by step, largest first, from py-spy's raw lines (`frame;frame;... count`)."""
    owner = {file: name for name, files in steps for file in files}
    seen: Counter[str] = Counter()
    for line in raw:
        frames, _, count = line.rpartition(" ")
        if count.isdigit():
            seen[_step(frames.split(";"), owner)] += int(count)
    total = sum(seen.values())
    return {name: count / total for name, count in seen.most_common()} if total else {}


def _step(frames: Sequence[str], owner: dict[str, str]) -> str:
    files = [frame.rpartition("(")[2].partition(":")[0].rpartition("/")[2] for frame in frames]
    if any(owner.get(file) == _FLUSH for file in files):  # a flush calls what the request path uses too
        return _FLUSH
    return next((owner[file] for file in reversed(files) if file in owner), _REST)
