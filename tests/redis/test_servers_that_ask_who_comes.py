"""TLS with an authority of one's own, client certificates, ACL users, and passwords that change."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.exceptions import NoPermissionError, RedisError

from conftest import Valkey
from kingmaker_servicekit import redis_address, redis_client
from kingmaker_servicekit.redis_address import Target
from tests.fakes.authority import Authority
from tests.redis.servers import Server, tls_door, until


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Server]:
    """Lets in ann and nobody else."""
    server = Server(tmp_path / "guarded")
    until(server.answers, "a server")
    server.client.execute_command("ACL", "SETUSER", "ann", "on", ">first", "~km:*", "+get", "+ping", "+client|setinfo")
    server.client.execute_command("ACL", "SETUSER", "default", "off", "resetpass")
    yield server
    server.stop()


def target(
    url: str,
    *,
    username: str = "",
    password_file: Path | None = None,
    ca_file: Path | None = None,
    cert_file: Path | None = None,
    key_file: Path | None = None,
) -> Target:
    return Target(redis_address.parse(url), username, password_file, ca_file, cert_file, key_file)


async def test_an_acl_user_may_do_what_it_may_and_no_more(guarded: Server, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("first\n")
    url = f"redis://127.0.0.1:{guarded.port}/0"
    client = redis_client.connect(target(url, username="ann", password_file=password))
    assert await client.get("km:x") is None
    with pytest.raises(NoPermissionError):
        await client.set("km:x", "1")
    await client.aclose()


async def test_a_password_that_was_replaced_is_read_again(tmp_path: Path, own_valkey: Valkey) -> None:
    password = tmp_path / "password"
    password.write_text("first")
    control = own_valkey.client
    control.config_set("requirepass", "first")
    client = redis_client.connect(target(own_valkey.url, password_file=password))
    assert await client.ping()
    control.config_set("requirepass", "second")
    control.client_kill_filter(_type="normal", skipme=True)
    with pytest.raises(RedisError):
        await client.ping()
    password.unlink()
    with pytest.raises(RedisError, match="No such file"):
        await client.ping()
    password.write_text("second")
    assert await client.ping()
    await client.aclose()


async def test_a_wrong_password_is_refused_and_not_told(guarded: Server, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("Mistaken")
    url = f"redis://127.0.0.1:{guarded.port}"
    client = redis_client.connect(target(url, username="ann", password_file=password))
    with pytest.raises(RedisError) as refused:
        await client.ping()
    assert "Mistaken" not in str(refused.value)
    await client.aclose()


async def test_only_a_server_whose_certificate_is_signed_is_spoken_to(
    authority: Authority, tmp_path: Path, valkey: Valkey
) -> None:
    behind = valkey.port
    stranger = Authority(tmp_path / "stranger")
    with tls_door(behind, authority.issue("server")) as port:
        url = f"rediss://127.0.0.1:{port}"
        client = redis_client.connect(target(url, ca_file=authority.ca))
        assert await client.ping()
        await client.aclose()
        for trusted in (stranger.ca, None):
            client = redis_client.connect(target(url, ca_file=trusted))
            with pytest.raises((RedisError, OSError), match=r"(?i)certificate verify failed"):
                await client.ping()
            await client.aclose()
        client = redis_client.connect(target(f"rediss://localhost:{port}", ca_file=authority.ca))
        with pytest.raises((RedisError, OSError), match=r"(?i)(hostname|address) mismatch"):
            await client.ping()  # signed, and for another name
        await client.aclose()


async def test_a_server_that_asks_for_a_certificate_gets_ours(authority: Authority, valkey: Valkey) -> None:
    certificate, key = authority.issue("gateway")
    behind = valkey.port
    with tls_door(behind, authority.issue("server"), clients_ca=authority.ca) as port:
        url = f"rediss://127.0.0.1:{port}"
        client = redis_client.connect(target(url, ca_file=authority.ca, cert_file=certificate, key_file=key))
        assert await client.ping()
        await client.aclose()
        client = redis_client.connect(target(url, ca_file=authority.ca))
        with pytest.raises((RedisError, OSError)):
            await client.ping()
        with contextlib.suppress(RedisError, OSError):
            await client.aclose()
