"""Read a model from disk and make sure that it is the one that was meant.

Three forms are taken: a package as the fetch step writes it, a folder with exactly one .onnx file, an
.onnx file. The bytes that were hashed are the bytes that are loaded: the file is read once. Weights in
separate files (ONNX external data) are outside the hash and therefore not supported.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import msgspec

from kingmaker_contracts import package, profile, wire
from kingmaker_contracts.profile import Profile
from kingmaker_model_server.errors import BadModel


@dataclass(slots=True, frozen=True)
class Package:
    """A model in memory. version: None without a manifest; profile_bytes, which profile was read from, and its sha256:
    None without a profile."""

    path: Path
    model: bytes
    sha256: str
    version: str | None
    source: str
    profile: Profile | None
    profile_sha256: str | None
    profile_bytes: bytes | None = None


def read(path: Path, expected_sha256: str | None = None) -> Package:
    """The package at `path`. Raises BadModel, naming the file and the field."""
    try:
        return _read(path, expected_sha256)
    except OSError as error:  # a folder this user may not look into, say; files are told of by their own names
        raise BadModel(f"{path}: {(error.strerror or str(error)).lower()}") from None


def _read(path: Path, expected_sha256: str | None) -> Package:
    if not path.exists():
        raise BadModel(f"{path}: does not exist")
    if path.is_file():
        return _plain(path, None, expected_sha256)
    manifest = path / package.MANIFEST
    if manifest.is_file():
        return _fetched(path, read_manifest(manifest), expected_sha256)
    if (path / package.PROFILE).exists():
        raise BadModel(f"{manifest}: is missing; the package is unfinished, fetch it again")
    return _plain(only_model(path), path / profile.FILE_NAME, expected_sha256)


def read_manifest(path: Path) -> package.Manifest:
    """A manifest. Raises BadModel."""
    try:
        return wire.read_json(_bytes(path), package.Manifest)
    except wire.BadRecord as error:
        raise BadModel(f"{path}: {error}") from None


def read_profile(raw: bytes, where: str) -> Profile:
    """A profile from its bytes. where: names it in errors. Raises BadModel."""
    if len(raw) > profile.MAX_BYTES:
        raise BadModel(f"{where}: has {len(raw)} bytes, at most {profile.MAX_BYTES} are allowed")
    try:
        return msgspec.json.decode(raw, type=Profile)
    except (msgspec.DecodeError, ValueError) as error:
        raise BadModel(f"{where}: {error}") from None


def only_model(folder: Path) -> Path:
    """The one .onnx file of a folder. Raises BadModel when there is none or a choice."""
    models = sorted(folder.glob("*.onnx"))
    if len(models) != 1:
        found = ", ".join(model.name for model in models) or "none"
        raise BadModel(f"{folder}: holds {found} where one .onnx file was expected")
    return models[0]


def _fetched(folder: Path, manifest: package.Manifest, expected_sha256: str | None) -> Package:
    path = folder / package.MODEL
    model = _bytes(path)
    sha256 = _checked(path, model, {"sha256 of manifest.json": manifest.sha256, "EXPECTED_SHA256": expected_sha256})
    found = folder / package.PROFILE
    if manifest.profile_sha256 is None and found.exists():
        raise BadModel(f"{found}: is not in {package.MANIFEST}: its field profile_sha256 is null")
    parsed, raw = None, None
    if manifest.profile_sha256 is not None:
        raw = _bytes(found)
        _checked(found, raw, {"profile_sha256 of manifest.json": manifest.profile_sha256})
        parsed = _profile_of(raw, found, sha256)
    return Package(path, model, sha256, manifest.version, manifest.source, parsed, manifest.profile_sha256, raw)


def _plain(path: Path, beside: Path | None, expected_sha256: str | None) -> Package:
    model = _bytes(path)
    sha256 = _checked(path, model, {"EXPECTED_SHA256": expected_sha256})
    if beside is None or not beside.is_file():
        return Package(path, model, sha256, None, path.name, None, None)
    raw = _bytes(beside)
    parsed = _profile_of(raw, beside, sha256)
    return Package(path, model, sha256, None, path.name, parsed, profile.sha256_of(raw), raw)


def _profile_of(raw: bytes, path: Path, sha256: str) -> Profile:
    parsed = read_profile(raw, str(path))
    if parsed.onnx_sha256 != sha256:
        raise BadModel(f"{path}: onnx_sha256 is {parsed.onnx_sha256}, but the model beside it has {sha256}")
    return parsed


def _checked(path: Path, raw: bytes, expected: dict[str, str | None]) -> str:
    sha256 = hashlib.sha256(raw).hexdigest()
    for source, wanted in expected.items():
        if wanted is not None and wanted != sha256:
            raise BadModel(f"{path}: sha256 is {sha256}, {source} says {wanted}; the file is damaged or another one")
    return sha256


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadModel(f"{path}: {(error.strerror or str(error)).lower()}") from None
