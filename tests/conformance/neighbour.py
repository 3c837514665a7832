"""Somebody else's well-formed requests, running beside whatever a test sends: their answers must stay right."""

import http.client
import itertools
import threading
from types import TracebackType

import numpy as np

from tests.conformance import oip
from tests.conformance.answers import same
from tests.conformance.models import Oracle
from tests.conformance.oip import Given
from tests.conformance.stack import Target

_PAUSE_S = 0.003
_CARRIERS = ("UA", "AA", "DL", "none")


class Neighbour:
    """A client on a connection of its own. Each request differs from the last, so an answer that belongs to
    another request is seen. Leaving the context raises AssertionError if any was wrong, late or refused."""

    def __init__(self, target: Target, oracle: Oracle) -> None:
        self._address = target.addresses["flights"]
        calls = []
        for at, binary in itertools.product(range(12), (False, True)):
            rows = 1 + at % 3
            columns = {
                "distance": ("FP32", np.array([[100.0 + 97 * at + row] for row in range(rows)], "<f4")),
                "delay": ("FP32", np.array([[3.0 * at - 9 * row] for row in range(rows)], "<f4")),
                "carrier": ("BYTES", np.array([[_CARRIERS[(at + row) % 4]] for row in range(rows)], object)),
            }
            form = "raw" if binary else "flat"
            inputs = [Given(name, datatype, array, form) for name, (datatype, array) in columns.items()]
            call = oip.request(inputs, binary_output=binary, id=f"neighbour {at}")
            calls.append((call, oracle({name: array for name, (_, array) in columns.items()}), f"neighbour {at}"))
        self._calls = itertools.cycle(calls)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._fault: str | None = None
        self.answered = 0

    def __enter__(self) -> "Neighbour":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(40)
        assert self._fault is None, self._fault
        assert self.answered > 0

    def _run(self) -> None:
        connection = http.client.HTTPConnection(self._address, timeout=30)
        try:
            while self._fault is None and (self.answered == 0 or not self._stop.wait(_PAUSE_S)):
                self._ask(connection)
        except (OSError, http.client.HTTPException, oip.NotOip) as error:
            self._fault = f"after {self.answered} right answers: {error!r}"
        finally:
            connection.close()

    def _ask(self, connection: http.client.HTTPConnection) -> None:
        call, expected, id = next(self._calls)
        connection.request("POST", "/v2/models/flights/infer", call.body, call.headers)
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            self._fault = f"{id} was answered {answer.status}: {body[:300]!r}"
            return
        read = oip.read(body, answer.headers.get(oip.HEADER), "outputs")
        right = all(same(read.tensors[name], array) for name, array in expected.items())
        if not right or read.head["id"] != id:
            self._fault = f"{id} got the answer {body[:300]!r}"
        self.answered += 1
