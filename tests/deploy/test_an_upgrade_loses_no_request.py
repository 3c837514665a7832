"""A gateway is replaced as a rolling update does it, under clients that keep their connections: none notices."""

import asyncio
import json
import signal
from functools import partial
from pathlib import Path

from conftest import Valkey
from kingmaker_contracts import profile, wire
from kingmaker_contracts.plan import Plan, PlannedVariant
from kingmaker_controller.redis_store import RedisStore, Stored
from kingmaker_servicekit import redis_client
from tests.deploy import chart
from tests.deploy.running import MODEL, Service, known_profile, routing, until
from tests.fakes.fake_model_server import FakeModelServer

BODY = json.dumps({"instances": [{"distance": 0.5}]}).encode()
REQUEST = (
    b"POST /v1/models/flights:predict HTTP/1.1\r\nhost: x\r\n"
    b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(BODY), BODY)
)


class Clients:
    """Each sends request after request on one connection, and opens another when it is told to or must."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.answered = 0
        self.sent_away = 0
        self.lost: list[str] = []
        self._stopped = False

    async def run(self, pause_s: float) -> None:
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        while not self._stopped:
            streams = streams or await asyncio.open_connection("127.0.0.1", self.port)
            reader, writer = streams
            try:
                writer.write(REQUEST)
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))
            except (OSError, asyncio.IncompleteReadError) as error:
                self.lost.append(repr(error))
                writer.close()
                streams = None
                continue
            if not head.startswith(b"http/1.1 200"):
                self.lost.append(head.decode())
            self.answered += 1
            if b"connection: close" in head:
                self.sent_away += 1
                writer.close()
                streams = None
            await asyncio.sleep(pause_s)
        if streams is not None:
            streams[1].close()

    def stop(self) -> None:
        self._stopped = True


async def answers(service: Service) -> bool:
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", service.ports["8080"])
    except OSError:
        return False
    writer.write(REQUEST)
    head = await reader.read(16)
    writer.close()
    return b" 200" in head


async def test_no_request_is_lost_when_a_gateway_leaves(valkey: Valkey, tmp_path: Path) -> None:
    # long enough for clients on a machine that has other work; nobody waits for it, as every client comes before
    objects = chart.render({"gateway": {"drainSeconds": 30, "settings": {"LAST_CALL_MS": 15000}}})
    raw = wire.write_json(known_profile())
    sha256 = profile.sha256_of(raw)
    store = RedisStore(redis_client.connect(valkey.url))
    services = []
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        services.append(Service(objects, "gateway", valkey.port, tmp_path / name))
    old, new = services
    try:
        async with FakeModelServer(inputs=[("distance", "FP32")]) as champion:
            await store.put_profile(*MODEL, sha256, raw)
            plan = Plan(*MODEL, 1, 1, "r1", [PlannedVariant("lr", "champion", "1", sha256)])
            await store.replace(routing(champion.address, sha256), plan, Stored(None))
            for service in services:
                await until(partial(answers, service), "a gateway")

            clients = Clients(old.ports["8080"])
            running = [asyncio.create_task(clients.run(pause_s)) for pause_s in (0, 0.01) for _ in range(12)]

            async def all_are_busy() -> bool:
                return clients.answered > 300

            await until(all_are_busy, "traffic")
            clients.port = new.ports["8080"]  # the old one has left the Service; connections it has go on
            old.process.send_signal(signal.SIGTERM)

            async def is_gone() -> bool:
                return old.process.poll() is not None

            await until(is_gone, "the old gateway's end")
            before = clients.answered

            async def go_on() -> bool:
                return clients.answered > before + 100

            await until(go_on, "traffic at the new gateway")
            clients.stop()
            await asyncio.gather(*running)
    finally:
        await store.close()
        new.stop()
        old.stop()
    assert not clients.lost
    assert clients.sent_away == 24, "each was told to open another connection"
