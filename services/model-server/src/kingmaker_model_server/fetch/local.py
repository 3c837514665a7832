"""Take a version from a path: an .onnx file, a folder with one, a saved MLflow model, or a fetched package."""

from pathlib import Path

from kingmaker_contracts import package
from kingmaker_contracts.package import Manifest
from kingmaker_contracts.profile import FILE_NAME
from kingmaker_model_server.errors import BadModel
from kingmaker_model_server.fetch import folder, source
from kingmaker_model_server.fetch.failure import FetchFailed
from kingmaker_model_server.package import only_model, read_manifest


def fetch(text: str, base: Path, root: Path) -> tuple[Path, Manifest]:
    """The folder and manifest for a path below base. Raises FetchFailed."""
    path = source.inside(text, base)
    name, version, told = path.stem if path.is_file() else path.name, None, None
    if (path / package.MANIFEST).is_file():
        told = _manifest(path / package.MANIFEST)
        name, version = told.name, told.version
    content = read(path, base)
    manifest = folder.manifest_of(content, text, name, version)
    if told is not None:
        _check(told, manifest, path)
    return folder.write(root, content, manifest), manifest


def _check(told: Manifest, found: Manifest, path: Path) -> None:
    """Raises FetchFailed unless a package holds what its manifest says."""
    for field in ("sha256", "profile_sha256"):
        says, has = getattr(told, field), getattr(found, field)
        if says != has:
            text = f"{path}: {field} is {has}, {package.MANIFEST} says {says}; the package is damaged, fetch it again"
            raise FetchFailed("ShaMismatch", text)


def read(path: Path, base: Path) -> folder.Content:
    """The model and, in a folder, the profile beside it; links may not lead out of base either. Raises FetchFailed."""
    try:
        if path.is_file():
            if path.suffix != ".onnx":
                raise FetchFailed("NotOnnx", f"{path} is no .onnx file")
            return folder.Content(path.read_bytes(), None)
        model = source.inside(str(only_model(path)), base)
        found = [path / name for name in (FILE_NAME, package.PROFILE) if (path / name).is_file()]
        profile = source.inside(str(found[0]), base).read_bytes() if found else None
        return folder.Content(model.read_bytes(), profile)
    except BadModel as fault:
        raise FetchFailed("NotOnnx", str(fault)) from None
    except OSError as fault:
        raise FetchFailed("ModelNotFound", f"cannot read {path}: {fault.strerror or fault}") from None


def _manifest(path: Path) -> Manifest:
    try:
        return read_manifest(path)
    except BadModel as fault:
        raise FetchFailed("BadProfile", str(fault)) from None
