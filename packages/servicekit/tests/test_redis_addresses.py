"""Every form of an address is understood, every mistake is named, and no password is ever shown."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from pydantic_settings import SettingsConfigDict

from kingmaker_servicekit import redis_address
from kingmaker_servicekit.redis_address import BadAddress, RedisAddress
from kingmaker_servicekit.redis_settings import RedisSettings


class Settings(RedisSettings):
    model_config = SettingsConfigDict(env_prefix="KINGMAKER_TEST_", frozen=True, extra="forbid")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://cache", RedisAddress("single", (("cache", 6379),))),
        ("redis://cache/", RedisAddress("single", (("cache", 6379),))),
        ("redis://cache:7000/3", RedisAddress("single", (("cache", 7000),), db=3)),
        ("rediss://cache", RedisAddress("single", (("cache", 6379),), tls=True)),
        ("redis://[::1]:7000", RedisAddress("single", (("::1", 7000),))),
        ("redis://[::1]", RedisAddress("single", (("::1", 6379),))),
        ("redis://:p%40ss@cache", RedisAddress("single", (("cache", 6379),), password="p@ss")),
        ("redis://ann:pw@cache", RedisAddress("single", (("cache", 6379),), username="ann", password="pw")),
        ("unix:///run/redis.sock", RedisAddress("socket", path="/run/redis.sock")),
        ("unix:///run/redis.sock?db=2", RedisAddress("socket", path="/run/redis.sock", db=2)),
        ("redis+sentinel://a,b:7/crown", RedisAddress("sentinel", (("a", 26379), ("b", 7)), master="crown")),
        ("redis+sentinel://a/crown/4", RedisAddress("sentinel", (("a", 26379),), master="crown", db=4)),
        ("rediss+sentinel://a/crown", RedisAddress("sentinel", (("a", 26379),), master="crown", tls=True)),
        ("redis+cluster://a,b:7", RedisAddress("cluster", (("a", 6379), ("b", 7)))),
        ("rediss+cluster://u:p@a/0", RedisAddress("cluster", (("a", 6379),), tls=True, username="u", password="p")),
    ],
)
def test_every_form_is_read(url: str, expected: RedisAddress) -> None:
    assert redis_address.parse(url) == expected


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("cache:6379", "no scheme"),
        ("http://cache", "'http'"),
        ("redis+sentinl://a/crown", "'redis\\+sentinl'"),
        ("redis+://a", "'redis\\+'"),
        ("redis://", "host is missing"),
        ("redis://:6379", "host is missing"),
        ("redis://a:port", "port is no number"),
        ("redis://a:0", "port is no number"),
        ("redis://a:70000", "port is no number"),
        ("redis://a:", "port is no number"),
        ("redis://::1:6379", "IPv6"),
        ("redis://a,b", "2 hosts"),
        ("redis://a/one", "'one'"),
        ("redis://a/1/2", "2 parts"),
        ("rediss://a?ssl_cert_reqs=none", "options are not taken"),
        ("redis+sentinel://a", "name of the master is missing"),
        ("redis+sentinel://a/", "name of the master is missing"),
        ("redis+sentinel://a,/crown", "host is missing"),
        ("redis+cluster://a/1", "database 1"),
        ("unix://run/redis.sock", "does not begin with /"),
        ("unix:///run/redis.sock?ssl=no", "'ssl=no'"),
    ],
)
def test_a_mistake_is_named_with_what_was_expected(url: str, fault: str) -> None:
    with pytest.raises(BadAddress, match=f"{fault}.*; expected redis://"):
        redis_address.parse(url)


@pytest.mark.parametrize(
    "url",
    [
        "redis://ann:Secret@a:port",
        "redis://ann:Se@Secret@a:port",
        "redis://ann:Sec/Secret@a:port",
        "redis://:Secret",
        "redis:/ann:Secret@a",
        "ann:Secret@a",
        "redi://ann:Secret@a",
        "unix://ann:Secret@run",
    ],
)
def test_a_password_is_in_no_refusal(url: str) -> None:
    with pytest.raises(BadAddress) as refused:
        redis_address.parse(url)
    assert "Secret" not in str(refused.value)


def test_a_password_is_in_no_text_of_an_address() -> None:
    assert "Secret" not in repr(redis_address.parse("redis://ann:Secret@a"))


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "password").write_text("Secret\n")
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "long").write_text("Secret" * 1000)
    (tmp_path / "bytes").write_bytes(b"Secret\xff")
    (tmp_path / "no.pem").write_text("Secret")
    return {path.name: str(path) for path in tmp_path.iterdir()} | {"gone": str(tmp_path / "gone")}


@pytest.mark.parametrize(
    ("given", "names", "says"),
    [
        ({"redis_url": "redis://a:x"}, "redis_url", "port is no number"),
        ({"redis_password_file": "gone"}, "redis_password_file", "No such file"),
        ({"redis_password_file": "empty"}, "redis_password_file", "it is empty"),
        ({"redis_password_file": "long"}, "redis_password_file", "it is too long"),
        ({"redis_password_file": "bytes"}, "redis_password_file", "not UTF-8"),
        ({"redis_url": "redis://:x@a", "redis_password_file": "password"}, "redis_password_file", "REDIS_URL has"),
        ({"redis_username": "ann"}, "redis_username", "REDIS_PASSWORD_FILE is expected"),
        ({"redis_sentinel_username": "ann"}, "redis_sentinel_username", "REDIS_SENTINEL_PASSWORD_FILE is expected"),
        ({"redis_ca_file": "no.pem"}, "redis_ca_file", "expected rediss://"),
        ({"redis_url": "rediss://a", "redis_ca_file": "no.pem"}, "redis_ca_file", "expected a readable PEM file"),
        ({"redis_url": "rediss://a", "redis_ca_file": "gone"}, "redis_ca_file", "No such file"),
        ({"redis_url": "rediss://a", "redis_cert_file": "no.pem"}, "redis_cert_file", "REDIS_KEY_FILE"),
        ({"redis_url": "rediss://a", "redis_key_file": "no.pem"}, None, "REDIS_CERT_FILE is expected"),
        (
            {"redis_url": "rediss://a", "redis_key_file": "no.pem", "redis_cert_file": "no.pem"},
            "redis_cert_file",
            "expected a readable PEM file",
        ),
    ],
)
def test_a_setting_that_cannot_work_is_refused_by_its_name(
    files: dict[str, str], given: dict[str, Any], names: str | None, says: str
) -> None:
    with pytest.raises(ValidationError) as refused:
        Settings(**{name: files.get(value, value) for name, value in given.items()})
    [error] = refused.value.errors()
    assert error["loc"] == (() if names is None else (names,))
    assert says in error["msg"]
    assert "Secret" not in error["msg"]


def test_the_environment_says_all_of_it(files: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KINGMAKER_TEST_REDIS_URL", "redis+sentinel://a,b/crown/1")
    monkeypatch.setenv("KINGMAKER_TEST_REDIS_USERNAME", "ann")
    monkeypatch.setenv("KINGMAKER_TEST_REDIS_PASSWORD_FILE", files["password"])
    target = Settings().redis
    assert target.address.master == "crown"
    assert (target.username, target.password_file) == ("ann", Path(files["password"]))
