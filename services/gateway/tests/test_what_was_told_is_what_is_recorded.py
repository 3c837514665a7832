"""Rounds of all kinds at once, servers that fail, routing that changes: every answer is its own request's, and what is
counted, recorded and copied to a shadow is what its client was told."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from kingmaker_contracts import buckets, labels
from kingmaker_contracts.routing import Limits, Sticky
from tests.fakes.fake_model_server import FakeModelServer, Fault, score_of

if TYPE_CHECKING:
    from services.gateway.tests.conftest import Bench, Kit

INPUTS = [("distance", "FP32")]
RANGES = ["gbm:0-4999", "gbm:0-999", "gbm:5000-9999", ""]
BIAS = {"lr": 1.0, "gbm": 7.0, "copy": 3.0}
FAULTS = [*[Fault.NONE] * 3, *[Fault.SLOW] * 2, Fault.ERROR, Fault.CLOSE, Fault.HANG]
CLIENTS, ROUNDS = 16, 25
SAID = ("x-variant", "x-model-version", "x-route-reason")


@dataclass
class Told:
    """What a client asked and heard. rows: unique numbers."""

    rows: list[int]
    user: str | None
    status: int
    variant: str
    version: str
    reason: str


class World:
    """Three servers whose scores tell who answered which row."""

    def __init__(self, bench: "Bench", kit: "Kit", servers: dict[str, FakeModelServer], dice: random.Random):
        self.bench, self.kit, self.servers, self.dice = bench, kit, servers, dice
        self.profile = kit.profile(INPUTS)
        self.told: dict[str, Told] = {}
        self.revision = 0
        self._rows = 0

    def record(self) -> Any:
        """Of the next revision, whose number tells its ranges and its champion's version."""
        self.revision += 1
        sha, (lr, gbm, copy) = self.kit.sha(self.profile), self.servers.values()
        variants = [
            self.kit.variant(lr, "lr", "champion", sha=sha, v=str(self.revision)),
            self.kit.variant(gbm, "gbm", sha=sha),
            self.kit.variant(copy, "copy", sha=sha, mirror=100),
        ]
        return self.kit.record(
            variants,
            revision=self.revision,
            ranges=RANGES[self.revision % len(RANGES)],
            sticky=Sticky("Header", "default/flights", "x-user"),
            limits=Limits(deadline_ms=600, max_frame_rows=5 + 3 * (self.revision % 2)),
        )

    async def round(self, clients: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]) -> None:
        dice = self.dice
        for name in ("lr", "gbm"):
            self.servers[name].fault = dice.choice(FAULTS)
        asked = []
        for _, writer in clients:
            size = dice.choice([*[1] * 8, 2, 3, 11])
            rows = list(range(self._rows + 1, self._rows + 1 + size))
            self._rows += size
            user = dice.choice([None, *(f"u{number}" for number in range(4))])
            writer.write(self._request(rows, user))
            asked.append((rows, user))
        if dice.random() < 0.4:
            self.bench.store(self.record())
        for (reader, _), (rows, user) in zip(clients, asked, strict=True):
            async with asyncio.timeout(20):
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                headers = dict(line.split(": ", 1) for line in head[1:-2])
                body = json.loads(await reader.readexactly(int(headers["content-length"])))
            self._hear(Told(rows, user, int(head[0].split()[1]), *(headers[name] for name in SAID)), headers, body)

    def _request(self, rows: list[int], user: str | None) -> bytes:
        path = "/v1/models/flights:predict"
        body: dict[str, Any] = {"instances": [[row] for row in rows]}
        if self.dice.random() < 0.5:
            shape = self.dice.choice([[len(rows)], [len(rows), 1]])
            tensor = {"name": "distance", "datatype": "FP32", "data": rows, "shape": shape}
            path, body = "/v2/models/flights/infer", {"inputs": [tensor]}
        raw = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(raw)}\r\n"
        if user is not None:
            head += f"x-user: {user}\r\n"
        if self.dice.random() < 0.3:
            head += f"x-kingmaker-timeout-ms: {self.dice.choice([20, 40, 100])}\r\n"
        return head.encode() + b"\r\n" + raw

    def _hear(self, told: Told, headers: dict[str, str], body: Any) -> None:
        id = headers["x-prediction-id"].replace("-", "")
        assert id not in self.told
        self.told[id] = told
        if told.status != 200:
            assert told.status in (503, 504)
            return
        if "predictions" in body:
            found = [row["probabilities"][1] for row in body["predictions"]]
        else:
            assert (body["id"], body["model_version"]) == (headers["x-prediction-id"], told.version)
            found = next(t["data"] for t in body["outputs"] if t["name"] == "probabilities")[1::2]
        assert found == pytest.approx(scores(told.rows, told.variant), abs=1e-5)


