"""The controller as a process: Redis that goes and comes, SIGKILL, a rival, foreign records."""

import contextlib
import signal
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from kingmaker_contracts import keys, wire
from kingmaker_contracts.profile import Profile, sha256_of

if TYPE_CHECKING:
    from services.controller.tests.conftest import Stack

LR = {"name": "lr", "model": "models:/flights@champion"}
GBM = {"name": "gbm", "model": "models:/flights/2"}
NN = {"name": "nn", "model": "models:/flights/3"}


def spec(*challengers: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"champion": LR, "challengers": list(challengers), **more}


@pytest.fixture(autouse=True)
def alias(request: pytest.FixtureRequest) -> None:
    for name in {"stack", "own_stack"} & set(request.fixturenames):
        (request.getfixturevalue(name).registry / "@champion").write_text("1")


def test_redis_may_be_absent_vanish_and_come_back_empty(own_stack: "Stack", own_valkey: Any, routing: Any) -> None:
    stack = own_stack
    profile = wire.write_json(Profile("flights", "0" * 64, [], [], None, None, None, None, "2026-11-21T00:00:00Z"))
    profile_key = keys.profile("default", "flights", sha256_of(profile))
    (stack.registry / "1.profile").write_bytes(profile)
    own_valkey.stop()
    stack.write(spec(GBM, NN, weights={"gbm": 10}))
    process = stack.start()
    stack.until(lambda: stack.condition("Programmed")["reason"] == "RedisUnavailable", "it waits and says so")
    stack.until(lambda: stack.condition("Ready")["status"] == "True", "model servers start without Redis")
    own_valkey.start()
    stack.until(lambda: routing(own_valkey.client).ranges == "gbm:0-999", "the record is written when Redis comes")
    assert routing(own_valkey.client).champion.profile == sha256_of(profile)
    assert own_valkey.client.get(profile_key) == profile
    stack.write(spec(GBM, NN, weights={"gbm": 20, "nn": 10}))
    stack.until(lambda: routing(own_valkey.client).ranges == "gbm:0-1999,nn:2000-2999", "both get traffic")
    stack.write(spec(GBM, NN, weights={"gbm": 10, "nn": 20}))
    history = "gbm:0-999,nn:1000-2999"
    stack.until(lambda: routing(own_valkey.client).ranges == history, "nn takes what gbm gave back")
    servers = sorted(stack.servers())

    own_valkey.stop(signal.SIGKILL)
    stack.until(lambda: stack.condition("Programmed")["reason"] == "RedisUnavailable", "the loss is seen")
    for path in (own_valkey.folder / "appendonlydir").iterdir():
        path.unlink()
    own_valkey.start()
    record = stack.until(lambda: routing(own_valkey.client), "an empty Redis gets its record back")
    assert record.ranges == history
    assert own_valkey.client.get(profile_key) == profile
    assert own_valkey.client.sismember(keys.MODELS, "default/flights")
    assert sorted(stack.servers()) == servers, "losing Redis stops no model server"
    assert process.poll() is None


def test_what_somebody_else_writes_is_put_right(stack: "Stack", valkey: Any, routing: Any) -> None:
    stack.write(spec(GBM, weights={"gbm": 10}))
    stack.start()
    stack.until(lambda: routing(valkey.client).ranges == "gbm:0-999", "gbm gets 10 %")
    key, plan_key = keys.routing("default", "flights"), keys.plan("default", "flights")
    corrections = 0
    for tampering in ("higher revision", "higher epoch", "same order", "malformed", "plan", "index"):
        stack.until(lambda: stack.condition("Programmed")["reason"] == "NoGateway", "it is programmed")
        mine = routing(valkey.client)
        foreign = {
            "higher revision": msgspec.structs.replace(mine, ranges="gbm:0-9999", revision=mine.revision + 1000),
            "higher epoch": msgspec.structs.replace(mine, ranges="gbm:0-9999", epoch=mine.epoch + 50),
            "same order": msgspec.structs.replace(mine, ranges="gbm:0-9999"),
        }.get(tampering)
        plan = valkey.client.get(plan_key)
        if foreign is not None:
            valkey.client.set(key, wire.write_json(foreign))
        elif tampering == "malformed":
            valkey.client.set(key, b'{"epoch": 99, "revision": "many"')
        elif tampering == "plan":
            valkey.client.set(plan_key, b"{}")
        else:
            valkey.client.srem(keys.MODELS, "default/flights")

        def is_right(tampering: str = tampering, foreign: Any = foreign, plan: Any = plan) -> bool:
            record = routing(valkey.client)
            return (
                record.ranges == "gbm:0-999"
                and (foreign is None or record.order > foreign.order)
                and valkey.client.sismember(keys.MODELS, "default/flights")
                and (tampering != "plan" or valkey.client.get(plan_key) == plan)
            )

        stack.until(is_right, f"after {tampering} the record is right again")
        corrections += foreign is not None or tampering == "malformed"
        reasons = [entry["reason"] for entry in stack.get("/api/models/flights/audit").json()]
        assert reasons.count("WeightDriftCorrected") == corrections


