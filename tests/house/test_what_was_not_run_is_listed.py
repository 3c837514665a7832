"""A run of its own, in a folder with this repository's root conftest.py and two tests."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TESTS = """
import pytest
from conftest import needs

@pytest.fixture(scope="module")
def rare():
    return needs("no-such-program", "apt-get install rare")

def test_one(rare): ...
def test_two(rare): ...
def test_present(): assert needs("sh", "apt-get install dash").name == "sh"
def test_elsewhere(tmp_path):
    program = tmp_path / "hidden"
    program.write_text("#!/bin/sh")
    program.chmod(0o755)
    assert needs("hidden", "mv it", tmp_path) == program
"""


def run(folder: Path, *arguments: str) -> list[str]:
    shutil.copy(ROOT / "conftest.py", folder)
    (folder / "tests").mkdir(exist_ok=True)
    shutil.copy(ROOT / "tests/claims.py", folder / "tests")
    (folder / "pytest.ini").write_text(
        "[pytest]\naddopts = --import-mode=importlib -p no:cacheprovider\npythonpath = .\n"
    )
    (folder / "test_it.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", *arguments]
    env = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=110, check=True)
    return done.stdout.split("\n")


@pytest.mark.parametrize("how", [(), ("-p", "xdist", "-n", "2", "--dist", "loadfile")], ids=["alone", "two workers"])
def test_every_test_without_its_program_is_named_beside_the_line_that_installs_it(
    tmp_path: Path, how: tuple[str, ...]
) -> None:
    lines = run(tmp_path, *how)
    start = next(number for number, line in enumerate(lines) if line.strip("= ") == "NOT RUN")
    assert lines[start + 1 : start + 4] == [
        "no-such-program is not here; to run it: apt-get install rare",
        "  test_it.py::test_one",
        "  test_it.py::test_two",
    ]
    assert "2 passed, 2 skipped" in "\n".join(lines[start + 4 :])


def test_a_run_that_left_nothing_out_lists_nothing(tmp_path: Path) -> None:
    assert "NOT RUN" not in "\n".join(run(tmp_path, "-k", "present or elsewhere"))
