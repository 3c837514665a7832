"""(e) What a mirrored challenger costs the champion's clients: healthy, hung (alive and silent), dead (refusing).

Gateways are compared with others of the same kind without a mirror, in the same rounds. Challengers run on the load
generator's core, as they would on another machine. Hung and dead ones were healthy first and failed under load.
"""

import contextlib
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks import figures, proxies, rounds
from benchmarks.figures import Ratio, Section
from benchmarks.lab import HOST, Lab, Server
from benchmarks.load import Sample, Target
from benchmarks.models import load
from benchmarks.plan import Plan
from benchmarks.stacks import Split, Stacks
from benchmarks.tools import Tools

CONNECTIONS = 64
_SECONDS = 2 * proxies.MIRROR_TIMEOUT_S
"""Of one run, so that requests which a hung mirror holds up are seen to end."""
SHARE_NOTE = "share of requests mirrored, healthy shadow, half load"
_PROCESSES = 3
"""Gateways of each kind, taking turns: one alone may be a slow one for as long as it lives."""
_LABEL = f"{CONNECTIONS} connections, full load"
_HALF = f"{CONNECTIONS} connections, half load"
_OFF = "no shadow"

StartFront = Callable[[str | None], Server]
"""Start a front with a mirror to this address, or without one."""


@dataclass(slots=True, frozen=True)
class Mirroring:
    """Who mirrors: its name, what its ratios begin with, how one is started, whom all of them serve from, how many of
    each kind take turns, and how often."""

    who: str
    prefix: str
    start: StartFront
    champion: Server
    processes: int
    runs: int


def run(tools: Tools, plan: Plan) -> Section:
    model, section = load("gb25"), Section("shadow")
    states = ("hung", "dead") if plan.is_quick else ("healthy", "hung", "dead")
    with Lab("shadow-kingmaker") as lab:
        stacks = Stacks(lab, tools)
        valkey = stacks.valkey(lab.load_core)
        champion = stacks.model_server(model, name="champion")

        def gateway(mirror: str | None) -> Server:
            return stacks.gateway(model, Split(champion.address, shadow=mirror), valkey)

        kingmaker = Mirroring("Kingmaker", "shadow", gateway, champion, _PROCESSES, plan.own_runs)
        _measure(section, stacks, kingmaker, states)
    if plan.is_quick:
        return section
    for name, tool in (("Envoy", "envoy"), ("nginx", "nginx")):
        if not tools.has(tool):
            section.not_run[name] = tools.missing.get(tool, "not installed")
            continue
        with Lab(f"shadow-{tool}") as lab:
            stacks = Stacks(lab, tools)
            champion = stacks.model_server(model, name="champion")
            start = _proxy(stacks, tool, champion)
            proxy = Mirroring(name, f"{tool}_mirror", start, champion, 1, plan.runs)
            _measure(section, stacks, proxy, states)
    return section


def _proxy(stacks: Stacks, tool: str, champion: Server) -> StartFront:
    start = stacks.envoy if tool == "envoy" else stacks.nginx
    return lambda mirror: start(champion.address, champion.address, mirror)


def _measure(section: Section, stacks: Stacks, by: Mirroring, states: tuple[str, ...]) -> None:
    """Fronts without a mirror beside fronts for every state of their challenger."""
    model = load("gb25")
    shadows = {s: stacks.model_server(model, stacks.lab.load_core, f"challenger, {s}") for s in states}
    mirrors = {_OFF: None} | {state: shadow.address for state, shadow in shadows.items()}
    fronts = [{state: by.start(mirror) for state, mirror in mirrors.items()} for _ in range(by.processes)]
    sets: list[dict[str, Target]] = [
        {
            f"{by.who}, {state}": stacks.target(model, server, [server, by.champion])
            for state, server in one_of_each.items()
        }
        for one_of_each in fronts
    ]
    for target in (target for targets in sets for target in targets.values()):
        stacks.generator.run(target, CONNECTIONS, 1)  # while every challenger is well
    with contextlib.ExitStack() as sick:
        sick.enter_context(shadows["hung"].hung())
        stacks.lab.stop([shadows["dead"]])
        samples = rounds.take_of_several(stacks.generator, sets, CONNECTIONS, by.runs, _SECONDS)
    section.rows += [figures.row(name, "gb25", _LABEL, found) for name, found in samples.items()]
    off = samples[f"{by.who}, {_OFF}"]
    for state in states:
        section.ratios += _ratios(f"{by.prefix}_{state}", _LABEL, samples[f"{by.who}, {state}"], off)
    if "healthy" in states and fronts[0]["healthy"].admin_port is not None:
        pairs = [{name: targets[name] for name in (f"{by.who}, {_OFF}", f"{by.who}, healthy")} for targets in sets]
        full, mirroring = figures.row("", "", "", off), [one_of_each["healthy"] for one_of_each in fronts]
        _half_load(section, stacks, pairs, mirroring=mirroring, full=full, runs=by.runs)


def _half_load(
    section: Section,
    stacks: Stacks,
    pairs: list[dict[str, Target]],
    *,
    mirroring: list[Server],
    full: figures.Row,
    runs: int,
) -> None:
    """The healthy shadow where the machine is not the limit; connections pause between requests."""
    off, healthy = pairs[0]
    think_ms = think_time_ms(full.requests_per_s.median, full.p50_ms.median)
    before = [shadow_copies(front) for front in mirroring]
    samples = rounds.take_of_several(stacks.generator, pairs, CONNECTIONS, runs, _SECONDS, think_ms=think_ms)
    after = [shadow_copies(front) for front in mirroring]
    sent, dropped = (sum(now[at] - then[at] for now, then in zip(after, before, strict=True)) for at in (0, 1))
    section.rows += [figures.row(name, "gb25", _HALF, found) for name, found in samples.items()]
    section.ratios += _ratios("shadow_healthy_half_load", _HALF, samples[healthy], samples[off])
    section.notes[SHARE_NOTE] = sent / max(1.0, sent + dropped)


def think_time_ms(full_per_s: float, p50_ms: float) -> int:
    """The pause that halves what `CONNECTIONS` connections ask for, at least the 1 ms wrk can do."""
    return max(1, round(CONNECTIONS / (full_per_s / 2) * 1e3 - p50_ms / 2))


def shadow_copies(gateway: Server) -> tuple[float, float]:
    """Copies sent and dropped so far, from the gateway's own metrics."""
    with urllib.request.urlopen(f"http://{HOST}:{gateway.admin_port}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    return metric(text, "kingmaker_gateway_shadow_sent_total"), metric(text, "kingmaker_gateway_shadow_dropped_total")


def metric(text: str, name: str) -> float:
    """Sum over all labels of one counter in Prometheus' text form."""
    values = (line.rpartition(" ")[2] for line in text.splitlines() if line.startswith((f"{name}{{", f"{name} ")))
    return sum(float(value) for value in values)


def _ratios(name: str, label: str, mirrored: list[Sample], off: list[Sample]) -> list[Ratio]:
    return [
        Ratio(f"{name}_throughput_ratio", "gb25", label, figures.ratio(mirrored, off, figures.throughput)),
        Ratio(f"{name}_p50_ratio", "gb25", label, figures.ratio(mirrored, off, figures.p50)),
        Ratio(f"{name}_p99_ratio", "gb25", label, figures.ratio(mirrored, off, figures.p99)),
    ]
