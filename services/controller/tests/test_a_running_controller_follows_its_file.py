"""The controller as a process, with stand-in model servers and a real Valkey: edits of the file."""

import json
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kingmaker_contracts import keys

if TYPE_CHECKING:
    from services.controller.tests.conftest import Stack

LR = {"name": "lr", "model": "models:/flights/1"}
GBM = {"name": "gbm", "model": "models:/flights/2"}


def spec(*challengers: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"champion": LR, "challengers": list(challengers), **more}


def test_created_edited_by_rename_spoiled_repaired_and_stopped(stack: "Stack", valkey: Any, routing: Any) -> None:
    profile = b'{"not": "a profile"}'
    (stack.registry / "2.profile").write_bytes(profile)
    stack.write(spec(GBM, weights={"gbm": 10}))
    process = stack.start()
    stack.until(lambda: stack.condition("Ready")["status"] == "True", "the champion serves")
    stack.until(
        lambda: stack.condition("ResolvedRefs")["status"] == "False", "a profile that cannot be used is refused"
    )
    assert "BadProfile" in stack.condition("ResolvedRefs")["message"]
    (stack.registry / "2.profile").unlink()
    record = stack.until(lambda: (r := routing(valkey.client)) and r.ranges == "gbm:0-999" and r, "gbm gets 10 %")
    assert record.champion.endpoints
    assert valkey.client.sismember(keys.MODELS, "default/flights")
    plan = json.loads(valkey.client.get(keys.plan("default", "flights")))
    assert (plan["revision"], plan["rollout_id"]) == (record.revision, record.rollout_id)

    messages = valkey.client.pubsub()
    messages.subscribe(keys.ROUTING_CHANNEL)
    stack.write(spec(GBM, weights={"gbm": 20}))
    stack.until(lambda: routing(valkey.client).ranges == "gbm:0-1999", "the record follows the edit")
    stack.until(
        lambda: (m := messages.get_message()) and m["type"] == "message" and m["data"] == b"default/flights",
        "the change is published",
    )
    assert stack.model()["generation"] == 2

    stack.write(spec(GBM, weights={"gbm": 20}, feedback={"waitSeconds": 3600}))
    stack.until(
        lambda: json.loads(valkey.client.get(keys.plan("default", "flights")))["retention"]["pending_seconds"] == 3600,
        "the plan follows the edit",
    )
    assert stack.model()["generation"] == 3

    stack.file.write_text(stack.file.read_text()[:-30])
    stack.until(lambda: stack.condition("Accepted")["status"] == "False", "half a file is refused")
    assert "served-model.yaml:1:" in stack.condition("Accepted")["message"]
    stack.write(spec(GBM, weights={"gbm": 120}))
    stack.until(lambda: "spec.weights.gbm" in stack.condition("Accepted")["message"], "the fault is named")
    assert routing(valkey.client).ranges == "gbm:0-1999"
    stack.write(spec(GBM, weights={"gbm": 20}, feedback={"waitSeconds": 3600}))
    stack.until(lambda: stack.condition("Accepted")["status"] == "True", "a repaired file is accepted")
    assert stack.model()["generation"] == 3

    assert len(stack.servers()) == 2
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert stack.servers() == []


def test_a_crashed_model_server_is_started_again_while_its_buckets_wait(
    stack: "Stack", valkey: Any, routing: Any
) -> None:
    stack.write(spec(GBM, weights={"gbm": 20}))
    stack.start()
    stack.until(lambda: routing(valkey.client).ranges == "gbm:0-1999", "gbm gets 20 %")
    victim = next(v for v in routing(valkey.client).variants if v.name == "gbm").endpoints
    for pid in stack.servers():
        if f"PORT={victim[0].split(':')[1]}".encode() in Path(f"/proc/{pid}/environ").read_bytes():
            os.kill(pid, signal.SIGKILL)

    def gbm() -> Any:
        return next(v for v in routing(valkey.client).variants if v.name == "gbm")

    stack.until(lambda: gbm().endpoints == [], "its endpoint leaves the record")
    assert routing(valkey.client).ranges == "gbm:0-1999"
    stack.until(lambda: gbm().endpoints not in ([], victim), "it comes back on another port")
    assert routing(valkey.client).ranges == "gbm:0-1999"
    metrics = stack.get("/metrics").text
    flights = 'model="flights",namespace="default"'
    assert f'kingmaker_controller_variant_restarts_total{{{flights},variant="gbm"}} 1.0' in metrics
    assert f'kingmaker_controller_weight{{{flights},variant="lr"}} 80.0' in metrics
    assert f'kingmaker_controller_condition{{{flights},type="Ready"}} 1.0' in metrics
    reasons = [entry["reason"] for entry in stack.get("/api/models/flights/audit").json()]
    assert {"VariantFailed", "WeightChanged", "ChampionCrowned", "SpecAccepted"} <= set(reasons)