def test_sigkill_takes_the_children_along_and_a_restart_keeps_champion_versions_and_ranges(
    stack: "Stack", valkey: Any, routing: Any
) -> None:
    stack.write(spec(GBM, NN, weights={"nn": 10}))
    process = stack.start()
    stack.until(lambda: routing(valkey.client).ranges == "nn:0-999", "nn gets 10 %")
    stack.write(spec(GBM, NN, weights={"gbm": 10, "nn": 10}))
    before = stack.until(lambda: (r := routing(valkey.client)).ranges == "nn:0-999,gbm:1000-1999" and r, "then gbm")
    status = stack.status()
    process.kill()
    process.wait()
    stack.until(lambda: stack.servers() == [], "children die with their parent")

    (stack.registry / "@champion").write_text("3")
    for version in ("1", "2", "3"):
        (stack.registry / version).unlink()  # a restart needs no registry for what was fetched before
    valkey.client.flushall()
    stack.start()
    record = stack.until(
        lambda: (r := routing(valkey.client)) and all(v.endpoints for v in r.variants) and r, "all serve again"
    )
    assert record.ranges == before.ranges
    assert record.epoch > before.epoch
    assert record.revision > before.revision
    assert [(v.name, v.version) for v in record.variants] == [(v.name, v.version) for v in before.variants]
    after = stack.status()
    assert after["champion"] == status["champion"]
    assert after["rolloutID"] == status["rolloutID"]
    assert stack.model()["generation"] == 2


def test_a_second_controller_on_the_same_state_is_refused_by_name_and_a_taken_port_too(
    stack: "Stack", free_port: int
) -> None:
    stack.write(spec())
    first = stack.start()
    stack.until(lambda: stack.status()["phase"] == "Stable", "the first one serves")
    log = stack.log.read_text()
    second = stack.start(port=0)
    assert second.wait(20) == 4
    lines = stack.log.read_text().removeprefix(log).strip().splitlines()
    refusal = [line for line in lines if line.startswith("kingmaker-controller:")]
    assert len(refusal) == 1
    assert f"pid {first.pid} on " in refusal[0]
    log = stack.log.read_text()
    assert stack.start(STATE_DIR=str(stack.folder / "other")).wait(20) == 3
    refusal = stack.log.read_text().removeprefix(log).strip().splitlines()
    assert [f"port {stack.port} on 127.0.0.1 is taken" in line for line in refusal] == [True]
    assert first.poll() is None


def test_a_controller_that_lost_its_lease_stops_and_says_to_whom(stack: "Stack") -> None:
    stack.write(spec())
    process = stack.start()
    stack.until(lambda: stack.status()["phase"] == "Stable", "it serves")
    with contextlib.closing(sqlite3.connect(stack.folder / ".kingmaker" / "state.db")) as database, database:
        database.execute("UPDATE lease SET holder = 'a usurper'")
    assert process.wait(20) == 4
    assert "kingmaker-controller: the lease is held by a usurper now" in stack.log.read_text()
    assert stack.servers() == []


def test_a_stubborn_model_server_does_not_keep_the_controller_from_stopping(stack: "Stack") -> None:
    (stack.registry / "1").write_text("stubborn")
    stack.write(spec())
    process = stack.start(RUNTIME__STOP_GRACE_S="0.5")
    stack.until(lambda: stack.status()["phase"] == "Stable", "it serves")
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert stack.servers() == []
    assert Path(stack.folder / ".kingmaker" / "logs" / "default.flights.lr.log").exists()
