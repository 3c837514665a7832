"""Environments of foreign tools, each from its own hash-pinned requirements, made once under build/conformance.

To renew the pins, in tests/conformance/requirements:
`uv pip compile --generate-hashes --python-version 3.11 --no-header --no-annotate NAME.in -o NAME.txt`.
"""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from conftest import not_run

HERE = Path(__file__).parent
BUILD = HERE.parents[1] / "build" / "conformance"


def python_of(name: str) -> Path:
    """The interpreter of requirements/<name>.txt, made if need be.

    Ends the test as not run when it cannot be made (no registry to be reached).
    """
    requirements = HERE / "requirements" / f"{name}.txt"
    folder = BUILD / name
    python, mark = folder / "bin" / "python", folder / "made-from"
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()
    if mark.exists() and mark.read_text() == digest:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    uv = str(Path(sys.executable).parent / "uv")
    make = [uv, "venv", "--quiet", "--python", sys.executable, str(folder)]
    install = [uv, "pip", "install", "--quiet", "--require-hashes", "--python", str(python), "-r", str(requirements)]
    for command in (make, install):
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        if done.returncode:
            lines = f"{' '.join(make)} && {' '.join(install)}"
            not_run(f"the environment of {name} cannot be made: {done.stderr.strip()[-300:]}", lines)
    mark.write_text(digest)
    return python


def run(name: str, script: str, asked: dict[str, Any]) -> dict[str, Any]:
    """What clients/<script> prints in the environment of `name` when it is asked this."""
    done = subprocess.run(
        [python_of(name), HERE / "clients" / script],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[:2000] + done.stderr[-2000:]
    told: dict[str, Any] = json.loads(done.stdout)
    return told
