"""Send flights to the gateway as a client would, in the order they departed, and their outcomes afterwards.

A few threads with a kept connection each; one more thread sends labels. The clock of the replay is the
departure of the flight sent last: a label leaves when that clock has passed the flight's arrival.
"""

import heapq
import http.client
import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from examples.flights.features import Flight

CLIENTS = 8
LABELS_A_CALL = 500


class Answer(NamedTuple):
    """What a client saw. sent_at, answered_at: time.monotonic(); status 0: no answer at all."""

    sent_at: float
    answered_at: float
    status: int
    variant: str
    reason: str
    prediction_id: str


@dataclass
class Progress:
    """What the replay has done so far; read by whoever shows it."""

    served: int = 0
    failed: int = 0
    clock: float = 0.0
    labels_sent: int = 0
    labels_refused: int = 0
    first_failure: str = ""
    answers: list[Answer] = field(default_factory=list)


class Replay:
    """One replay. run() returns when every flight was sent and every label accepted."""

    def __init__(self, gateway: str, model: str, flights: Iterable[Flight]) -> None:
        self._address = urlsplit(gateway).netloc
        self._predict = f"/v1/models/{model}:predict"
        self._feedback = f"/v1/models/{model}/feedback"
        self._flights: Iterator[Flight] = iter(flights)
        self._lock = threading.Lock()
        self._labels: list[tuple[float, str, int]] = []
        self._stopped = threading.Event()
        self._all_sent = threading.Event()
        self.progress = Progress()

    def stop(self) -> None:
        """End early: no further flight, no further label."""
        self._stopped.set()

    def run(self, watch: Callable[[Progress], None]) -> Progress:
        """Replay; `watch` is called about ten times a second from this thread."""
        clients = [threading.Thread(target=self._client, daemon=True) for _ in range(CLIENTS)]
        labels = threading.Thread(target=self._label_sender, daemon=True)
        for thread in (*clients, labels):
            thread.start()
        try:
            while any(thread.is_alive() for thread in clients):
                time.sleep(0.1)
                watch(self.progress)
            self._all_sent.set()
            while labels.is_alive():
                time.sleep(0.1)
                watch(self.progress)
        finally:
            self.stop()
        return self.progress

    def _client(self) -> None:
        connection = http.client.HTTPConnection(self._address, timeout=10)
        while not self._stopped.is_set():
            with self._lock:
                flight = next(self._flights, None)
                if flight is None:
                    break
                self.progress.clock = flight.dep_at
            body = json.dumps({"instances": [flight.features]})
            sent_at = time.monotonic()
            status, headers, text = _post(connection, self._predict, body)
            answer = Answer(
                sent_at,
                time.monotonic(),
                status,
                headers.get("x-variant", ""),
                headers.get("x-route-reason", ""),
                headers.get("x-prediction-id", ""),
            )
            self._note(flight, answer, text)
        connection.close()

    def _note(self, flight: Flight, answer: Answer, text: str) -> None:
        with self._lock:
            self.progress.served += 1
            self.progress.answers.append(answer)
            if answer.status == http.client.OK:
                heapq.heappush(self._labels, (flight.arr_at, answer.prediction_id, flight.late))
                return
            self.progress.failed += 1
            self.progress.first_failure = self.progress.first_failure or f"{answer.status}: {text[:300]}"

    def _label_sender(self) -> None:
        connection = http.client.HTTPConnection(self._address, timeout=10)
        while not self._stopped.is_set():
            is_last = self._all_sent.is_set()
            batch = self._known_outcomes(everything=is_last)
            if batch:
                self._send_labels(connection, batch)
            elif is_last:
                break
            else:
                time.sleep(0.1)
        connection.close()

    def _known_outcomes(self, everything: bool) -> list[dict[str, Any]]:
        """Labels of flights that have arrived by the replay's clock; enough for a call, or what there is."""
        with self._lock:
            batch: list[dict[str, Any]] = []
            while (
                self._labels
                and len(batch) < LABELS_A_CALL
                and (everything or self._labels[0][0] <= self.progress.clock)
            ):
                arrived, prediction_id, late = heapq.heappop(self._labels)
                observed = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(arrived))
                batch.append(
                    {"prediction_id": prediction_id, "label": late, "observed_at": observed, "source": "arrivals"}
                )
            return batch

    def _send_labels(self, connection: http.client.HTTPConnection, batch: list[dict[str, Any]]) -> None:
        """Labels are precious: a refused call is tried again for a while, as the gateway's 503 asks for."""
        for _ in range(20):
            status, _, text = _post(connection, self._feedback, json.dumps(batch))
            if status == http.client.ACCEPTED:
                self.progress.labels_sent += len(batch)
                return
            if status != http.client.SERVICE_UNAVAILABLE or self._stopped.wait(0.5):
                break
        self.progress.labels_refused += len(batch)
        self.progress.first_failure = self.progress.first_failure or f"feedback {status}: {text[:300]}"


def _post(connection: http.client.HTTPConnection, path: str, body: str) -> tuple[int, dict[str, str], str]:
    try:
        connection.request("POST", path, body, {"content-type": "application/json"})
        response = connection.getresponse()
        text = response.read().decode()
        return response.status, {key.lower(): value for key, value in response.getheaders()}, text
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        return 0, {}, f"{type(error).__name__}: {error}"
