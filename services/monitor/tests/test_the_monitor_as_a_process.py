"""The real process on a real Valkey: what it serves, what it survives, how it refuses."""

import signal
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from kingmaker_contracts import keys
from kingmaker_contracts.acks import EventAccount, GatewayAck
from kingmaker_contracts.evidence import Evidence
from kingmaker_contracts.wire import write_json

if TYPE_CHECKING:
    from services.monitor.tests.conftest import Process, World


@pytest.fixture
def monitor(new_process: "Callable[..., Process]", valkey: Any) -> Any:
    process = new_process(valkey.url)
    process.start()
    return process


def test_evidence_is_served_and_written(
    monitor: Any, publish: Callable[..., None], valkey: Any, world: "World"
) -> None:
    publish(valkey.client, world.plan(), world.batch(1, 600), world.batch(2, 10, "gbm", sent=600))
    publish(valkey.client, world.labels((1000, 1), (1001, 0), (2000, 1)))
    monitor.until(lambda: monitor.evidence().feedback.joined == 3)
    served = monitor.evidence()
    key = keys.evidence("default", "flights")
    written = monitor.until(
        lambda: (
            (found := msgspec.json.decode(valkey.client.get(key) or b"null", type=Evidence | None))
            and found.feedback.joined == 3
            and found
        )
    )
    assert msgspec.structs.replace(written, as_of="") == msgspec.structs.replace(served, as_of="")
    assert served.variants["lr"].drift["distance"].verdict == "Stable"
    first = written.as_of
    monitor.until(lambda: msgspec.json.decode(valkey.client.get(key), type=Evidence).as_of > first)
    listed = monitor.get("/api/models").json()["models"]
    assert [(model["name"], model["variants"]) for model in listed] == [("flights", ["lr", "gbm"])]


def test_metrics_come_from_the_evidence_and_hold_no_number_that_is_not_there(
    monitor: Any, publish: Callable[..., None], valkey: Any, world: "World"
) -> None:
    publish(valkey.client, world.plan(), world.batch(1, 600))
    monitor.until(lambda: monitor.evidence().events.stored == 600)
    text = monitor.get("/metrics").text
    assert 'kingmaker_monitor_requests_total{model="flights",variant="lr"} 600.0' in text
    assert 'kingmaker_monitor_events_stored_total{model="flights"} 600.0' in text
    assert 'kingmaker_monitor_feature_psi{feature="distance",model="flights",variant="lr"}' in text
    assert 'kingmaker_monitor_latency_p99_seconds{model="flights",variant="lr"}' in text
    assert "kingmaker_monitor_redis_up 1.0" in text
    assert "kingmaker_monitor_quality_auc{" not in text
    assert 'kingmaker_monitor_latency_p99_seconds{model="flights",variant="gbm"}' not in text
    assert "nan" not in text.lower()
    publish(valkey.client, world.plan("r2", lr="1"))
    monitor.until(lambda: 'variant="gbm"' not in monitor.get("/metrics").text)


def test_the_api_is_documented_and_its_errors_have_a_body(
    monitor: Any, valkey: Any, publish: Callable[..., None], world: "World"
) -> None:
    publish(valkey.client, world.plan())
    monitor.until(lambda: monitor.get("/health/ready").status_code == 200)
    document = monitor.get("/openapi.json").json()
    answer = document["paths"]["/api/models/{model}"]["get"]["responses"]["200"]["content"]["application/json"]
    assert answer["schema"] == {"$ref": "#/components/schemas/ModelReport"}
    assert "VariantEvidence" in document["components"]["schemas"]
    assert monitor.get("/docs").status_code == 200
    for path in ("/api/models/nobody", "/api/nothing"):
        missing = monitor.get(path)
        assert missing.status_code == 404
        assert set(missing.json()) == {"error", "code"}
    assert monitor.get("/api/models/nobody").json()["code"] == "model_not_found"


