"""Controller, gateway, monitor and model servers as processes, two models, one Redis of whatever form."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import yaml

from conftest import take_free_port
from kingmaker_servicekit import child
from tests.cluster.registry import tiny_model

MODELS = ("flights", "loans")
HERE = Path(__file__).parent


class Services:
    """settings: those that say where Redis is, by service or "" for all."""

    def __init__(self, folder: Path, settings: dict[str, dict[str, str]]) -> None:
        self.folder, self._settings = folder, settings
        self.file = folder / "models.yaml"
        self.ports = {name: take_free_port() for name in ("gateway", "admin", "monitor", "controller")}
        self.sent = 0
        self._http = httpx.Client(trust_env=False, timeout=10)
        self._processes: list[subprocess.Popen[bytes]] = []
        for name in MODELS:
            (folder / "registry" / name).mkdir(parents=True)
            for version in (1, 2):
                (folder / "registry" / name / str(version)).write_bytes(tiny_model(float(version)))
        (folder / "token").write_text("t0ken")
        self.weigh(20)
        controller: dict[str, object] = {
            "FILE": self.file,
            "STATE_DIR": folder / ".kingmaker",
            "TOKEN_FILE": folder / "token",
        }
        controller |= {"REGISTRY_URI": folder / "registry", "POLL_MS": 50, "PORT": self.ports["controller"]}
        self._start("controller", [str(HERE / "controller_with_models.py")], controller)
        gateway = {"PORT": self.ports["gateway"], "ADMIN_PORT": self.ports["admin"], "GATEWAY_ID": "gw"}
        self._start("gateway", ["-m", "kingmaker_gateway"], gateway)
        monitor = {"PORT": self.ports["monitor"], "STATE_FILE": folder / "monitor.db", "EVALUATE_SECONDS": 0.2}
        self._start("monitor", ["-m", "kingmaker_monitor"], monitor)

    def weigh(self, percent: int) -> None:
        """Edit the file: what gbm gets of each model."""
        documents = [
            {
                "apiVersion": "kingmaker.dev/v1alpha1",
                "kind": "ServedModel",
                "metadata": {"name": name},
                "spec": {
                    "champion": {"name": "lr", "model": f"models:/{name}/1"},
                    "challengers": [{"name": "gbm", "model": f"models:/{name}/2"}],
                    "weights": {"gbm": percent},
                },
            }
            for name in MODELS
        ]
        fresh = self.file.with_suffix(".new")
        fresh.write_text(yaml.safe_dump_all(documents))
        fresh.rename(self.file)

    def predict(self, model: str) -> httpx.Response:
        url = f"http://127.0.0.1:{self.ports['gateway']}/v1/models/{model}:predict"
        answer = self._http.post(url, json={"instances": [[1.0, 2.0]]})
        self.sent += answer.status_code == 200
        return answer

    def label(self, model: str, prediction: httpx.Response) -> int:
        url = f"http://127.0.0.1:{self.ports['gateway']}/v1/models/{model}/feedback"
        body = [{"prediction_id": prediction.headers["x-prediction-id"], "label": 1}]
        return self._http.post(url, json=body).status_code

    def routed(self, model: str) -> int:
        """What gbm has by the controller's status, once every live gateway follows it; -1 before."""
        url = f"http://127.0.0.1:{self.ports['controller']}/api/models/{model}"
        status = self._http.get(url, headers={"Authorization": "Bearer t0ken"}).json()["status"]
        programmed = next(c for c in status["conditions"] if c["type"] == "Programmed")
        given = next(routed["weight"] for routed in status["routing"]["variants"] if routed["name"] == "gbm")
        return int(given) if programmed["status"] == "True" else -1

    def counted(self, model: str) -> dict[str, Any]:
        """The monitor's report: answered rows, and the accounts of events."""
        report = self._http.get(f"http://127.0.0.1:{self.ports['monitor']}/api/models/{model}").json()
        answered = sum(variant["answered"] for variant in report["variants"].values())
        return {"answered": answered, "events": report["events"]}

    def until(self, holds: Callable[[], Any], what: str, seconds: float = 90.0) -> Any:
        """Poll until something holds; what is not there yet counts as not yet."""
        deadline = time.monotonic() + seconds
        last: object = None
        while time.monotonic() < deadline:
            try:
                last = holds()
                if last:
                    return last
            except (httpx.HTTPError, KeyError, TypeError, ValueError, StopIteration) as error:
                last = repr(error)
            time.sleep(0.05)
        logs = "\n".join(f"== {p.name}\n{p.read_text()[-3000:]}" for p in sorted(self.folder.glob("*.log")))
        raise AssertionError(f"{what} did not come true within {seconds} s; last: {last}\n{logs}")

    def stop(self) -> None:
        for process in self._processes:
            process.send_signal(signal.SIGTERM)
        for process in self._processes:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._http.close()

    def _start(self, name: str, arguments: list[str], settings: dict[str, Any]) -> None:
        chosen = {**self._settings.get("", {}), **self._settings.get(name, {}), **settings}
        env = {**os.environ, **{f"KINGMAKER_{name.upper()}_{key}": str(value) for key, value in chosen.items()}}
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes.append(
                subprocess.Popen(
                    [sys.executable, *arguments], env=env, stdout=log, stderr=log,
                    preexec_fn=child.die_with_parent(),  # noqa: PLW1509
                )
            )  # fmt: skip
