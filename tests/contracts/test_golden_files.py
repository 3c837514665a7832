"""What is on the wire and in Redis stays as running pods know it."""

import base64
from typing import Any

import numpy as np
import pytest

from kingmaker_contracts import acks, events, evidence, feedback, plan, profile, report, routing, status, tensors, wire
from tests.contracts import samples


@pytest.mark.parametrize("name", samples.FORMS)
def test_every_wire_form_is_written_as_its_golden_file_says(name: str) -> None:
    assert samples.FORMS[name]() == (samples.GOLDEN / name).read_bytes()


@pytest.mark.parametrize(
    ("name", "kind", "sample"),
    [
        ("routing.json", routing.RoutingRecord, samples.ROUTING),
        ("withdrawal.json", routing.Withdrawal, samples.WITHDRAWAL),
        ("plan.json", plan.Plan, samples.PLAN),
        ("profile.json", profile.Profile, samples.PROFILE),
        ("gateway-ack.json", acks.GatewayAck, samples.ACK),
        ("evidence.json", evidence.Evidence, samples.EVIDENCE),
        ("model-report.json", report.ModelReport, samples.REPORT),
        ("status.json", status.Status, samples.STATUS),
    ],
)
def test_every_golden_record_is_read_back_whole(name: str, kind: Any, sample: Any) -> None:
    assert wire.read_json((samples.GOLDEN / name).read_bytes(), kind) == sample


def test_who_knows_only_evidence_reads_it_out_of_a_report() -> None:
    assert wire.read_json((samples.GOLDEN / "model-report.json").read_bytes(), evidence.Evidence) == samples.EVIDENCE


def test_a_field_of_a_newer_writer_is_ignored() -> None:
    raw = (samples.GOLDEN / "routing.json").read_bytes().replace(b'"revision"', b'"tomorrow": 1, "revision"', 1)
    assert wire.read_json(raw, routing.RoutingRecord) == samples.ROUTING


def test_a_record_of_another_version_is_refused_by_name() -> None:
    raw = (samples.GOLDEN / "routing.json").read_bytes().replace(b'"v": 1', b'"v": 2')
    with pytest.raises(wire.BadRecord, match=r"RoutingRecord: .*\$\.v"):
        wire.read_json(raw, routing.RoutingRecord)


def test_the_golden_event_entry_is_read_back_column_by_column() -> None:
    batch = events.decode(base64.decodebytes((samples.GOLDEN / "events.b64").read_bytes()))
    for name, column in samples.EVENTS.columns.items():
        assert batch.columns[name].tobytes() == column.tobytes(), name
    np.testing.assert_array_equal(batch.features, samples.EVENTS.features)
    for field in ("producer", "seq", "sent", "dropped", "t0", "revision", "rollout", "variant", "version", "role"):
        assert getattr(batch, field) == getattr(samples.EVENTS, field)
    assert (batch.schema, batch.variants, batch.unseen) == (samples.SHA, ["lr", "gbm"], {"carrier": ["ZZ"]})
    assert (batch.rare, batch.withheld) == (["carrier"], ["age"])


def test_the_golden_feedback_entry_is_read_back() -> None:
    raw = base64.decodebytes((samples.GOLDEN / "feedback.b64").read_bytes())
    assert feedback.decode(raw) == samples.FEEDBACK


def test_a_binary_answer_is_read_back_bit_for_bit() -> None:
    body, length = tensors.encode_response(samples.ANSWER, frozenset({"probabilities"}))
    answer = tensors.decode_response(body, length)
    for sent, got in zip(samples.ANSWER.outputs, answer.outputs, strict=True):
        assert (got.name, got.datatype, got.shape) == (sent.name, sent.datatype, sent.shape)
        assert got.array.tolist() == sent.array.tolist()
