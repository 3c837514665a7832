"""Images this workplace has no registry for: python:3.11-slim and valkey/valkey, made from Debian packages.

debootstrap makes a small Debian 12, whose Python is 3.11. It trusts the certificates this machine trusts, because the
machine's way to the package index may have one of its own.
"""

import shutil
from pathlib import Path
from typing import Final

from tests.images.engine import Engine

PYTHON: Final = "localhost/python-stand-in"
REDIS: Final = "localhost/valkey-stand-in"

_TRUSTED: Final = Path("/etc/ssl/certs/ca-certificates.crt")
_NOT_IN_A_SLIM_IMAGE: Final = ("usr/share/doc", "usr/share/man", "usr/share/locale", "var/lib/apt/lists", "var/cache")
_REDIS_IMAGE: Final = f"""
FROM {PYTHON}
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends redis-server \\
    && ln -s redis-server /usr/bin/valkey-server && ln -s redis-cli /usr/bin/valkey-cli \\
    && mkdir /data && chown 999:1000 /data
"""


def make_python(engine: Engine) -> None:
    """It is kept from one run to the next, since whatever is built on it would have to be built anew."""
    files, mark = engine.folder / "debian", engine.folder / "debian.made"
    if not mark.exists():
        shutil.rmtree(files, ignore_errors=True)
        _make_debian(engine, files)
        mark.touch()
    elif engine.has(PYTHON):
        return
    container = engine.say("buildah", "from", "scratch").strip()
    engine.say("buildah", "copy", "--quiet", container, files, "/", timeout_s=300)
    engine.say("buildah", "commit", "--quiet", container, PYTHON, timeout_s=300)
    engine.say("buildah", "rm", container)


def make_redis(engine: Engine) -> None:
    if engine.has(REDIS):
        return
    file = engine.folder / "redis.Dockerfile"
    file.write_text(_REDIS_IMAGE)
    engine.say("buildah", "build", "--tag", REDIS, "--file", file, engine.folder / "networks", timeout_s=300)


def _make_debian(engine: Engine, files: Path) -> None:
    packages = "--include=python3,python3-venv,python-is-python3,ca-certificates"
    engine.say("debootstrap", "--variant=minbase", packages, "bookworm", files, timeout_s=600)
    for name in _NOT_IN_A_SLIM_IMAGE:
        shutil.rmtree(files / name)
        (files / name).mkdir()
    shutil.copyfile(_TRUSTED, files / _TRUSTED.relative_to("/"))
    (files / "etc/pip.conf").write_text(f"[global]\ncert = {_TRUSTED}\n")
    (files / "etc/uv").mkdir()
    (files / "etc/uv/uv.toml").write_text("system-certs = true\n")
