"""What Helm prints after an installation: golden files, and claims in them that can be checked."""

import json
import re
from pathlib import Path

import pytest

from kingmaker.cli import app
from tests.deploy import chart
from tests.deploy.chart import CHART, NAMESPACE, RELEASE, Values, helm
from tests.deploy.chart_cases import ACL, CASES, EXTERNAL, MODEL

GOLDEN = Path(__file__).parent / "golden"
NOTES: dict[str, Values] = {
    "nothing-set": {},
    "models": {"models": {"flights": MODEL}},
    "weights": {"models": {"flights": {**MODEL, "weights": {"gbm": 5}}}, **ACL, "networkPolicy": {"enabled": False}},
    "another-house": {**EXTERNAL, "registry": {"uri": "https://mlflow.example.com"},
                      "externalRedis": {"url": "rediss://redis.example.com:6380"},
                      "gateway": {"auth": {"predictTokensSecret": "tokens"}, "tls": {"secret": "tls"}}},
    "nothing-kept": CASES["nothing kept"].values,
}  # fmt: skip


def notes(values: Values) -> str:
    """As an installation prints them; nothing is asked of a cluster."""

    said = helm(
        "install", RELEASE, CHART, "--namespace", NAMESPACE, "--dry-run=client", "--values", "-",
 stdin=json.dumps(values),
    )  # fmt: skip
    return said[said.index("\nNOTES:\n") + len("\nNOTES:\n") :].strip() + "\n"


@pytest.mark.parametrize("name", NOTES)
def test_notes_are_these(name: str) -> None:
    """To write them anew: python -m tests.deploy.test_notes_say_what_to_type_next"""
    assert notes(NOTES[name]) == (GOLDEN / f"notes-{name}.txt").read_text()


@pytest.mark.parametrize("name", NOTES)
def test_objects_they_name_are_there(name: str) -> None:
    there = {f"{item['kind'].lower()}/{item['metadata']['name']}" for item in chart.render(NOTES[name])}
    named = set(re.findall(r"\b(?:deployment|service|statefulset)/[\w-]+", notes(NOTES[name])))
    assert named and named <= there


def test_options_of_the_command_they_name_are_there() -> None:
    from typer.core import TyperGroup
    from typer.main import get_command

    group = get_command(app)
    assert isinstance(group, TyperGroup)
    publish = group.commands["publish"]
    known = {option for parameter in publish.params for option in parameter.opts}
    [command] = re.findall(r"kingmaker publish (?:.*\\\n)*.*", notes({}))
    assert set(re.findall(r"--[\w-]+", command)) <= known


@pytest.mark.parametrize(
    ("name", "owner"),
    [("nothing-set", "People do"), ("models", "People do"), ("weights", "This release sets the weights of flights")],
)
def test_they_say_who_owns_the_weights(name: str, owner: str) -> None:
    text = notes(NOTES[name])
    assert text[text.index("Who owns the weights:") :].splitlines()[1].strip().startswith(owner)


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for each, given in NOTES.items():
        (GOLDEN / f"notes-{each}.txt").write_text(notes(given))
