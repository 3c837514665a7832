"""The settings that say where Redis is and how to be let in, the same for every service.

A service's Settings extend these. Files are looked at when the process starts, so that a mistake is a refusal that
names the setting; the password's is read again for every new connection, so a rotated secret is followed.
"""

import ssl
from pathlib import Path
from typing import Self

from pydantic import Field, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings

from kingmaker_servicekit import redis_address
from kingmaker_servicekit.redis_address import BadPassword, Target, read_password


class RedisSettings(BaseSettings):
    """TLS is a matter of the address (rediss://); certificates are always verified, host names included."""

    redis_url: str = "redis://127.0.0.1:6379/0"
    """redis://, rediss://, unix://, redis+sentinel://h1,h2/<master>/<db> or redis+cluster://h1,h2."""
    redis_password_file: Path | None = None
    """Holds the password and nothing else. Read for every new connection."""
    redis_username: str = Field(default="", max_length=256)
    """ACL user. None: the default user."""
    redis_ca_file: Path | None = None
    """PEM: who may have signed the server's certificate. None: whom the system trusts. With rediss only."""
    redis_key_file: Path | None = None
    """PEM: of our own certificate, for servers that ask for one."""
    redis_cert_file: Path | None = None
    redis_sentinel_password_file: Path | None = None
    """For the Sentinels themselves; those that ask for none get none."""
    redis_sentinel_username: str = Field(default="", max_length=256)

    @property
    def redis(self) -> Target:
        """What the clients are made from."""
        return Target(
            redis_address.parse(self.redis_url),
            username=self.redis_username,
            password_file=self.redis_password_file,
            ca_file=self.redis_ca_file,
            cert_file=self.redis_cert_file,
            key_file=self.redis_key_file,
            sentinel_username=self.redis_sentinel_username,
            sentinel_password_file=self.redis_sentinel_password_file,
        )

    @field_validator("redis_url")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        redis_address.parse(value)
        return value

    @field_validator("redis_password_file", "redis_sentinel_password_file")
    @classmethod
    def _holds_a_password(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if value is not None:
            _once(info)
            try:
                read_password(value)
            except BadPassword as error:
                raise ValueError(str(error)) from None
        return value

    @field_validator("redis_username", "redis_sentinel_username")
    @classmethod
    def _comes_with_a_password(cls, value: str, info: ValidationInfo) -> str:
        if value:
            _once(info)
            file = str(info.field_name).replace("username", "password_file")
            if file in info.data and info.data[file] is None:
                raise ValueError(f"found {value!r} and no password; {file.upper()} is expected beside it")
        return value

    @field_validator("redis_ca_file", "redis_key_file", "redis_cert_file")
    @classmethod
    def _is_of_use(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        """The key is read together with its certificate, which comes after it."""
        url = info.data.get("redis_url")
        if value is None or url is None:
            return value
        if not redis_address.parse(url).tls:
            raise ValueError(f"found {value}, and REDIS_URL is not one of TLS; expected rediss:// there")
        context = ssl.create_default_context()
        key = info.data.get("redis_key_file")
        try:
            if info.field_name == "redis_ca_file":
                context.load_verify_locations(value)
            elif info.field_name == "redis_cert_file" and key is not None:
                context.load_cert_chain(value, key, password=lambda: "")
            elif info.field_name == "redis_cert_file":
                raise ValueError(f"found {value}; REDIS_KEY_FILE, its key, is expected beside it")
        except OSError as error:  # ssl.SSLError is one
            raise ValueError(f"found {value}: {error.strerror or error}; expected a readable PEM file") from None
        return value

    @model_validator(mode="after")
    def _a_key_has_a_certificate(self) -> Self:
        if self.redis_key_file is not None and self.redis_cert_file is None:
            raise ValueError("REDIS_KEY_FILE stands alone; REDIS_CERT_FILE is expected beside it")
        return self


def _once(info: ValidationInfo) -> None:
    url = info.data.get("redis_url")
    if url is not None and "sentinel" not in str(info.field_name):
        address = redis_address.parse(url)
        if address.username or address.password:
            raise ValueError("REDIS_URL has a user or password too; expected in one place only")
