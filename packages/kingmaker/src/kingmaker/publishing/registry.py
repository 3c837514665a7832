"""Where a version goes: MLflow, and the only module of this package that knows it.

The version is MLflow's own ONNX flavour, so any MLflow tool can load and serve it, with kingmaker/profile.json in
the same artifact folder. There is no input example, for that would be somebody's row. Everything goes through one
client with the address handed in: the process's active experiment, run and tracking address are left as they are.
"""

import contextlib
import logging
import os
import re
import socket
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from kingmaker import registry_file
from kingmaker.publishing.errors import BadTarget, RegistryRefused, RegistryUnreachable
from kingmaker_contracts.inference import DTYPES
from kingmaker_contracts.profile import FILE_NAME, Feature, Output

EXPERIMENT: Final = "kingmaker"
CONNECT_TIMEOUT_S: Final = 5.0


@dataclass(slots=True, frozen=True)
class Content:
    """What is stored as one version. inputs, outputs: the graph's; tags: of the version; metrics: of the run that
    made it."""

    onnx: bytes
    profile: bytes
    inputs: Sequence[Feature]
    outputs: Sequence[Output]
    tags: Mapping[str, str]
    metrics: Mapping[str, float]


def resolve(uri: str | None) -> str:
    """The registry's address: the one given, or MLFLOW_TRACKING_URI. Raises BadTarget without either."""
    found = uri or os.environ.get("MLFLOW_TRACKING_URI")
    if not found:
        raise BadTarget(
            "no registry: give --registry (registry=... in Python), for example sqlite:///mlflow.db, or set "
            "MLFLOW_TRACKING_URI"
        )
    return found


def check(uri: str, name: str, alias: str | None, timeout_s: float = CONNECT_TIMEOUT_S) -> None:
    """Fail now rather than after the work: is somebody there, and can name and alias be?

    MLflow itself would retry a dead server for minutes. Raises RegistryUnreachable, BadTarget.
    """
    if not name or "/" in name or ":" in name:
        raise BadTarget(f"model name {name!r}: expected a name without '/' and ':'")
    if alias is not None and (not re.fullmatch(r"[\w-]+", alias) or re.fullmatch(r"latest|v?\d+", alias.lower())):
        raise BadTarget(f"alias {alias!r} is empty, reserved or not one word; expected letters, digits, '-' and '_'")
    parts = urlsplit(uri)
    if parts.scheme in {"http", "https"}:
        _check_http(uri, timeout_s)
    elif uri.startswith(registry_file.SQLITE):
        _check_sqlite(uri, registry_file.path_of(uri))
    elif parts.hostname and parts.port:
        try:
            socket.create_connection((parts.hostname, parts.port), timeout_s).close()
        except OSError as error:
            raise RegistryUnreachable(f"no registry answers at {parts.hostname}:{parts.port}: {error}") from error


def store(uri: str, name: str, alias: str | None, content: Content) -> int:
    """Store a version and point the alias at it. Returns the version's number.

    The alias moves last: whoever follows it finds a whole version. Raises RegistryRefused.
    """
    # Publishing talks to the registry and to nobody else; MLflow reads this when it is imported.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow import MlflowClient  # noqa: PLC0415 - three seconds that only a publication should cost

    with _quiet_and_explained():
        registry_file.make(uri)
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        run_id = client.create_run(_experiment(client, uri), run_name=f"publish {name}").info.run_id
        try:
            version = _logged(client, uri, run_id, name, content)
        except BaseException:
            client.set_terminated(run_id, "FAILED")
            raise
        client.set_terminated(run_id)
        if alias is not None:
            client.set_registered_model_alias(name, alias, str(version))
    return version


def _logged(client: Any, uri: str, run_id: str, name: str, content: Content) -> int:
    """Files and numbers as a logged model of the run, and a version that points to them."""
    experiment_id = client.get_run(run_id).info.experiment_id
    model = client.create_logged_model(experiment_id, name, source_run_id=run_id, tags=dict(content.tags))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model"
        _write(path, model, content)
        client.log_model_artifacts(model.model_id, str(path))
    client.finalize_logged_model(model.model_id, "READY")
    for key, value in content.metrics.items():
        client.log_metric(run_id, key, value, model_id=model.model_id)
    _registered(client, name)
    # A server resolves models:/<id> itself; a database would look it up at the process's own tracking address.
    remote = urlsplit(uri).scheme in {"http", "https"}
    source = f"models:/{model.model_id}" if remote else model.artifact_location
    version = client.create_model_version(name, source, run_id=run_id, tags=dict(content.tags), model_id=model.model_id)
    return int(version.version)


