"""Fetch a model version in a short-lived process, because MLflow shall not live in the controller.

A version that was fetched before, and is whole, is used again without asking anybody: a restart needs no registry.
"""

import asyncio
import hashlib
import logging
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from kingmaker_contracts import package, profile, wire
from kingmaker_contracts.package import Manifest
from kingmaker_controller.errors import FetchFailed
from kingmaker_controller.rollout.facts import WantedVariant
from kingmaker_servicekit import child

logger = logging.getLogger(__name__)

_REGISTRY_SCHEME: Final = "models:/"
_LOOK_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class Fetched:
    """profile: the bytes of profile.json, None when the version has none; they were read and fit their sha256."""

    folder: Path
    manifest: Manifest
    profile: bytes | None


@dataclass(frozen=True, slots=True)
class Fetcher:
    """command: how the fetch step is started, without its arguments; root: where versions are kept;
    base: the folder of the resource file, which local paths may not leave."""

    command: Sequence[str]
    root: Path
    base: Path
    registry_uri: str | None
    env: Mapping[str, str]
    timeout_s: float

    async def fetch(self, wanted: WantedVariant, log: Path) -> Fetched:
        """The version a variant is pinned to, or whatever its model string leads to. Raises FetchFailed."""
        kept = await asyncio.to_thread(self._kept, wanted)  # a model may take a second to read
        if kept is not None:
            return kept
        answer = await self._run(_pinned(wanted), log)
        try:
            manifest = msgspec.convert(answer["manifest"], Manifest)
            folder = Path(answer["folder"])
        except (KeyError, TypeError, msgspec.ValidationError) as error:
            raise FetchFailed(f"the fetch step answered something else: {error}", "BadAnswer") from error
        fetched = Fetched(folder, manifest, _profile(folder, manifest))
        if wanted.version and (manifest.version, manifest.sha256) != (wanted.version, wanted.sha256):
            found = f"version {manifest.version}, sha256 {manifest.sha256[:12]}"
            raise FetchFailed(
                f"{wanted.model} now leads to {found}; pinned is version {wanted.version}, sha256 {wanted.sha256[:12]}."
                " Give the variant a new name or model string to accept it",
                "PinMismatch",
            )
        return fetched

    def _kept(self, wanted: WantedVariant) -> Fetched | None:
        if not wanted.version:
            return None
        for path in sorted(self.root.rglob(package.MANIFEST)):
            try:
                manifest = wire.read_json(path.read_bytes(), Manifest)
                is_it = (manifest.version, manifest.sha256) == (wanted.version, wanted.sha256)
                if is_it and manifest.profile_sha256 == wanted.profile:
                    _check(path.parent, manifest)
                    return Fetched(path.parent, manifest, _profile(path.parent, manifest))
            except (OSError, wire.BadRecord, FetchFailed) as error:
                logger.warning("kept version unreadable", extra={"folder": str(path.parent), "error": str(error)})
        return None

    async def _run(self, source: str, log: Path) -> dict[str, Any]:
        arguments = [*self.command, source, "--to", str(self.root), "--base", str(self.base)]
        if self.registry_uri:
            arguments += ["--registry", self.registry_uri]
        self.root.mkdir(parents=True, exist_ok=True)
        start = _size(log)
        process = child.start(arguments, self.env, log)
        try:
            async with asyncio.timeout(self.timeout_s):
                while process.poll() is None:  # noqa: ASYNC110 - Popen has nothing to await
                    await asyncio.sleep(_LOOK_S)
        except TimeoutError:
            raise FetchFailed(f"took longer than {self.timeout_s:g} s", "Timeout") from None
        finally:
            _end(process)
        answer = _last_object(log, start)
        if process.returncode == 0 and "folder" in answer:
            return answer
        raise FetchFailed(
            str(answer.get("error", f"the fetch step ended with code {process.returncode}; see {log.name}")),
            str(answer.get("reason", "FetchFailed")),
        )


def _pinned(wanted: WantedVariant) -> str:
    """The model string, an alias replaced by the version it was resolved to."""
    if not wanted.version or not wanted.model.startswith(_REGISTRY_SCHEME):
        return wanted.model
    name = wanted.model.removeprefix(_REGISTRY_SCHEME).split("@")[0].split("/")[0]
    return f"{_REGISTRY_SCHEME}{name}/{wanted.version}"


def _check(folder: Path, manifest: Manifest) -> None:
    """Of a model that was damaged since, the fetch step makes a whole one again. Raises FetchFailed and OSError."""
    with (folder / package.MODEL).open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != manifest.sha256:
        text = f"{package.MODEL} has sha256 {found[:12]}, the manifest says {manifest.sha256[:12]}"
        raise FetchFailed(text, "ShaMismatch")


def _profile(folder: Path, manifest: Manifest) -> bytes | None:
    if manifest.profile_sha256 is None:
        return None
    try:
        with (folder / package.PROFILE).open("rb") as file:
            raw = file.read(profile.MAX_BYTES + 1)
        if len(raw) > profile.MAX_BYTES:
            raise FetchFailed(f"{package.PROFILE} is larger than {profile.MAX_BYTES} bytes", "BadProfile")
        wire.read_json(raw, profile.Profile)
    except (OSError, wire.BadRecord) as error:
        raise FetchFailed(f"{package.PROFILE} cannot be used: {error}", "BadProfile") from error
    found = profile.sha256_of(raw)
    if found != manifest.profile_sha256:
        text = f"{package.PROFILE} has sha256 {found[:12]}, the manifest says {manifest.profile_sha256[:12]}"
        raise FetchFailed(text, "BadProfile")
    return raw


def _size(log: Path) -> int:
    return log.stat().st_size if log.exists() else 0


def _last_object(log: Path, start: int) -> dict[str, Any]:
    with log.open("rb") as file:
        file.seek(start)
        lines = file.read().splitlines()
    for line in reversed(lines):
        try:
            answer = msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
        if isinstance(answer, dict) and ("folder" in answer or "error" in answer):
            return answer
    return {}


def _end(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        process.kill()
        process.wait()
