"""One sample of every wire form. `python -m tests.contracts.samples` writes them anew into golden/.

A golden file that changes is a change of contract: running pods of the last release read the old
form. Rewrite the files only together with a note in CHANGELOG.md.
"""

import base64
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np

from kingmaker_contracts import (
    acks,
    events,
    evidence,
    feedback,
    plan,
    prediction_ids,
    profile,
    rare_categories,
    report,
    routing,
    status,
    tensors,
)
from kingmaker_contracts.inference import InferResponse, Tensor

GOLDEN = Path(__file__).parent / "golden"
SHA = "3f2a" * 16
IDS = [prediction_ids.new(1_790_000_000_000 + i, bytes(range(i, i + 9)), 0) for i in range(3)]

ROUTING = routing.RoutingRecord(
    namespace="default",
    name="flights",
    revision=57,
    epoch=3,
    generation=4,
    rollout_id="flights-3f2a91c0",
    mode="Canary",
    variants=[
        routing.RoutedVariant("lr", "champion", "1", "flights", ["127.0.0.1:9001"], 80, 0, SHA),
        routing.RoutedVariant("gbm", "challenger", "2", "flights", ["127.0.0.1:9002", "127.0.0.1:9003"], 20, 50, SHA),
    ],
    ranges="gbm:0-1999",
    sticky=routing.Sticky("Header", "default/flights", "x-user-id"),
    overrides="Allowed",
    limits=routing.Limits(),
    source="Manual",
    updated_at="2026-11-21T01:00:00Z",
    sensitive=["age"],
)
WITHDRAWAL = routing.Withdrawal("default", "flights", 3)
PLAN = plan.Plan(
    namespace="default",
    name="flights",
    revision=57,
    epoch=3,
    rollout_id="flights-3f2a91c0",
    variants=[
        plan.PlannedVariant("lr", "champion", "1", SHA),
        plan.PlannedVariant("gbm", "challenger", "2", None),
    ],
    segments=["carrier"],
    sensitive=["age"],
)
PROFILE = profile.Profile(
    name="flights",
    onnx_sha256=SHA,
    inputs=[
        profile.Feature("distance", "FP32", [-1, 1], "numeric", nullable=True),
        profile.Feature("carrier", "BYTES", [-1, 1], "categorical"),
    ],
    outputs=[profile.Output("label", "INT64", [-1]), profile.Output("probabilities", "FP32", [-1, 2])],
    score=profile.Score("binary", "probabilities", 1, "1", ["0", "1"], "label"),
    reference=profile.Reference(
        rows=10,
        numeric={"distance": profile.NumericReference([100.0, 200.5], [3, 4, 2], 1, 50.0, 900.0, 180.25, 70.5)},
        categorical={"carrier": profile.CategoricalReference(["AA", "UA"], [6, 3], 1, 0, rare_categories.of(["HA"]))},
        score=profile.NumericReference([0.5], [7, 3], 0, 0.01, 0.99, 0.2, 0.1),
    ),
    quality=profile.Quality(5, {"auc": 0.94, "accuracy": 0.9}),
    parity=profile.Parity(5, 2.5e-7, 1e-5),
    created_at="2026-11-21T01:00:00Z",
    calibration=[profile.CalibrationBin(5, 0.2, 0.25)],
    importance={"distance": 0.01},
    libraries={"skl2onnx": "1.20.0"},
)
EVENTS = events.EventBatch(
    producer="gateway-0/6f1d",
    seq=12,
    sent=400,
    dropped=3,
    t0=1_790_000_000_000,
    revision=57,
    rollout="flights-3f2a91c0",
    variant="lr",
    version="1",
    role="champion",
    schema=SHA,
    variants=["lr", "gbm"],
    columns={
        "id": np.array([np.void(i) for i in IDS]),
        "row": np.array([0, 0, 0], "<u2"),
        "assigned": np.array([0, 1, 0], "<u1"),
        "reason": np.array([0, 3, 0], "<u1"),
        "eligible": np.array([1, 1, 1], "<u1"),
        "key_hash": np.array([7, 8, 9], "<u8"),
        "dt": np.array([0, 1000, 2500], "<u4"),
        "latency": np.array([900, 51000, 850], "<u4"),
        "status": np.array([200, 200, 503], "<u2"),
        "score": np.array([0.25, 0.75, np.nan], "<f4"),
        "label": np.array([0, 1, events.NO_LABEL], "<u1"),
    },
    features=np.array([[100.0, np.nan, 300.0], [0.0, 2.0, 3.0]], "<f4"),
    unseen={"carrier": ["ZZ"]},
    rare=["carrier"],
    withheld=["age"],
)
FEEDBACK = feedback.FeedbackBatch(
    1_790_000_100_000,
    [
        feedback.LabelEvent(IDS[0], None, 1, "2026-09-22T10:00:00Z", "airport"),
        feedback.LabelEvent(IDS[1], 2, "late"),
    ],
)
ACK = acks.GatewayAck(
    producer="gateway-0/6f1d",
    partition=0,
    started_at="2026-11-21T01:00:00Z",
    updated_at="2026-11-21T01:00:05Z",
    revisions={"default/flights": 57},
    epochs={"default/flights": 3},
    accounts={"default/flights": acks.EventAccount(sent=403, dropped=3, last_seq=12, written=400)},
    namespace="default",
)
EVIDENCE = evidence.Evidence(
    namespace="default",
    name="flights",
    rollout_id="flights-3f2a91c0",
    as_of="2026-11-21T01:00:05Z",
    variants={
        "lr": evidence.VariantEvidence(
            role="champion",
            version="1",
            assigned=402,
            answered=403,
            errors=1,
            fallbacks=0,
            ineligible=0,
            shadowed=0,
            shadow_errors=0,
            latency=evidence.Latency(0.9, 1.4, None),
            quality=evidence.LiveQuality(100, 15, 0.94, 0.92, 0.17, 0.05),
            drift={"distance": evidence.FeatureDrift("Stable", 403, 0.01, 0.0, 0.04, 0.02, 0.0)},
            score_drift=evidence.FeatureDrift("NoData", 0),
            mean_score=0.15,
        )
    },
    agreement={"gbm": evidence.Agreement(50, 0.98, 0.02, 1, 2, 40)},
    events=evidence.Events(403, 400, 3, 0, 0, 0, 0.2),
    feedback=evidence.Feedback(101, 100, 1, 0, 0, 0, 0, 303),
)
COLUMN = report.ColumnDrift(
    "Warning", "Drifted", 403, 10, 0.3, 0.28, 0.04, 0.2, 0.15, 0.1, 0.05, 20.5, 0.001, 0.2, 0.01, 0.4, -0.3
)
DRIFT = report.DriftTable(
    "Warning",
    judged=1,
    drifted=0,
    warned=1,
    drifted_share=0.0,
    headline=0.28,
    columns={"distance": COLUMN},
    prediction=report.ColumnDrift("NoData", "NoData", 3, 10),
    classes={"1": report.ClassShare(0.2, 0.1, 1.0, True)},
)
REPORT = report.ModelReport(
    **{name: getattr(EVIDENCE, name) for name in EVIDENCE.__struct_fields__ if name != "v"},
    drift_as_of="2026-11-21T01:00:04Z",
    windows={
        "lr": {
            "1h": report.WindowReport(
                since="2026-11-21T00:05:00Z",
                assigned=402,
                answered=403,
                errors=1,
                fallbacks=0,
                ineligible=0,
                shadowed=0,
                shadow_errors=0,
                latency=evidence.Latency(0.9, 1.4, None),
                quality=evidence.LiveQuality(100, 15, 0.94, 0.92, 0.17, 0.05),
                mean_score=0.15,
                drift={"training": DRIFT},
            )
        }
    },
    segments={
        "carrier": {
            "UA": {
                "gbm": {
                    "24h": report.SegmentReport(
                        answered=80,
                        errors=0,
                        shadowed=0,
                        share=0.2,
                        reference_share=0.25,
                        latency=evidence.Latency(0.9, 1.4, 2.0),
                        quality=evidence.LiveQuality(0, 0, None, None, None, None, 1.5, 2.5, -0.5),
                        mean_score=0.2,
                        verdict="Drifted",
                        drifted=["distance"],
                        headline=0.3,
                        prediction=COLUMN,
                    )
                }
            }
        }
    },
    pipeline=report.Pipeline(
        redis_up=True,
        lease=3,
        producers=[report.Producer("gateway-0/6f1d", 0, 403, 400, 3, 0, False)],
        streams=[report.StreamHealth("km:{default/flights}:events:0", 12, 1, 0.2)],
        trimmed_events=0,
        trimmed_feedback=1,
        misdated=2,
        replaced=0,
        damaged_panes=0,
        clock_jumps=0,
        profiles={"lr": report.ProfileHealth(SHA, "usable", [], 0, 0, ["carrier"])},
        segment_faults=["gbm: segment carrier is no feature with a reference in its profile"],
        mishaps=[report.Mishap("2026-11-20T00:00:00Z", "set aside as monitor.db.damaged-1")],
        folded_lives=3,
        sensitive_faults=["sensitive age is no feature of any variant"],
    ),
)
STATUS = status.Status(
    observed_generation=4,
    phase="Progressing",
    message="gbm serves 20 % beside champion lr",
    rollout_id="flights-3f2a91c0",
    champion=status.ChampionStatus("lr", "1", "2026-11-21T01:00:00Z", "flights-3f2a91c0"),
    spec_champion=status.SpecChampion("lr", "models:/flights@champion"),
    summary=status.Summary("lr=80,gbm=20", ""),
    routing=status.RoutingStatus(57, 3, 80, "gbm:0-1999", [status.RoutedWeight("gbm", 20, 50)]),
    variants=[status.VariantStatus("lr", "models:/flights@champion", "1", "Ready", SHA, SHA)],
    conditions=[
        status.Condition("Accepted", "True", "Valid", "the resource is valid", "2026-11-21T01:00:00Z", 4),
    ],
)
ANSWER = InferResponse(
    model_name="flights",
    outputs=[
        Tensor("label", "INT64", np.array([0, 1])),
        Tensor("probabilities", "FP32", np.array([[0.75, 0.25], [0.125, 0.875]], np.float32)),
        Tensor("names", "BYTES", np.array(["no", "ja"], object)),
    ],
    model_version="1",
    id="42",
)
CALL = [
    Tensor("distance", "FP32", np.array([[1400.0], [np.nan]], np.float32)),
    Tensor("carrier", "BYTES", np.array([["UA"], ["Ä"]], object)),
]


def _json(record: msgspec.Struct) -> Callable[[], bytes]:
    return lambda: msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n"


def _lines(raw: bytes) -> bytes:
    return base64.encodebytes(raw)


FORMS: dict[str, Callable[[], bytes]] = {
    "routing.json": _json(ROUTING),
    "withdrawal.json": _json(WITHDRAWAL),
    "plan.json": _json(PLAN),
    "profile.json": _json(PROFILE),
    "gateway-ack.json": _json(ACK),
    "evidence.json": _json(EVIDENCE),
    "model-report.json": _json(REPORT),
    "status.json": _json(STATUS),
    "events.b64": lambda: _lines(events.encode(EVENTS)),
    "feedback.b64": lambda: _lines(feedback.encode(FEEDBACK)),
    "oip-answer.json": lambda: msgspec.json.format(tensors.encode_response(ANSWER)[0], indent=2) + b"\n",
    "oip-answer-binary.b64": lambda: _lines(tensors.encode_response(ANSWER, frozenset({"label", "probabilities"}))[0]),
    "oip-request-binary.b64": lambda: _lines(tensors.encode_request(CALL, ["label"])[0]),
}


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for name, form in FORMS.items():
        (GOLDEN / name).write_bytes(form())