def _check_http(uri: str, timeout_s: float) -> None:
    try:
        status = httpx.get(uri.rstrip("/") + "/version", timeout=timeout_s).status_code
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise RegistryUnreachable(f"no registry answers at {uri}: {error or type(error).__name__}") from error
    if status >= 500:
        raise RegistryUnreachable(f"the registry at {uri} answers with status {status}")


def _check_sqlite(uri: str, path: Path) -> None:
    if path.exists():
        try:
            with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=1)) as connection:
                connection.execute("SELECT name FROM sqlite_master LIMIT 1")
        except sqlite3.Error as error:
            raise RegistryUnreachable(f"{uri} is not a usable SQLite file: {error}") from error
        return
    parent = next(folder for folder in path.parents if folder.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise RegistryUnreachable(f"{uri} cannot be created: {parent} is not a folder one may write to")


def _experiment(client: Any, uri: str) -> str:
    """The experiment versions are logged under. On SQLite its artifacts lie beside the database, absolute,
    so that the working directory of a later reader does not matter; a server decides for itself."""
    found = client.get_experiment_by_name(EXPERIMENT)
    if found is not None:
        if found.lifecycle_stage != "active":
            client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)
    location = str(registry_file.path_of(uri).parent / "artifacts") if uri.startswith(registry_file.SQLITE) else None
    return str(client.create_experiment(EXPERIMENT, artifact_location=location))


def _write(path: Path, model: Any, content: Content) -> None:
    """The artifact folder: the ONNX flavour as MLflow writes it, the checked bytes as model.onnx, the profile."""
    import mlflow.onnx  # noqa: PLC0415
    import onnx  # noqa: PLC0415
    from mlflow.models import Model  # noqa: PLC0415

    mlflow.onnx.save_model(
        onnx.load_model_from_string(content.onnx),
        str(path),
        mlflow_model=Model(artifact_path=model.artifact_location, model_uuid=model.model_id, model_id=model.model_id),
        signature=_signature(content),
        pip_requirements=[f"onnx=={onnx.__version__}", "onnxruntime"],  # given, else MLflow spends a minute guessing
        onnx_execution_providers=["CPUExecutionProvider"],
        save_as_external_data=False,
    )
    (path / "model.onnx").write_bytes(content.onnx)
    profile = path / FILE_NAME
    profile.parent.mkdir()
    profile.write_bytes(content.profile)


def _signature(content: Content) -> Any:
    """What MLflow checks and shapes a request by. Tensors, not columns: of a column MLflow makes a vector, and each of
    our inputs is a table of one column, which ONNX Runtime tells apart."""
    from mlflow.models import ModelSignature  # noqa: PLC0415
    from mlflow.types.schema import Schema, TensorSpec  # noqa: PLC0415

    def schema(tensors: Sequence[Feature] | Sequence[Output]) -> Any:
        return Schema([TensorSpec(DTYPES[one.datatype], tuple(one.shape), one.name) for one in tensors])

    return ModelSignature(schema(content.inputs), schema(content.outputs))


def _registered(client: Any, name: str) -> None:
    from mlflow.exceptions import MlflowException  # noqa: PLC0415

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code not in {"RESOURCE_ALREADY_EXISTS", "ALREADY_EXISTS"}:
            raise


@contextlib.contextmanager
def _quiet_and_explained() -> Iterator[None]:
    """Only MLflow's errors, and those as ours. Alembic's come from a database of another MLflow version."""
    from alembic.util.exc import CommandError  # noqa: PLC0415
    from mlflow.exceptions import MlflowException  # noqa: PLC0415
    from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415

    loggers = [logging.getLogger(name) for name in ("mlflow", "alembic")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    except (MlflowException, SQLAlchemyError, CommandError, OSError, ModuleNotFoundError) as error:
        reason = " ".join(str(error).split())[:400]
        raise RegistryRefused(f"MLflow could not store the model: {reason}") from error
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
