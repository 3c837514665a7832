"""The fetch step's own command, with a folder of .onnx files in place of MLflow: everything else is the real one."""

import hashlib
import os
import sys
from pathlib import Path

from kingmaker_model_server.fetch import __main__ as fetch
from kingmaker_model_server.fetch import folder, registry
from kingmaker_model_server.fetch.failure import FetchFailed
from kingmaker_model_server.fetch.source import RegistrySource


def from_folder(text: str, wanted: RegistrySource, uri: str, root: Path) -> object:
    path = Path(os.environ["STAND_IN_REGISTRY"]) / f"{wanted.version}.onnx"
    if not path.exists():
        raise FetchFailed("VersionNotFound", f"model {wanted.name!r} has no version {wanted.version}")
    content = folder.Content(path.read_bytes(), None)
    told = path.with_suffix(".sha256")
    found = hashlib.sha256(content.model).hexdigest()
    if told.exists() and told.read_text() != found:
        raise FetchFailed("ShaMismatch", f"{text}: model.onnx has sha256 {found}, the tag says {told.read_text()}")
    manifest = folder.manifest_of(content, text, wanted.name, str(wanted.version), wanted.alias)
    return folder.write(root, content, manifest), manifest


registry.fetch = from_folder  # type: ignore[assignment]
sys.exit(fetch.main())
