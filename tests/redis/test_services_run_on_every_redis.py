"""The whole way, routing to evidence, on every form of Redis; Sentinel and cluster lose a server meanwhile."""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kingmaker_contracts import keys
from tests.fakes.authority import Authority
from tests.redis.servers import RIGHTS, Cluster, Server, Watched, tls_door, until
from tests.redis.services import MODELS, Services


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Any]:
    with contextlib.ExitStack() as stack:

        def start(**settings: dict[str, str]) -> Services:
            built = Services(tmp_path, {"" if name == "all" else name: value for name, value in settings.items()})
            stack.callback(built.stop)
            return built

        yield start


def serve_and_count(services: Services, percent: int) -> None:
    """An edit is followed; predictions and a label of each model are counted, all of them and once."""
    services.weigh(percent)
    for model in MODELS:
        serve_and_count_one(services, model, percent)


def serve_and_count_one(services: Services, model: str, percent: int) -> None:
    services.until(lambda: services.routed(model) == percent, f"{percent}% of {model}")
    before = services.until(lambda: services.counted(model), "a report")["answered"]
    answers = [services.predict(model) for _ in range(40)]
    assert [answer.status_code for answer in answers] == [200] * 40
    services.until(lambda: services.label(model, answers[0]) == 202, "a label is taken")
    services.until(lambda: services.counted(model)["answered"] >= before + 40, f"evidence of {model}")


def all_is_accounted_for(services: Services) -> None:
    """stored = sent - dropped - lost, whatever happened in between."""

    def settled() -> bool:
        told = [services.counted(model)["events"] for model in MODELS]
        return sum(e["sent"] for e in told) == services.sent and all(
            e["stored"] == e["sent"] - e["dropped"] - e["lost"] for e in told
        )

    services.until(settled, "accounts that close")


@pytest.mark.slow
def test_acl_users_behind_tls(services: Any, tmp_path: Path, authority: Authority) -> None:
    server = Server(tmp_path / "redis")
    until(server.answers, "a server")
    with tls_door(server.port, authority.issue("server")) as port:
        users = {}
        for name, rights in RIGHTS.items():
            (tmp_path / f"{name}.password").write_text(f"secret of {name}\n")
            server.client.execute_command("ACL", "SETUSER", name, "on", f">secret of {name}", *rights)
            users[name] = {"REDIS_USERNAME": name, "REDIS_PASSWORD_FILE": str(tmp_path / f"{name}.password")}
        running = services(
            all={"REDIS_URL": f"rediss://127.0.0.1:{port}/0", "REDIS_CA_FILE": str(authority.ca)}, **users
        )
        serve_and_count(running, 30)
        all_is_accounted_for(running)
        assert server.client.exists(keys.evidence("default", "flights")) == 1
        assert server.client.acl_log() == []  # nothing was refused, also nothing that would have gone unseen
        assert all("secret of" not in log.read_text() for log in tmp_path.glob("*.log"))
    server.stop()


def test_the_rights_of_gateway_and_monitor_end_at_routing_and_plan(tmp_path: Path) -> None:
    server = Server(tmp_path / "redis")
    until(server.answers, "a server")
    for name, rights in RIGHTS.items():
        server.client.execute_command("ACL", "SETUSER", name, "on", "nopass", *rights)
    for name in ("gateway", "monitor"):
        for key in (keys.routing("default", "flights"), keys.plan("default", "flights"), keys.MODELS):
            said = server.client.execute_command("ACL", "DRYRUN", name, "SET", key, "x")
            assert b"has no permissions" in said or b"no permissions to access" in said, (name, key, said)
    server.stop()


def keep_predicting(services: Services, ended: threading.Event, failures: list[str]) -> None:
    while not ended.is_set():
        for model in MODELS:
            answer = services.predict(model)
            if answer.status_code != 200:
                failures.append(f"{answer.status_code} {answer.text}")
        ended.wait(0.02)


def through_a_fail_over(services: Services, redis: Watched | Cluster) -> None:
    serve_and_count(services, 30)
    ended, failures = threading.Event(), list[str]()
    client = threading.Thread(target=keep_predicting, args=(services, ended, failures))
    client.start()
    try:
        redis.fail_over()
        services.until(lambda: services.routed("flights") == 30, "the controller is back")
    finally:
        ended.set()
        client.join(30)
    assert failures == []
    serve_and_count(services, 50)
    all_is_accounted_for(services)
    assert redis.client.exists(keys.evidence("default", "flights")) == 1


@pytest.mark.slow
def test_a_sentinels_fail_over(services: Any, watched: Watched) -> None:
    through_a_fail_over(services(all={"REDIS_URL": watched.url}), watched)


@pytest.mark.slow
def test_a_clusters_fail_over(services: Any, cluster: Cluster) -> None:
    through_a_fail_over(services(all={"REDIS_URL": cluster.url}), cluster)