def test_a_removed_challenger_and_a_deposed_champion_stop_after_the_record_changed(
    stack: "Stack", valkey: Any, routing: Any
) -> None:
    (stack.registry / "@best").write_text("3")
    stack.write(spec(GBM, weights={"gbm": 20}))
    stack.start()
    stack.until(lambda: routing(valkey.client).ranges == "gbm:0-1999", "gbm gets 20 %")
    stack.write(spec())
    stack.until(lambda: len(routing(valkey.client).variants) == 1, "gbm leaves the record")
    stack.until(lambda: len(stack.servers()) == 1, "its server stops")
    stack.write({"champion": {"name": "nn", "model": "models:/flights@best"}})
    record = stack.until(lambda: (r := routing(valkey.client)).champion.name == "nn" and r, "nn reigns")
    assert record.champion.version == "3"
    assert record.champion.endpoints
    stack.until(lambda: len(stack.servers()) == 1, "the old champion stops")
    assert stack.status()["champion"]["name"] == "nn"


def test_a_model_that_does_not_start_says_its_last_words(stack: "Stack") -> None:
    (stack.registry / "2").write_text("this one dies")
    stack.write(spec(GBM, {"name": "gone", "model": "models:/flights/99"}, weights={"gbm": 20}))
    stack.start()
    stack.until(lambda: "the model is damaged" in stack.status()["message"], "the server's last line is shown")
    stack.until(lambda: "flights has no version 99" in stack.condition("ResolvedRefs")["message"], "the fetch's error")
    assert stack.status()["summary"]["weights"] == "lr=100,gbm=0"
    assert stack.condition("Ready")["status"] == "True"


def test_a_second_model_comes_and_goes_with_its_document(stack: "Stack", valkey: Any, routing: Any) -> None:
    stack.write(spec(), churn={"champion": {"name": "tree", "model": "models:/flights/3"}})
    stack.start()
    stack.until(lambda: routing(valkey.client, "churn") and routing(valkey.client), "both are routed")
    first = routing(valkey.client, "churn").revision
    assert [m["name"] for m in stack.get("/api/models").json()] == ["churn", "flights"]
    stack.write(spec())
    stack.until(lambda: routing(valkey.client, "churn") is None, "churn is not routed any more")
    assert valkey.client.smembers(keys.MODELS) == {b"default/flights"}
    stack.until(lambda: len(stack.servers()) == 1, "its server stops")
    assert stack.get("/api/models/churn").json()["code"] == "model_not_found"
    stack.write(spec(), churn={"champion": {"name": "tree", "model": "models:/flights/3"}})
    record = stack.until(lambda: routing(valkey.client, "churn"), "it comes back")
    assert record.revision > first, "gateways that missed the removal must take the new record"


def test_replicas_are_processes_and_local_paths_are_below_the_file(stack: "Stack", valkey: Any, routing: Any) -> None:
    (stack.folder / "mine.onnx").write_text("model of my own")
    local = {"name": "own", "model": "mine.onnx", "replicas": 2}
    stack.write({"champion": local})
    stack.start()
    stack.until(lambda: len(routing(valkey.client).champion.endpoints) == 2, "both replicas are routed")
    stack.write({"champion": {**local, "replicas": 1}})
    stack.until(lambda: len(routing(valkey.client).champion.endpoints) == 1, "one is left")
    stack.until(lambda: len(stack.servers()) == 1, "the other is gone")


def test_the_api_needs_its_token_and_metrics_do_not(stack: "Stack") -> None:
    import httpx

    stack.write(spec())
    stack.start()
    stack.until(lambda: stack.status()["phase"] == "Stable", "it serves")
    base = f"http://127.0.0.1:{stack.port}"
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic t0ken"}):
        for path in ("/api/models", "/api/models/flights", "/api/models/flights/audit"):
            answer = httpx.get(base + path, headers=headers, trust_env=False)
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
    for path in ("/metrics", "/health/live", "/health/ready"):
        assert httpx.get(base + path, trust_env=False).status_code == 200
    assert stack.get("/api/models/default/flights").json() == stack.model()
    assert stack.get("/api/models/other/flights").json()["code"] == "model_not_found"
    audit = stack.get("/api/models/default/flights/audit").json()
    assert audit[0]["reason"] == "SpecAccepted"
    assert audit == stack.get("/api/models/flights/audit").json()
    assert stack.get("/api/models/flights/audit?limit=1").json() == audit[-1:]
    assert stack.get("/api/models/nobody").json()["code"] == "model_not_found"
    assert stack.get("/api/models/flights/audit?limit=x").json()["code"] == "bad_input"
    assert httpx.post(base + "/api/models", trust_env=False).json()["code"] == "method_not_allowed"
    assert stack.get("/nothing").json()["code"] == "not_found"
    listed = stack.get("/api/models").json()[0]
    assert (listed["name"], listed["mode"], listed["spec"]["champion"]) == ("flights", "Canary", "lr")
    champion = stack.model()["spec"]["champion"]
    assert (champion["name"], champion["model"], champion["replicas"]) == ("lr", "models:/flights/1", 1)


def test_gateways_on_another_machine_are_told_a_name_they_can_reach(stack: "Stack", valkey: Any, routing: Any) -> None:
    stack.write(spec())
    stack.start(RUNTIME__HOST="localhost")
    record = stack.until(lambda: (r := routing(valkey.client)) and r.champion.endpoints and r, "the champion serves")
    assert [endpoint.partition(":")[0] for endpoint in record.champion.endpoints] == ["localhost"]
