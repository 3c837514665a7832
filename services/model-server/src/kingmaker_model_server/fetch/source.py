"""What a model string means. Pure but for `inside`, which looks at the disk for links."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kingmaker_model_server.fetch.failure import FetchFailed

SCHEME: Final = "models:/"
_FORM: Final = re.compile(r"models:/(?P<name>[^/:@]+)(?:/(?P<version>[^/:@]+)|@(?P<alias>[^/:@]+))")


@dataclass(slots=True, frozen=True)
class RegistrySource:
    """A registered model's version, or the alias that names one: exactly one of the two."""

    name: str
    version: str | None
    alias: str | None


def parse(text: str) -> RegistrySource:
    """`models:/name/3` or `models:/name@alias`. Raises FetchFailed."""
    match = _FORM.fullmatch(text)
    if match is None:
        raise FetchFailed("ModelNotFound", f"{text!r} is neither models:/name/version nor models:/name@alias")
    version = match["version"]
    if version is not None and not re.fullmatch("[1-9][0-9]*", version):
        raise FetchFailed("VersionNotFound", f"{text!r}: version is {version!r}, expected a number; aliases follow @")
    return RegistrySource(match["name"], version, match["alias"])


def inside(text: str, base: Path) -> Path:
    """The path a local source names, relative to base. Raises FetchFailed when it is not there or leaves base."""
    root = base.resolve()
    path = (root / text).resolve()
    if not path.is_relative_to(root):
        raise FetchFailed("OutsideFolder", f"{text!r} leads out of the folder {root}")
    if not path.exists():
        raise FetchFailed("ModelNotFound", f"{text!r} does not exist in {root}")
    return path
