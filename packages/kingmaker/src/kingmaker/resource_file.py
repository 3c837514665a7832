"""Read a ServedModel file, and change a weight in it without touching anything else.

Comments, order and layout of the file survive; the result is checked before it is written, and it is
written by renaming, so a reader never sees half a file.
"""

import contextlib
import os
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from kingmaker_contracts.keys import model_id
from kingmaker_contracts.served_model import Fault, InvalidResource, ServedModel, parse


class ResourceFileError(Exception):
    """The file cannot be used; the text says where and why."""


def load(file: Path) -> list[ServedModel]:
    """Every resource of the file. Raises ResourceFileError."""
    return _resources(file, _documents(file))


def set_weights(file: Path, model: str, weights: Mapping[str, int]) -> dict[str, int | None]:
    """Set challengers' weights of one model in its file.

    model: name or namespace/name. Returns the weights as they were. Raises ResourceFileError, and then
    the file is as it was.
    """
    file = file.resolve()  # a link stays one: a running stack follows what it leads to
    documents = _documents(file)
    at = _position(file, documents, model)
    spec = documents[at]["spec"]
    before = {name: (spec.get("weights") or {}).get(name) for name in weights}
    if not spec.get("weights"):
        spec["weights"] = {}
    spec["weights"].update(weights)
    _checked(file, documents[at])
    _replace(file, documents)
    return before


def _documents(file: Path) -> list[Any]:
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ResourceFileError(f"{file}: no such file") from None
    except OSError as error:
        raise ResourceFileError(f"{file}: cannot be read: {error}") from None
    except UnicodeDecodeError as error:
        raise ResourceFileError(f"{file}: is not UTF-8: {error.reason} at byte {error.start}") from None
    try:
        documents = [document for document in _yaml().load_all(text) if document is not None]
    except MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise ResourceFileError(f"{file}: {line}not YAML: {error.problem}") from None
    except (YAMLError, ValueError) as error:  # ValueError: a date that is none, a number that is none
        raise ResourceFileError(f"{file}: not YAML: {error}") from None
    except RecursionError:
        raise ResourceFileError(f"{file}: not YAML: nested too deep") from None
    if not documents:
        raise ResourceFileError(f"{file}: holds no resource, expected a {ServedModel.__name__}")
    return documents


def _resources(file: Path, documents: list[Any]) -> list[ServedModel]:
    """What the documents say. Raises ResourceFileError, also for a model that stands twice: neither would be served."""
    found: dict[str, ServedModel] = {}
    for document in documents:
        resource = _checked(file, document)
        model = model_id(resource.metadata.namespace, resource.metadata.name)
        if model in found:
            raise ResourceFileError(f"{file}: metadata.name: {model} stands twice")
        found[model] = resource
    return list(found.values())


def _checked(file: Path, document: Any) -> ServedModel:
    try:
        return parse(_plain(document))
    except RecursionError:
        raise ResourceFileError(f"{file}: is nested too deep, or holds itself by an alias") from None
    except InvalidResource as error:
        faults = [f"{file}: {fault}" for fault in error.faults] or [f"{file}: {Fault('the resource', 'is not valid')}"]
        raise ResourceFileError("\n".join(faults)) from None


def _position(file: Path, documents: list[Any], model: str) -> int:
    resources = [resource.metadata for resource in _resources(file, documents)]
    for at, metadata in enumerate(resources):
        if model in (metadata.name, f"{metadata.namespace}/{metadata.name}"):
            return at
    names = ", ".join(metadata.name for metadata in resources)
    raise ResourceFileError(f"{file}: has no model {model!r}; it holds {names}")


def _replace(file: Path, documents: list[Any]) -> None:
    text = StringIO()
    _yaml().dump_all(documents, text)
    new = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        newline = "\r\n" if b"\r\n" in file.read_bytes() else "\n"
        new.write_text(text.getvalue(), encoding="utf-8", newline=newline)
        new.chmod(file.stat().st_mode & 0o777)
        new.replace(file)
    except OSError as error:
        raise ResourceFileError(f"{file}: cannot be written: {error.strerror or error}") from None
    finally:
        with contextlib.suppress(OSError):
            new.unlink()


def _plain(value: Any) -> Any:
    """Round-trip YAML nodes as plain data: the checks are strict about types."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, bool) or value is None:
        return value
    for kind in (int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return str(value)


def _yaml() -> YAML:
    yaml = YAML(typ="rt")
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml
