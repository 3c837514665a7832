"""uvicorn's TLS settings hold for the fast way in: it sees plain bytes, whatever they travelled in."""

import asyncio
import datetime
import ipaddress
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from kingmaker_servicekit import serving
from kingmaker_servicekit.accepting import Acceptor

if TYPE_CHECKING:
    from packages.servicekit.tests.conftest import FastServer

MIB = 2**20


def post(body: bytes, query: bytes = b"", path: bytes = b"/fast", more: bytes = b"") -> bytes:
    return b"POST %b?%b HTTP/1.1\r\nhost: x\r\n%bcontent-length: %d\r\n\r\n%b" % (path, query, more, len(body), body)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(certificate, key) of 127.0.0.1, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "gateway")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(hours=1))
    builder = builder.not_valid_after(now + datetime.timedelta(days=1))
    signed = builder.add_extension(address, critical=False).sign(key, hashes.SHA256())
    folder = tmp_path_factory.mktemp("tls")
    paths = folder / "cert.pem", folder / "key.pem"
    paths[0].write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths


@pytest.fixture
def server(start_fast_server: "Callable[..., FastServer]", certificate: tuple[Path, Path]) -> "FastServer":
    files = {"ssl_certfile": str(certificate[0]), "ssl_keyfile": str(certificate[1])}
    return start_fast_server(**files, timeout_keep_alive=60)  # whoever reads late, on a busy machine, is not cut off


@pytest.fixture
def client(server: "FastServer", certificate: tuple[Path, Path]) -> Any:
    """The tests' raw client, its socket wrapped."""
    plain = server.connect()
    trust = ssl.create_default_context(cafile=str(certificate[0]))
    plain.socket = trust.wrap_socket(plain.socket, server_hostname="127.0.0.1")
    with plain:
        yield plain


def test_both_ways_in_answer_over_one_encrypted_connection(client: Any) -> None:
    for path in (b"/fast", b"/asgi", b"/fast"):
        client.send(post(b"hello", b"q", path))
        assert client.read()[2] == b"q||hello"


def test_pipelined_cut_and_expected_requests_are_answered_in_order(client: Any) -> None:
    both = post(b"1", b"later") + post(b"2")
    for at in range(0, len(both), 7):
        client.send(both[at : at + 7])
    assert [client.read()[2] for _ in range(2)] == [b"later||1", b"||2"]
    head, body = post(b"late", more=b"expect: 100-continue\r\n").split(b"\r\n\r\n")
    client.send(head + b"\r\n\r\n")
    assert client.read(has_body=False)[0] == 100
    client.send(body)
    assert client.read()[2] == b"||late"


def test_a_refusal_reaches_a_client_that_is_still_sending(
    client: Any, server: "FastServer", wait_until: Callable[..., None]
) -> None:
    client.send(post(b"x" * 5 * MIB))
    assert client.read()[0] == 413
    assert client.is_closed()
    client.socket.close()
    wait_until(lambda: not server.uvicorn.server_state.connections)


def test_a_large_answer_comes_whole_and_the_connection_ends_as_asked(client: Any, server: "FastServer") -> None:
    client.send(post(b"x", b"hold", more=b"connection: close\r\n"))
    server.in_loop(server.held.get(timeout=30).answer, 200, (), b"x" * 20 * MIB)
    assert len(client.read()[2]) == 20 * MIB
    assert client.is_closed()


def test_a_client_that_leaves_in_the_middle_leaves_nothing_behind(
    client: Any, server: "FastServer", wait_until: Callable[..., None]
) -> None:
    client.send(post(b"x", b"hold"))
    call = server.held.get(timeout=30)
    client.socket.shutdown(socket.SHUT_RDWR)
    wait_until(lambda: not server.uvicorn.server_state.connections)
    server.in_loop(call.answer, 200, (), b"nobody reads it")
    assert not server.tracebacks()


def test_plain_http_on_the_port_is_closed_and_harms_nobody(client: Any, server: "FastServer") -> None:
    with server.connect() as plain:
        plain.send(post(b"hello"))
        assert b"HTTP" not in plain.socket.recv(100)  # an alert of TLS, or nothing
    client.send(post(b"hello"))
    assert client.read()[2] == b"||hello"
    assert not server.tracebacks()


def test_a_client_that_never_agrees_on_tls_does_not_hold_up_the_end(client: Any, server: "FastServer") -> None:
    with server.connect(), server.connect() as half:
        half.send(b"\x16\x03\x01")  # a handshake, so far
        client.send(post(b"hello"))
        assert client.read()[2] == b"||hello"
        client.socket.close()
        server.stop()
        assert not server.records, "uvicorn says when its patience is over"


async def test_agreeing_on_tls_takes_no_longer_than_it_may(
    certificate: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    sock = serving.bind("127.0.0.1", 0)
    acceptor = Acceptor(sock, asyncio.Protocol, context, handshake_s=0.05)  # type: ignore[arg-type]
    reader, writer = await asyncio.open_connection(*sock.getsockname())
    async with asyncio.timeout(10):
        assert await reader.read() == b""
    writer.close()
    acceptor.close()
    sock.close()
    await acceptor.wait_closed()
    assert not caplog.records, "a client's fault is no event of the server"