def test_a_model_without_a_plan_is_counted_and_judged_once_the_plan_is_there(
    monitor: Any, publish: Callable[..., None], valkey: Any, world: "World"
) -> None:
    valkey.client.sadd(keys.MODELS, world.model, "elsewhere/flights", "nonsense")
    publish(valkey.client, world.batch(1))
    monitor.until(lambda: monitor.get("/api/models").json()["models"])
    assert monitor.get("/api/models").json()["models"] == [
        {"name": "flights", "rollout_id": None, "as_of": None, "variants": []}
    ]
    assert "no plan" in monitor.get("/api/models/flights").json()["error"]
    publish(valkey.client, world.plan())
    monitor.until(lambda: monitor.evidence().variants["lr"].answered == 10)
    valkey.client.set(keys.plan("default", "flights"), b"{")
    publish(valkey.client, world.batch(2))
    monitor.until(lambda: monitor.evidence().variants["lr"].answered == 20)


def test_unreadable_entries_are_counted_and_skipped(
    monitor: Any, publish: Callable[..., None], valkey: Any, world: "World"
) -> None:
    publish(valkey.client, world.plan(), world.batch(1))
    good = valkey.client.xrange(world.event_stream.key)[0][1][b"b"]
    other_version = good.replace(b"\xa1v\x01", b"\xa1v\x63", 1)
    assert other_version != good
    stray = world.batch(2, sent=10)
    stray.columns["assigned"][3] = 9
    for raw in (b"", b"\xff\x00junk", good[:-7], other_version):
        valkey.client.xadd(world.event_stream.key, {"b": raw})
        valkey.client.xadd(world.feedback_stream.key, {"b": raw})
    valkey.client.xadd(world.event_stream.key, {"other": b"x"})
    publish(valkey.client, stray, world.batch(3, sent=20), world.labels((3000, 1)))
    monitor.until(lambda: monitor.evidence().feedback.joined == 1)
    events = monitor.evidence().events
    assert (events.malformed, events.stored, events.lost) == (10, 20, 10)


def test_an_ack_proves_the_loss_behind_the_last_entry(
    monitor: Any, publish: Callable[..., None], valkey: Any, world: "World"
) -> None:
    publish(valkey.client, world.plan(), world.batch(1))
    ack = GatewayAck("gw-1", 0, "", "", {}, {}, {world.model: EventAccount(sent=45, dropped=5, last_seq=4)})
    publish(valkey.client, ack)
    monitor.until(lambda: monitor.evidence().events.lost == 30)
    events = monitor.evidence().events
    assert (events.sent, events.dropped, events.stored) == (45, 5, 10)


def test_trimmed_entries_are_lost_and_said_so(
    new_process: "Callable[..., Process]", publish: Callable[..., None], valkey: Any, world: "World"
) -> None:
    publish(valkey.client, world.plan(), *[world.batch(seq) for seq in range(1, 11)])
    valkey.client.xtrim(world.event_stream.key, maxlen=4, approximate=False)
    monitor = new_process(valkey.url)
    monitor.start()
    monitor.until(lambda: monitor.evidence().events.stored == 40)
    assert monitor.evidence().events.lost == 60


def test_redis_may_vanish_and_come_back(
    new_process: "Callable[..., Process]", publish: Callable[..., None], own_valkey: Any, world: "World"
) -> None:
    publish(own_valkey.client, world.plan(), world.batch(1))
    monitor = new_process(own_valkey.url)
    monitor.start()
    monitor.until(lambda: monitor.evidence().events.stored == 10)
    own_valkey.stop(signal.SIGKILL)
    monitor.until(lambda: "kingmaker_monitor_redis_up 0.0" in monitor.get("/metrics").text)
    assert monitor.evidence().variants["lr"].answered == 10
    monitor.stop(signal.SIGKILL)
    monitor.start()  # without Redis it knows what the file knows
    monitor.until(lambda: monitor.evidence().variants["lr"].answered == 10)
    own_valkey.start()
    publish(own_valkey.client, world.batch(2))
    monitor.until(lambda: monitor.evidence().variants["lr"].answered == 20)
    monitor.until(lambda: "kingmaker_monitor_redis_up 1.0" in monitor.get("/metrics").text)
    assert "redis away" in monitor.log.read_text()


