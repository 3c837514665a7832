"""Take a version from an MLflow registry. Works with mlflow-skinny (plus sqlalchemy and alembic for sqlite:///).

No pandas is needed. mlflow is imported inside functions, after what needs no registry was checked: that takes 3 s. An
alias is resolved once; from then on only its version is spoken of.
"""

import contextlib
import hashlib
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from kingmaker_contracts.package import Manifest
from kingmaker_contracts.profile import FILE_NAME
from kingmaker_model_server.fetch import folder
from kingmaker_model_server.fetch.failure import FetchFailed
from kingmaker_model_server.fetch.source import RegistrySource

SHA_TAG: Final = "kingmaker.onnx_sha256"
_SQLITE: Final = "sqlite:///"
_ENVIRONMENT: Final = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}
"""MLflow's own defaults keep an unreachable registry waiting for four minutes; these, with _ANSWER_S, for about ten
seconds."""
_TIMEOUT: Final = "MLFLOW_HTTP_REQUEST_TIMEOUT"
_ANSWER_S: Final = "4"
_FIRST_BYTE_S: Final = "120"
"""Of an artifact: an MLflow that hands them out itself may fetch one whole from its store before it sends the first."""


def fetch(text: str, wanted: RegistrySource, uri: str, root: Path) -> tuple[Path, Manifest]:
    """The folder and manifest of a registered version. Raises FetchFailed."""
    _check_uri(uri)
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    with _patience(_ANSWER_S):
        version, tags, artifacts = _resolve(wanted, uri)
    told = tags.get(SHA_TAG)
    if told is not None:
        place = folder.place(root, wanted.name, version, told)
        done = folder.finished(place, told)
        if done is not None:
            return place, Manifest(text, wanted.name, version, told, wanted.alias, done.profile_sha256)
    with _patience(_FIRST_BYTE_S):
        content = _download(artifacts, uri)
    sha256 = hashlib.sha256(content.model).hexdigest()
    if told is not None and told != sha256:
        raise FetchFailed("ShaMismatch", f"{text}: model.onnx has sha256 {sha256}, the tag {SHA_TAG} says {told}")
    manifest = folder.manifest_of(content, text, wanted.name, version, wanted.alias)
    return folder.write(root, content, manifest), manifest


@contextlib.contextmanager
def _patience(seconds: str) -> Iterator[None]:
    """How long MLflow's client waits for each answer, unless the operator has said so."""
    if _TIMEOUT in os.environ:
        yield
        return
    os.environ[_TIMEOUT] = seconds
    try:
        yield
    finally:
        del os.environ[_TIMEOUT]


def _check_uri(uri: str) -> None:
    """Refuse what MLflow would answer by creating an empty database. Raises FetchFailed."""
    if uri.startswith(("http://", "https://")):
        return
    if not uri.startswith(_SQLITE):
        raise FetchFailed("RegistryUnreachable", f"registry {uri!r} is neither sqlite:/// nor http(s)://")
    path = Path(uri.removeprefix(_SQLITE).partition("?")[0])
    if not path.is_file():
        raise FetchFailed("RegistryUnreachable", f"registry {uri!r}: there is no file {path}")
    try:
        with sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True) as database:
            database.execute("SELECT 1 FROM model_versions LIMIT 1")
    except sqlite3.Error as fault:
        raise FetchFailed("RegistryUnreachable", f"registry {uri!r} holds no MLflow registry: {fault}") from None


def _resolve(wanted: RegistrySource, uri: str) -> tuple[str, dict[str, str], str]:
    """The version's number, its tags, and where its files are. Raises FetchFailed."""
    from mlflow import MlflowClient  # noqa: PLC0415
    from mlflow.exceptions import MlflowException  # noqa: PLC0415

    try:
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    except MlflowException as fault:
        raise _unreachable(uri, fault) from None
    try:
        if wanted.alias is not None:
            found = client.get_model_version_by_alias(wanted.name, wanted.alias)
        else:
            found = client.get_model_version(wanted.name, str(wanted.version))
        artifacts = client.get_model_version_download_uri(wanted.name, str(found.version))
    except MlflowException as fault:
        raise _not_found(client, wanted, uri, fault) from None
    return str(found.version), dict(found.tags), artifacts


