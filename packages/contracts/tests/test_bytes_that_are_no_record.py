"""Whatever stands where a record should, a reader is told in one way that it is none."""

import pytest

from kingmaker_contracts import wire
from kingmaker_contracts.acks import GatewayAck
from kingmaker_contracts.plan import Plan
from kingmaker_contracts.routing import RoutingRecord
from kingmaker_contracts.wire import BadRecord

CASES = {
    "nothing": b"",
    "no JSON": b"\x00\xff",
    "another form": b"[]",
    "a text that is not UTF-8": b'{"namespace": "\xff", "producer": "\xff"}',
    "a field without end": b'{"x": ' + b"[" * 100_000,
    "half a surrogate pair": b'{"namespace": "\\ud800", "producer": "\\ud800"}',
    "a number no float holds": b'{"revision": 1e400, "partition": 1e400}',
    "a number of thousands of digits": b'{"revision": %b, "partition": %b}' % ((b"1" * 5000,) * 2),
}


@pytest.mark.parametrize("kind", [RoutingRecord, Plan, GatewayAck])
@pytest.mark.parametrize("case", CASES)
def test_what_is_no_record_is_a_bad_record(case: str, kind: type) -> None:
    with pytest.raises(BadRecord, match=kind.__name__):
        wire.read_json(CASES[case], kind)