def scores(rows: list[int], variant: str) -> list[float]:
    return [score_of([row], BIAS[variant]) for row in rows]


@asynccontextmanager
async def world(valkey: Any, kit: "Kit", seed: int) -> AsyncIterator[World]:
    settings = kit.settings(
        valkey.url,
        breaker={"failures": 3, "open_ms": 50, "probes": 1},
        upstream={"connections": 2, "eject_ms": 20},
        shadow={"timeout_ms": 20_000, "queue_size": 10_000, "connections": 1},  # no copy is lost, and many wait
    )
    async with (
        FakeModelServer(INPUTS, BIAS["lr"], name="lr", slow_s=0.03) as lr,
        FakeModelServer(INPUTS, BIAS["gbm"], name="gbm", slow_s=0.03) as gbm,
        FakeModelServer(INPUTS, BIAS["copy"], name="copy", slow_s=0.02, fault=Fault.SLOW) as copy,
        kit.running(settings, valkey.client) as bench,
    ):
        made = World(bench, kit, {"lr": lr, "gbm": gbm, "copy": copy}, random.Random(seed))
        await bench.publish(made.record(), [made.profile])
        await bench.challenger_is_up("gbm")
        await bench.challenger_is_up("copy")
        yield made


def recorded(bench: "Bench") -> dict[tuple[str, bool], list[dict[str, Any]]]:
    """Rows by the id of their request, and whether they are a shadow's."""
    found: dict[tuple[str, bool], list[dict[str, Any]]] = {}
    for batch in bench.batches():
        for at, id in enumerate(batch.columns["id"]):
            row = {name: column[at if len(column) > 1 else 0] for name, column in batch.columns.items()}
            row |= {"variant": batch.variant, "version": batch.version, "revision": batch.revision}
            row |= {"distance": batch.features[0][at], "assigned": batch.variants[row["assigned"]]}
            row["reason"] = labels.REASONS[row["reason"]]
            found.setdefault((bytes(id).hex(), row["reason"] == "shadow"), []).append(row)
    return found


def owner(revision: int, name: str) -> str:
    ranges = buckets.parse(RANGES[revision % len(RANGES)]).get("gbm", [])
    return "gbm" if any(a <= buckets.bucket_of("default/flights", name) <= z for a, z in ranges) else "lr"


def dashed(id: str) -> str:
    return "-".join((id[:8], id[8:12], id[12:16], id[16:20], id[20:]))


@pytest.mark.parametrize("seed", range(2))
async def test_rounds_of_all_kinds_are_answered_counted_recorded_and_copied_as_told(
    valkey: Any, kit: "Kit", seed: int
) -> None:
    async with world(valkey, kit, seed) as made:
        bench, told = made.bench, made.told
        url = bench.client.base_url
        clients = [await asyncio.open_connection(url.host, url.port) for _ in range(CLIENTS)]
        for _ in range(ROUNDS):
            await made.round(clients)
        for _, writer in clients:
            writer.close()
        copied = {id for id, one in told.items() if one.status == 200 and one.variant == "lr"}
        expected = {(id, False) for id in told} | {(id, True) for id in copied}
        assert bench.metric("shadow_dropped_total", model="flights", variant="copy") == 0
        await kit.until(lambda: recorded(bench).keys() >= expected)
        found = recorded(bench)
        assert found.keys() == expected
        for (id, is_copy), rows in found.items():
            one, first = told[id], found[id, False][0]
            variant, status = ("copy", 200) if is_copy else (one.variant, one.status)
            assert [row["distance"] for row in rows] == one.rows
            assert [row["row"] for row in rows] == list(range(len(one.rows)))
            assert {(row["variant"], row["status"]) for row in rows} == {(variant, status)}
            assert {row["key_hash"] for row in rows} == {0 if one.user is None else buckets.key_hash(one.user)}
            assert {row["assigned"] for row in rows} == {owner(first["revision"], one.user or dashed(id))}
            assert {(row["eligible"], row["revision"]) for row in rows} == {(3, first["revision"])}
            if not is_copy:
                assert {(row["version"], row["reason"]) for row in rows} == {(one.version, one.reason)}
            if status == 200:
                assert [row["score"] for row in rows] == pytest.approx(scores(one.rows, variant), abs=1e-5)
            else:
                assert all(np.isnan(row["score"]) for row in rows)
        for (variant, status), count in Counter((one.variant, one.status) for one in told.values()).items():
            assert bench.metric("requests_total", model="flights", variant=variant, code=str(status)) == count
        for variant, count in Counter(one.variant for one in told.values()).items():
            assert bench.metric("request_duration_seconds_count", model="flights", variant=variant) == count
        fallbacks = sum(one.reason == "fallback" for one in told.values())
        assert bench.metric("fallbacks_total", model="flights", variant="gbm") == fallbacks
        assert bench.metric("in_flight", model="flights") == 0
