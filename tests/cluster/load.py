"""A client that predicts without a pause, and remembers what went wrong."""

import threading
import time

import httpx


class Load:
    """`with` it. answers: the variant of each; failures: every answer that was no 200."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._stopped = threading.Event()
        self.answers: list[str] = []
        self.failures: list[str] = []
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        body = {"instances": [[1.0, 2.0]]}
        with httpx.Client(trust_env=False, timeout=20) as client:
            while not self._stopped.is_set():
                try:
                    answer = client.post(self._url, json=body)
                except httpx.HTTPError as error:
                    self.failures.append(repr(error))
                    continue
                if answer.status_code == 200:
                    self.answers.append(answer.headers["x-variant"])
                else:
                    self.failures.append(f"{answer.status_code} {answer.text}")
                time.sleep(0.005)

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join(30)
