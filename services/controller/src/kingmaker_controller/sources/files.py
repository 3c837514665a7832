"""ServedModels from one YAML file that people edit while it is in use.

The file is named, not held open, so editors that replace it by rename are followed; and it is read whole at
every look (it is small), because two writes within one tick of the file system's clock leave one mtime. A change counts
once two looks in a row find the same bytes: a half-written file is thus rarely seen, and when it is,
it is a faulty edit like any other, which changes nothing and is read again when it changes.
"""

import hashlib
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from kingmaker_contracts import keys, served_model
from kingmaker_contracts.served_model import Fault, InvalidResource
from kingmaker_controller.sources import Document, Reading

MAX_BYTES: Final = 1024 * 1024


class FileSource:
    """Follows one file. Not for two threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._settling: str | None = None
        self._given: str | None = None

    def poll(self) -> Reading | None:
        """A new reading once the content has settled, else None."""
        raw = self._read()
        digest = hashlib.sha256(raw).hexdigest() if isinstance(raw, bytes) else str(raw)
        if digest == self._given:
            self._settling = None
            return None
        if digest != self._settling and self._given is not None:  # the very first look has nothing to protect
            self._settling = digest
            return None
        self._settling, self._given = None, digest
        if isinstance(raw, Fault):
            return Reading({}, (raw,))
        return parse(raw, self._path.name)

    def _read(self) -> bytes | Fault:
        try:
            with self._path.open("rb") as file:
                raw = file.read(MAX_BYTES + 1)
        except OSError as error:
            return Fault(self._path.name, f"cannot be read: {error.strerror}")
        if len(raw) > MAX_BYTES:
            return Fault(self._path.name, f"is larger than {MAX_BYTES} bytes")
        return raw


def parse(raw: bytes, file_name: str) -> Reading:
    """Every document of a file. A syntax error is a fault of the whole file, with its line."""
    try:
        documents = [data for data in YAML(typ="safe", pure=True).load_all(raw.decode()) if data is not None]
    except UnicodeDecodeError as error:
        return Reading({}, (Fault(file_name, f"is not UTF-8: {error.reason} at byte {error.start}"),))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{file_name}:{mark.line + 1}:{mark.column + 1}" if mark else file_name
        return Reading({}, (Fault(where, f"not valid YAML: {error.problem or error.context}"),))
    except (YAMLError, ValueError, RecursionError) as error:
        return Reading({}, (Fault(file_name, f"not valid YAML: {error}"),))
    if not documents:
        return Reading({}, (Fault(file_name, "holds no ServedModel"),))
    return _gather(documents, file_name)


def _gather(documents: list[Any], file_name: str) -> Reading:
    models: dict[str, Document] = {}
    faults: list[Fault] = []
    for index, data in enumerate(documents):
        document = _document(data)
        model = _model_of(data)
        if document.resource is not None:
            metadata = document.resource.metadata
            model = keys.model_id(metadata.namespace, metadata.name)
        if model is None:
            where = f"{file_name}[{index}]." if len(documents) > 1 else ""
            faults += [Fault(where + fault.path, fault.message) for fault in document.faults]
        elif model in models:
            models[model] = Document(None, (Fault("metadata.name", f"{model} stands twice in {file_name}"),))
        else:
            models[model] = document
    return Reading(models, tuple(faults))


def _document(data: Any) -> Document:
    try:
        return Document(served_model.parse(data))
    except InvalidResource as error:
        return Document(None, tuple(error.faults))


def _model_of(data: Any) -> str | None:
    """Whom a faulty document is about, if that much can be told."""
    metadata = data.get("metadata") if isinstance(data, dict) else None
    if not isinstance(metadata, dict):
        return None
    name, namespace = metadata.get("name"), metadata.get("namespace", "default")
    if (
        not (isinstance(name, str) and isinstance(namespace, str))
        or "/" in name + namespace
        or not (name and namespace)
    ):
        return None
    return keys.model_id(namespace, name)
