"""Can the recorder keep up? The gateway's own recorder and a real Redis, offered frames at a fixed rate and no faster.

    python -m benchmarks.recorder_rate REDIS_URL RECORDS_A_SECOND SECONDS

It prints one line of JSON. Open loop: what is offered does not wait for what was written, as in the gateway, so a
recorder that falls behind shows in `most_waiting` and then in `dropped`. Processor time includes making what is
offered: an object a record, which in the gateway is there already.
"""

import asyncio
import json
import sys
import time

import msgspec
import numpy as np
import uvloop
from prometheus_client import CollectorRegistry

from benchmarks.models import load
from kingmaker_contracts import wire
from kingmaker_contracts.inference import Tensor
from kingmaker_contracts.profile import Profile, sha256_of
from kingmaker_gateway import runs
from kingmaker_gateway.answerers import Answerer
from kingmaker_gateway.metrics import Metrics
from kingmaker_gateway.recorder import Recorder
from kingmaker_gateway.runs import Mark
from kingmaker_gateway.settings import RecorderSettings
from kingmaker_servicekit import redis_client

FRAME_ROWS = 64
"""Requests in a coalesced frame at 64 connections."""
_TICK_S = 0.002


_MARK = Mark(1, 0, "weight", 0, 200)
_LATENCIES_S = [0.001] * FRAME_ROWS


class Request(msgspec.Struct, eq=False):
    """One answered request of one row, the least of what the gateway keeps of it."""

    id: bytes
    mark: Mark = _MARK
    key_hash: int = 0


async def measure(url: str, rate: int, seconds: float) -> dict[str, float]:
    raw = load("gb25").profile
    profile = wire.read_json(raw, Profile)
    by = Answerer("bench/gb25", 1, 1, "r1", "lr", "1", "champion", ("lr",), sha256_of(raw), profile)
    width = int(np.prod(profile.inputs[0].shape[1:]))
    block = np.random.default_rng(1).random((FRAME_ROWS, width)).astype(np.float32)
    inputs = {feature.name: block for feature in profile.inputs}
    score = profile.score.output if profile.score else profile.outputs[0].name
    outputs = [Tensor(score, "FP32", block[:, :2])]
    registry = CollectorRegistry()
    client = redis_client.connect(url, timeout_s=2.0)
    recorder = Recorder(client, RecorderSettings(max_stream_entries=500), 0, Metrics(registry))
    recorder.start()
    loop = asyncio.get_running_loop()
    offered, most_waiting = 0, 0.0
    began, spent = loop.time(), time.process_time()
    while (passed := loop.time() - began) < seconds:
        while offered < passed * rate:
            requests = [Request((offered + at).to_bytes(16, "big")) for at in range(FRAME_ROWS)]
            recorder.offer(runs.of(by, requests, _LATENCIES_S, time.time_ns() // 1000, FRAME_ROWS, inputs, outputs))
            offered += FRAME_ROWS
        most_waiting = max(most_waiting, registry.get_sample_value("kingmaker_gateway_events_buffered") or 0.0)
        await asyncio.sleep(_TICK_S)
    spent = time.process_time() - spent
    await recorder.close()
    await client.aclose()
    account = recorder.accounts["bench/gb25"]
    return {
        "offered_per_s": offered / seconds,
        "dropped": account.dropped,
        "most_waiting": most_waiting,
        "cpu_us_per_record": spent * 1e6 / offered,
    }


if __name__ == "__main__":
    found = uvloop.run(measure(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
    sys.stdout.write(json.dumps(found) + "\n")