def _not_found(client: Any, wanted: RegistrySource, uri: str, fault: Exception) -> FetchFailed:
    """Which of model, alias and version is missing; the registry's own error tells it differently by store."""
    from mlflow.exceptions import MlflowException  # noqa: PLC0415

    if getattr(fault, "error_code", "") not in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
        return _unreachable(uri, fault)
    try:
        aliases = client.get_registered_model(wanted.name).aliases
    except MlflowException as second:
        if getattr(second, "error_code", "") not in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            return _unreachable(uri, second)
        return FetchFailed("ModelNotFound", f"the registry has no model {wanted.name!r}")
    if wanted.alias is not None:
        known = ", ".join(sorted(aliases)) or "none"
        return FetchFailed("AliasNotFound", f"model {wanted.name!r} has no alias {wanted.alias!r}; it has {known}")
    return FetchFailed("VersionNotFound", f"model {wanted.name!r} has no version {wanted.version}")


def _unreachable(uri: str, fault: Exception) -> FetchFailed:
    return FetchFailed("RegistryUnreachable", f"registry {uri!r}: {str(fault).splitlines()[0][:300]}")


def _download(artifacts: str, uri: str) -> folder.Content:
    """Model and profile of a version. Raises FetchFailed."""
    import mlflow.artifacts  # noqa: PLC0415
    from mlflow.exceptions import MlflowException  # noqa: PLC0415

    with tempfile.TemporaryDirectory(prefix="kingmaker-fetch-") as temporary:
        try:
            got = mlflow.artifacts.download_artifacts(artifact_uri=artifacts, dst_path=temporary, tracking_uri=uri)
        except (MlflowException, OSError) as fault:
            raise FetchFailed("RegistryUnreachable", f"cannot download {artifacts}: {fault}") from None
        except ImportError as fault:  # MLflow brings no client of a cloud's own store
            text = f"cannot download {artifacts}: {fault}; let MLflow hand artifacts out itself (--serve-artifacts)"
            raise FetchFailed("RegistryUnreachable", text) from None
        path = Path(got)
        model = _onnx_file(path).read_bytes()
        profile = path / FILE_NAME
        return folder.Content(model, profile.read_bytes() if profile.is_file() else None)


class _MLmodel(msgspec.Struct):
    """The part of an MLmodel file that says where the model is."""

    flavors: dict[str, dict[str, Any]]


def _onnx_file(path: Path) -> Path:
    """The model file the MLmodel's onnx flavour names. Raises FetchFailed.

    The file is read here, because MLflow's own reader imports pandas for a signature that nobody looks at: 100 MB more
    in every image.
    """
    try:
        flavors = msgspec.yaml.decode((path / "MLmodel").read_bytes(), type=_MLmodel).flavors
    except (OSError, msgspec.DecodeError) as fault:
        raise FetchFailed("NotOnnx", f"the version's MLmodel cannot be read: {fault}") from None
    if "onnx" not in flavors:
        raise FetchFailed("NotOnnx", f"the version has no onnx flavour, only {', '.join(sorted(flavors))}")
    data = path / str(flavors["onnx"].get("data", "model.onnx"))
    if data.is_dir():  # older MLflow names the folder
        data /= "model.onnx"
    if not data.resolve().is_relative_to(path.resolve()) or not data.is_file():
        raise FetchFailed("NotOnnx", f"the version holds no file {data.name!r}, which its MLmodel names")
    if any(data.parent.glob(f"{data.name}.data")):
        raise FetchFailed(
            "NotOnnx", "the model's weights lie in a separate file, not supported yet; publish with external data off"
        )
    return data
