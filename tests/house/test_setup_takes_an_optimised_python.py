"""The scripts themselves, among interpreters that are this one in a disguise: a sitecustomize that runs first."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import needs, not_run

ROOT = Path(__file__).parents[2]
PLAIN = "import sysconfig; sysconfig.get_config_vars()['CONFIG_ARGS'] = \"'--enable-shared' '--prefix=/usr/local'\""
OPTIMISED = "import sysconfig; sysconfig.get_config_vars()['CONFIG_ARGS'] = \"'--enable-optimizations' '--with-lto'\""
DEBIAN = "import sysconfig; sysconfig.get_config_vars()['CONFIG_ARGS'] = \"'--enable-shared' '--prefix=/usr'\""
WITHOUT_VENV = f"{OPTIMISED}; import sys; sys.modules['ensurepip'] = None"
TOO_OLD = f"{OPTIMISED}; import sys; sys.version_info = (3, 10, 13)"
TOO_NEW = f"{OPTIMISED}; import sys; sys.version_info = (3, 13, 0)"


def put(folder: Path, name: str, disguise: str, before: str = "") -> Path:
    """An interpreter of this name in folder/bin. before: lines of shell that run first."""
    inside = folder / f"{name}.d"
    inside.mkdir()
    (inside / "sitecustomize.py").write_text(disguise)
    program = folder / "bin" / name
    program.parent.mkdir(exist_ok=True)
    program.write_text(f'#!/bin/sh\n{before}\nPYTHONPATH={inside} exec {sys.executable} "$@"\n')
    program.chmod(0o755)
    return program


def choose(path: Path, *candidates: str, **env: str) -> subprocess.CompletedProcess[str]:
    command: list[str | Path] = ["/bin/bash", ROOT / "scripts/interpreter", *candidates]
    variables = {"PATH": str(path), **env}
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=60, check=False)


def test_the_first_on_path_is_taken_without_a_word_when_it_is_optimised(tmp_path: Path) -> None:
    first = put(tmp_path, "python3.11", OPTIMISED)
    put(tmp_path, "python3.12", OPTIMISED)
    assert choose(tmp_path / "bin").stdout == f"{first}\n"


@pytest.mark.parametrize("better", [OPTIMISED, DEBIAN], ids=["optimised", "debian"])
def test_an_optimised_one_goes_before_a_plain_one_and_says_why(tmp_path: Path, better: str) -> None:
    plain = put(tmp_path, "python3.11", PLAIN)
    put(tmp_path, "python3.12", WITHOUT_VENV)
    taken = put(tmp_path, "python3", better)
    assert choose(tmp_path / "bin").stdout == f"{taken}\t{plain} is built without optimisations\n"


def test_one_that_cannot_make_a_venv_goes_after_one_that_can(tmp_path: Path) -> None:
    bare = put(tmp_path, "python3.11", WITHOUT_VENV)
    taken = put(tmp_path, "python3.12", OPTIMISED)
    assert choose(tmp_path / "bin").stdout == f"{taken}\t{bare} cannot make a venv\n"


@pytest.mark.parametrize("disguise", [PLAIN, WITHOUT_VENV], ids=["plain", "without-venv"])
def test_where_none_is_better_it_is_the_first_of_a_right_version(tmp_path: Path, disguise: str) -> None:
    put(tmp_path, "python3.11", TOO_OLD)
    first = put(tmp_path, "python3.12", disguise)
    put(tmp_path, "python3", PLAIN)
    assert choose(tmp_path / "bin", "python3.11", "missing", "python3.12", "python3").stdout == f"{first}\n"


def test_the_distributions_own_is_found_behind_another_on_path(tmp_path: Path) -> None:
    own = needs("/usr/bin/python3.11", "apt-get install python3.11-venv")
    if subprocess.run([own, "-c", "import ensurepip"], stderr=subprocess.DEVNULL, check=False).returncode:
        not_run(f"{own} cannot make a venv", "apt-get install python3.11-venv")
    plain = put(tmp_path, "python3.11", PLAIN)
    assert choose(tmp_path / "bin").stdout == f"{own}\t{plain} is built without optimisations\n"


def test_a_named_python_is_taken_whatever_it_is_built_like(tmp_path: Path) -> None:
    put(tmp_path, "python3.11", OPTIMISED)
    named = put(tmp_path, "mine", PLAIN)
    assert choose(tmp_path / "bin", PYTHON=str(named)).stdout == f"{named}\n"
    assert choose(tmp_path / "bin", PYTHON="mine").stdout == "mine\n"


@pytest.mark.parametrize("disguise", [TOO_OLD, TOO_NEW], ids=["too-old", "too-new"])
def test_a_named_python_of_another_version_is_refused_by_name(tmp_path: Path, disguise: str) -> None:
    put(tmp_path, "python3.11", OPTIMISED)
    named = put(tmp_path, "mine", disguise)
    done = choose(tmp_path / "bin", PYTHON=str(named))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"PYTHON={named} starts no Python 3.11 or 3.12, which Kingmaker needs\n"


def test_where_there_is_none_it_says_what_to_install(tmp_path: Path) -> None:
    put(tmp_path, "python3", TOO_NEW)
    done = choose(tmp_path / "bin", "python3.11", "python3")
    assert (done.returncode, done.stdout) == (1, "")
    assert "apt-get install python3 python3-venv" in done.stderr


def setup(folder: Path, **env: str) -> str:
    """What scripts/setup says in a folder with nothing to install."""
    variables = {**os.environ, "PYTHON": "", "PATH": f"{folder / 'bin'}:{os.environ['PATH']}", **env}
    command = [folder / "scripts/setup"]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


A_VENV = """
if [ "$*" = "-m venv --clear .venv" ]; then
    mkdir -p .venv/bin
    for name in pip uv python; do printf '#!/bin/sh\\n' >.venv/bin/$name; done
    exec chmod +x .venv/bin/pip .venv/bin/uv .venv/bin/python
fi
"""


def test_setup_says_what_it_took_and_what_it_keeps(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    plain = put(tmp_path, "python3.11", PLAIN)
    taken = put(tmp_path, "python3.12", OPTIMISED, before=A_VENV)
    assert f"{taken} ({plain} is built without optimisations)" in setup(tmp_path)
    assert (tmp_path / ".venv/.ready").exists()
    assert f"PYTHON={plain} takes effect after rm -r .venv" in setup(tmp_path, PYTHON=str(plain))