@pytest.mark.parametrize("damage", ["junk", "middle"])
def test_a_damaged_file_is_set_aside_and_the_streams_are_read_again(
    new_process: "Callable[..., Process]", publish: Callable[..., None], valkey: Any, world: "World", damage: str
) -> None:
    publish(valkey.client, world.plan(), *[world.batch(seq, 100) for seq in range(1, 31)])
    monitor = new_process(valkey.url)
    monitor.start()
    monitor.until(lambda: monitor.evidence().events.stored == 3000)
    assert monitor.stop() == 0
    raw = bytearray(monitor.state_file.read_bytes())
    if damage == "junk":
        raw[:] = b"not a database at all" * 1000
    else:
        raw[8192:-8192] = b"\xa5" * (len(raw) - 16384)
    monitor.state_file.write_bytes(raw)
    monitor.start()
    monitor.until(lambda: monitor.evidence().events.stored == 3000)
    assert (monitor.folder / "monitor.db.damaged-1").read_bytes() == bytes(raw)
    assert "state file damaged, set aside" in monitor.log.read_text()


def test_a_second_monitor_on_the_file_refuses(monitor: Any, new_process: "Callable[..., Process]", valkey: Any) -> None:
    monitor.until(lambda: monitor.get("/health/live").status_code == 200)
    second = new_process(valkey.url, port="0")
    code, said = second.run()
    assert code == 4
    assert said.count("\n") == 1
    assert "in use by another monitor" in said


def test_a_taken_port_is_one_clear_line(new_process: "Callable[..., Process]", valkey: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, said = new_process(valkey.url, port=str(port)).run()
    assert code == 2
    assert said == f"kingmaker-monitor: port {port} on 127.0.0.1 is taken by another process; choose another port\n"


@pytest.mark.parametrize(
    ("settings", "code", "messages"),
    [
        (
            {"evaluate_seconds": "soon", "partitions": "0", "log_level": "LOUD"},
            2,
            [
                "KINGMAKER_MONITOR_EVALUATE_SECONDS: Input should be a valid number",
                "KINGMAKER_MONITOR_PARTITIONS: Input should be greater than or equal to 1",
                "KINGMAKER_MONITOR_LOG_LEVEL: Value error, 'LOUD' is not",
            ],
        ),
        ({"evaluate_second": "1"}, 2, ["unknown setting KINGMAKER_MONITOR_EVALUATE_SECOND"]),
        ({"state_file": "/proc/nowhere/monitor.db"}, 3, ["state file /proc/nowhere/monitor.db cannot be used"]),
    ],
)
def test_wrong_settings_are_named(
    new_process: "Callable[..., Process]", valkey: Any, settings: dict[str, str], code: int, messages: list[str]
) -> None:
    found, said = new_process(valkey.url, **settings).run()
    assert found == code
    assert said.count("\n") == len(messages)
    for message in messages:
        assert message in said


def test_a_profile_that_comes_late_is_used_from_then_on(
    monitor: Any, publish: Callable[..., None], valkey: Any, world: "World"
) -> None:
    client = valkey.client
    client.sadd(keys.MODELS, world.model)
    client.set(keys.plan("default", "flights"), write_json(world.plan()))
    publish(client, world.batch(1))
    monitor.until(lambda: monitor.evidence().variants["lr"].answered == 10)
    assert monitor.evidence().variants["lr"].drift == {}
    client.set(keys.profile("default", "flights", world.schema), world.raw_profile)
    monitor.until(lambda: monitor.evidence().variants["lr"].drift)
    publish(client, world.batch(2))
    monitor.until(lambda: monitor.evidence().variants["lr"].drift["distance"].n == 10)
