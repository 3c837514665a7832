"""The rules themselves: Prometheus reads them, each fires when it should and only then, and a runbook explains it."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from conftest import needs
from kingmaker_contracts import served_model
from kingmaker_controller.runtimes import manifests
from tests.fakes.fake_apiserver.patches import merge
from tests.monitoring import watched
from tests.monitoring.watched import RULE_TESTS, RULES, RUNBOOKS

ALERTS = watched.alerts()
SOURCES = [*watched.ROOT.glob("services/*/src/**/*.py")]


@pytest.fixture(scope="module")
def promtool() -> Path:
    return needs("promtool", "apt-get install prometheus")


def run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def cases() -> list[dict[str, Any]]:
    return [case for file in RULE_TESTS for case in YAML(typ="safe").load(file.read_text())["tests"]]


def test_prometheus_accepts_every_rule(promtool: Path) -> None:
    assert run(promtool, "check", "rules", "--lint=all", "--lint-fatal", *RULES).count("SUCCESS") == len(RULES)


@pytest.mark.parametrize("file", RULE_TESTS, ids=lambda file: file.stem)
def test_alerts_fire_when_they_should_and_only_then(promtool: Path, file: Path) -> None:
    assert "SUCCESS" in run(promtool, "test", "rules", file)


def test_a_rule_that_was_spoiled_fails_its_test(promtool: Path, tmp_path: Path) -> None:
    for folder in ("rules", "tests"):
        (tmp_path / folder).mkdir()
    for name, spoil in (("controller", lambda text: text.replace("== 0", "== 7")), ("gateway", str)):
        for folder in ("rules", "tests"):
            text = (watched.MONITORING / folder / f"{name}.yaml").read_text()
            (tmp_path / folder / f"{name}.yaml").write_text(spoil(text) if folder == "rules" else text)
    spoiled: list[str | Path] = [promtool, "test", "rules", tmp_path / "tests" / "controller.yaml"]
    done = subprocess.run(spoiled, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "FAILED" in done.stdout + done.stderr


def test_prometheus_can_parse_every_query_of_dashboard_and_runbooks(promtool: Path, tmp_path: Path) -> None:
    queries = [
        {"record": f"query:{at}", "expr": expression.text, "labels": {"where": re.sub(r"\W", "_", expression.where)}}
        for at, expression in enumerate(watched.expressions())
    ]
    file = tmp_path / "queries.yaml"
    with file.open("w") as target:
        YAML(typ="safe").dump({"groups": [{"name": "queries", "rules": queries}]}, target)
    assert f"{len(queries)} rules found" in run(promtool, "check", "rules", file)


@pytest.mark.parametrize("name", ALERTS)
def test_each_alert_has_a_firing_and_a_quiet_case(name: str) -> None:
    asked = f'ALERTS{{alertname="{name}",alertstate="firing"}}'
    found = [check["exp_samples"] for case in cases() for check in case["promql_expr_test"] if check["expr"] == asked]
    assert any(found), "no case in which it fires"
    assert not all(found), "no case in which it stays quiet"


@pytest.mark.parametrize("name", ALERTS)
def test_what_an_alert_says_is_filled_by_its_labels(name: str) -> None:
    rule = ALERTS[name]
    assert rule["labels"] == {"severity": rule["labels"]["severity"]}
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    asked = f'ALERTS{{alertname="{name}",alertstate="firing"}}'
    fired = [
        sample["labels"]
        for case in cases()
        for check in case["promql_expr_test"]
        if check["expr"] == asked
        for sample in check["exp_samples"]
    ]
    words = rule["annotations"]["summary"] + rule["annotations"]["description"]
    for label in re.findall(r"\$labels\.(\w+)", words):
        assert all(f"{label}=" in labels for labels in fired), f"{label} is empty when {name} fires"


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    for name, rule in ALERTS.items():
        assert rule["annotations"]["runbook_url"].rpartition("/")[2] == name
    assert {file.stem for file in RUNBOOKS.glob("*.md")} == {*ALERTS, "README"}
    index = (RUNBOOKS / "README.md").read_text()
    for name, rule in ALERTS.items():
        assert f"| [{name}]({name}.md) | {rule['labels']['severity']} |" in index


@pytest.mark.parametrize("name", ALERTS)
def test_a_runbook_says_what_it_means_how_to_look_and_what_to_do(name: str) -> None:
    text = (RUNBOOKS / f"{name}.md").read_text()
    assert re.findall(r"^#+ .*", text, re.MULTILINE) == [
        f"# {name}", "## What it means", "## How to look", "## What to do"
    ]  # fmt: skip
    look = text.partition("## How to look")[2].partition("## What to do")[0]
    assert "```promql" in look or "```sh" in look
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", text):
        assert (RUNBOOKS / link).exists(), f"{name} links to {link}"


def test_log_lines_that_runbooks_search_for_are_logged() -> None:
    code = "\n".join(file.read_text() for file in SOURCES)
    for file in RUNBOOKS.glob("*.md"):
        for words in re.findall(r"grep (?:-A\d+ )?'([^']+)'", file.read_text()):
            assert f'"{words}' in code, f"{file.name}: nobody logs {words!r}"


def test_commands_of_runbooks_are_shell_and_select_by_labels_that_pods_have() -> None:
    for file in RUNBOOKS.glob("*.md"):
        text = file.read_text()
        commands = "\n".join(re.findall(r"```sh\n(.*?)\n```", text, re.DOTALL))
        done = subprocess.run(["bash", "-n"], input=commands, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{file.name}: {done.stderr}"
        labels = set(re.findall(r"kingmaker\.dev/[a-z-]+", text))
        assert labels <= {manifests.MODEL_LABEL, manifests.VARIANT_LABEL}, f"{file.name}: {labels}"


def test_commands_of_runbooks_show_whole_logs_and_name_no_release() -> None:
    for file in RUNBOOKS.glob("*.md"):
        for command in _lines_of_shell(file.read_text()):
            # of pods chosen by label kubectl shows the last 10 lines alone, whatever --since says
            assert " logs -l " not in command or " --tail=" in command, f"{file.name}: {command}"
            named = re.search(r"\bkingmaker-(gateway|monitor|controller|redis|mlflow)\b", command)
            assert named is None, f"{file.name}: {named} is called otherwise in a release of another name"


def test_patches_of_runbooks_are_taken_while_a_challenger_has_traffic() -> None:
    lr, gbm = ({"name": name, "model": f"models:/flights/{at}"} for at, name in enumerate(("lr", "gbm"), 1))
    patches = [
        (file.name, json.loads(text.replace("CHALLENGER", "gbm").replace("MODEL/VERSION", "flights/2")))
        for file in RUNBOOKS.glob("*.md")
        for text in re.findall(r"patch sm \$MODEL --type merge -p '([^']+)'", file.read_text())
    ]
    assert len(patches) > 2
    for name, patch in patches:
        spec = {"champion": lr, "challengers": [gbm], "weights": {"gbm": 20}}
        head = {"apiVersion": served_model.API_VERSION, "kind": served_model.KIND, "metadata": {"name": "flights"}}
        served_model.parse(merge({**head, "spec": spec}, patch))  # raises what the cluster would answer
        assert name != "KingmakerNoReadyChampion.md" or patch["spec"]["champion"] == gbm


def _lines_of_shell(text: str) -> list[str]:
    return [line for block in re.findall(r"```sh\n(.*?)\n```", text, re.DOTALL) for line in block.splitlines()]


def test_settings_that_runbooks_name_exist() -> None:
    readmes = "\n".join(file.read_text() for file in watched.ROOT.glob("services/*/README.md"))
    for file in RUNBOOKS.glob("*.md"):
        for setting in re.findall(r"KINGMAKER_(?:GATEWAY|MONITOR|CONTROLLER)_([A-Z_]+)", file.read_text()):
            assert setting in readmes, f"{file.name}: no service has {setting}"
