"""Write a fetched version as a package folder, whole or not at all.

The folder is built beside its final place and renamed, its manifest being the last file written. Folders
are named by content, so a finished one is used again; a damaged one is replaced.
"""

import hashlib
import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from kingmaker_contracts import package, wire
from kingmaker_contracts.package import Manifest
from kingmaker_contracts.profile import sha256_of
from kingmaker_model_server.errors import BadModel
from kingmaker_model_server.fetch.failure import FetchFailed
from kingmaker_model_server.package import read_manifest, read_profile


@dataclass(slots=True, frozen=True)
class Content:
    """The files of a version, verified against each other by `manifest_of`."""

    model: bytes
    profile: bytes | None


def manifest_of(content: Content, source: str, name: str, version: str | None, alias: str | None = None) -> Manifest:
    """The manifest of a version; without a registry's version, the beginning of the model's sha256.

    Raises FetchFailed when the profile is unreadable or describes another model.
    """
    sha256 = hashlib.sha256(content.model).hexdigest()
    profile_sha256 = None
    if content.profile is not None:
        try:
            profile = read_profile(content.profile, "profile.json")
        except BadModel as fault:
            raise FetchFailed("BadProfile", str(fault)) from None
        if profile.onnx_sha256 != sha256:
            raise FetchFailed(
                "ShaMismatch", f"model.onnx has sha256 {sha256}, onnx_sha256 of profile.json is {profile.onnx_sha256}"
            )
        profile_sha256 = sha256_of(content.profile)
    return Manifest(source, name, version or sha256[:8], sha256, alias, profile_sha256)


def place(root: Path, name: str, version: str, sha256: str) -> Path:
    """Where a version's folder is: ROOT/<name>-<version>-<sha12>, the name made fit for a path."""
    return root / f"{re.sub(r'[^A-Za-z0-9._-]', '_', name).lstrip('.') or '_'}-{version}-{sha256[:12]}"


def finished(folder: Path, sha256: str) -> Manifest | None:
    """The manifest of a folder that is complete and undamaged, else None."""
    try:
        manifest = read_manifest(folder / package.MANIFEST)
        model = (folder / package.MODEL).read_bytes()
        if manifest.profile_sha256 is not None:
            profile = (folder / package.PROFILE).read_bytes()
            if sha256_of(profile) != manifest.profile_sha256:
                return None
    except (BadModel, OSError):
        return None
    if manifest.sha256 != sha256 or hashlib.sha256(model).hexdigest() != sha256:
        return None
    return manifest


def write(root: Path, content: Content, manifest: Manifest) -> Path:
    """The finished folder of a version. Raises FetchFailed when the disk refuses."""
    folder = place(root, manifest.name, manifest.version, manifest.sha256)
    try:
        root.mkdir(parents=True, exist_ok=True)
        _write(folder, content, manifest)
    except OSError as fault:
        raise FetchFailed("WriteFailed", f"cannot write {folder}: {fault.strerror or fault}") from None
    return folder


def _write(folder: Path, content: Content, manifest: Manifest) -> None:
    if _holds(folder, manifest):
        return
    fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        fresh.chmod(0o755)  # mkdtemp makes it private; the server may be another user
        (fresh / package.MODEL).write_bytes(content.model)
        if content.profile is not None:
            (fresh / package.PROFILE).write_bytes(content.profile)
        (fresh / package.MANIFEST).write_bytes(wire.write_json(manifest))
        _put(fresh, folder, manifest)
    except OSError:
        shutil.rmtree(fresh, ignore_errors=True)
        if not _holds(folder, manifest):
            raise


def _put(fresh: Path, folder: Path, manifest: Manifest) -> None:
    """Rename it. A finished folder stays: another fetch was faster, and somebody may read that one already."""
    try:
        os.rename(fresh, folder)  # noqa: PTH104 - must fail, not nest, where there is one
    except OSError:
        if not folder.exists() or _holds(folder, manifest):
            raise
        shutil.rmtree(folder)  # unfinished or damaged: nobody can be serving it
        os.rename(fresh, folder)  # noqa: PTH104


def _holds(folder: Path, manifest: Manifest) -> bool:
    """Whether it is finished with this model and profile."""
    done = finished(folder, manifest.sha256)
    return done is not None and done.profile_sha256 == manifest.profile_sha256
