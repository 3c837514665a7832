"""A fetch step with a folder for a registry: REGISTRY/<name>/<version or alias>; an alias is a file with a version."""

import argparse
import hashlib
import json
import sys
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("source")
parser.add_argument("--to", type=Path)
parser.add_argument("--base", type=Path)
parser.add_argument("--registry", type=Path)
options = parser.parse_args()


def fail(reason: str, error: str) -> None:
    sys.stdout.write(json.dumps({"error": error, "reason": reason}) + "\n")
    sys.exit(1)


sys.stdout.write("some library says hello\n")
if options.source.startswith("models:/"):
    name, _, alias = options.source.removeprefix("models:/").partition("@")
    name, _, version = name.partition("/")
    if alias:
        pointer = options.registry / name / f"@{alias}"
        if not pointer.exists():
            fail("NotFound", f"{name} has no alias {alias}")
        version = pointer.read_text()
    path = options.registry / name / version
    if not path.exists():
        fail("NotFound", f"{name} has no version {version}")
    raw = path.read_bytes()
else:
    path = options.base / options.source
    if not path.exists():
        fail("NotFound", f"{options.source} is not there")
    raw, name, alias = path.read_bytes(), path.stem, ""
    version = hashlib.sha256(raw).hexdigest()[:12]
sha256 = hashlib.sha256(raw).hexdigest()
folder = options.to / f"{name}-{version}-{sha256[:12]}"
folder.mkdir(parents=True, exist_ok=True)
(folder / "model.onnx").write_bytes(raw)
profile = path.with_name(path.name + ".profile")
profile_sha256 = None
if profile.exists():
    (folder / "profile.json").write_bytes(profile.read_bytes())
    profile_sha256 = hashlib.sha256(profile.read_bytes()).hexdigest()
manifest = {
    "source": options.source,
    "name": name,
    "version": version,
    "sha256": sha256,
    "alias": alias or None,
    "profile_sha256": profile_sha256,
    "v": 1,
}
(folder / "manifest.json").write_text(json.dumps(manifest))
sys.stdout.write(json.dumps({"folder": str(folder.resolve()), "manifest": manifest}) + "\n")
