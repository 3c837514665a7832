"""What a person does with a running stack, and what happens to it."""

import os
import re
import signal
import threading
from collections import Counter
from pathlib import Path

import httpx

from tests.integration.running_stack import ROW, RunningStack, eventually


class Load:
    """Requests without a pause from a few threads, until told to stop; every answer is kept."""

    def __init__(self, stack: RunningStack, clients: int = 4) -> None:
        self._stack, self._stopped = stack, threading.Event()
        self.statuses: Counter[int] = Counter()
        self.reasons: Counter[str] = Counter()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(clients)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join(15)

    def _run(self) -> None:
        with httpx.Client(base_url=self._stack.addresses["gateway"], timeout=10) as client:
            while not self._stopped.is_set():
                answer = client.post("/v1/models/loans:predict", json={"instances": [ROW]})
                self.statuses[answer.status_code] += 1
                self.reasons[answer.headers.get("x-route-reason", "")] += 1

    def wait_for(self, more: int) -> None:
        """Until that many further requests were answered."""
        goal = self.statuses.total() + more
        eventually(lambda: self.statuses.total() >= goal, 60)


def test_a_person_can_start_look_edit_predict_and_stop(stack: RunningStack) -> None:
    table = stack.kingmaker("get")
    assert table.stdout.split()[:4] == ["NAME", "MODE", "PHASE", "CHAMPION"], table.stderr
    assert "old=80,new=20" in table.stdout
    answer = stack.predict()
    assert answer.status_code == 200
    assert set(answer.json()["predictions"][0]) == {"label", "probabilities"}
    assert stack.predict(**{"x-kingmaker-variant": "new"}).headers["x-variant"] == "new"
    assert stack.client.get("/docs").status_code == 200

    edited = stack.kingmaker("set-weight", "loans", "new=60")
    assert "new 20 % -> 60 %" in edited.stdout, edited.stderr
    assert "# sees everything" in stack.file.read_text()
    eventually(lambda: stack.view()["status"]["summary"]["weights"] == "old=40,new=60", 10)
    with Load(stack) as load:
        eventually(lambda: stack.predict().headers["x-variant"] == "new", 10)
        load.wait_for(50)
    assert set(load.statuses) == {200}

    again = stack.kingmaker("up", str(stack.file))
    assert again.returncode == 1
    assert "a stack runs already on" in again.stderr

    stack.stop()
    assert stack.process.returncode == 0, stack.output
    assert stack.pids("kingmaker_") + stack.pids("valkey") + stack.pids("mlflow") == []


def test_a_killed_challenger_costs_no_client_anything_and_comes_back(shared_stack: RunningStack) -> None:
    stack = shared_stack
    servers = {pid: Path(f"/proc/{pid}/environ").read_text() for pid in stack.pids("kingmaker_model_server")}
    assert len(servers) == 2
    version = next(v["version"] for v in stack.view()["status"]["variants"] if v["name"] == "new")
    challenger = next(pid for pid, env in servers.items() if f"KINGMAKER_MODEL_SERVER_VERSION={version}\0" in env)
    with Load(stack) as load:
        load.wait_for(100)
        os.kill(challenger, signal.SIGKILL)
        load.wait_for(300)
        eventually(lambda: stack.predict(**{"x-kingmaker-variant": "new"}).status_code == 200, 30)
        load.wait_for(100)
    assert set(load.statuses) == {200}
    assert load.reasons["fallback"] > 0


def test_redis_may_die_under_traffic(shared_stack: RunningStack) -> None:
    stack = shared_stack
    before = eventually(stack.evidence)
    (redis,) = stack.pids("valkey")
    prediction = stack.predict().headers["x-prediction-id"]
    label = [{"prediction_id": prediction, "label": 1}]
    with Load(stack) as load:
        load.wait_for(100)
        os.kill(redis, signal.SIGKILL)
        load.wait_for(200)
        refused = stack.client.post("/v1/models/loans/feedback", json=label)
        assert refused.status_code in (202, 503)  # the supervisor may already have revived it
        eventually(lambda: stack.client.post("/v1/models/loans/feedback", json=label).status_code == 202, 30)
        load.wait_for(100)
    assert set(load.statuses) == {200}

    def adds_up() -> bool:
        events = stack.evidence()["events"]
        settled: bool = events["stored"] == events["sent"] - events["dropped"] - events["lost"]
        return settled and events["sent"] - before["events"]["sent"] > load.statuses.total()

    eventually(adds_up, 30)
    eventually(lambda: stack.evidence()["feedback"]["joined"] - before["feedback"]["joined"] == 1, 30)


def test_the_challenger_is_crowned_by_editing_the_file_without_a_failed_request(shared_stack: RunningStack) -> None:
    stack = shared_stack
    with Load(stack) as load:
        load.wait_for(50)
        text = stack.file.read_text()
        champion = 'champion: {name: new, model: "models:/loans@challenger"}'
        stack.file.write_text(text[: text.index("champion:")] + champion + "\n  overrides: Allowed\n")
        eventually(lambda: stack.view()["status"]["champion"]["name"] == "new", 30)
        eventually(lambda: stack.predict().headers["x-variant"] == "new", 10)
        load.wait_for(50)
    assert set(load.statuses) == {200}
    eventually(lambda: len(stack.pids("kingmaker_model_server")) == 1, 20)
    stack.file.write_text(text)
    eventually(lambda: stack.view()["status"]["summary"]["weights"] == "old=80,new=20", 30)
    eventually(lambda: stack.predict().headers["x-variant"] == "old", 10)


def test_every_docs_page_brings_its_own_assets_for_clusters_are_often_closed(shared_stack: RunningStack) -> None:
    for name in ("gateway", "monitor"):
        page = httpx.get(shared_stack.addresses[name] + "/docs").raise_for_status().text
        assets = re.findall(r'(?:src|href)="([^"]+)"', page)
        assert any(asset.endswith(".js") for asset in assets)
        for asset in assets:
            assert asset.startswith("/"), f"{name} fetches {asset}"
            assert len(httpx.get(shared_stack.addresses[name] + asset).raise_for_status().content) > 100
        schema = httpx.get(shared_stack.addresses[name] + "/openapi.json").json()
        assert schema["paths"]


def test_an_edit_that_makes_no_sense_changes_nothing_and_says_why(shared_stack: RunningStack) -> None:
    stack = shared_stack

    def refusal() -> str:
        conditions = {condition["type"]: condition for condition in stack.view()["status"]["conditions"]}
        return "" if conditions["Accepted"]["status"] == "True" else str(conditions["Accepted"]["message"])

    sensible = stack.file.read_text()
    stack.file.write_text(sensible.replace("new: 20", "new: 120"))
    assert "spec.weights.new" in eventually(refusal, 10)
    assert stack.predict().status_code == 200
    assert stack.view()["status"]["summary"]["weights"] == "old=80,new=20"
    stack.file.write_text(sensible)
    eventually(lambda: not refusal(), 10)
