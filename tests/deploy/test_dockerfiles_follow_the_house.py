"""The Dockerfiles and the compose file as text, against packages, settings and pods. tests/images builds them."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel
from pydantic_settings import BaseSettings

from kingmaker_controller.runtimes.podspec import USER
from kingmaker_controller.settings import Settings as ControllerSettings
from kingmaker_gateway.settings import Settings as GatewaySettings
from kingmaker_model_server.settings import Settings as ModelServerSettings
from kingmaker_monitor.settings import Settings as MonitorSettings

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "deploy/compose/compose.yaml"
LOCAL = ROOT / "deploy/compose/controller.Dockerfile"
FILES = {path.parent.name: path for path in sorted(ROOT.glob("services/*/Dockerfile"))} | {"local": LOCAL}
HOLDS = {name: {name} for name in FILES} | {"local": {"controller", "model-server"}}
SETTINGS: dict[str, type[BaseSettings]] = {
    "KINGMAKER_GATEWAY_": GatewaySettings,
    "KINGMAKER_MONITOR_": MonitorSettings,
    "KINGMAKER_CONTROLLER_": ControllerSettings,
    "KINGMAKER_MODEL_SERVER_": ModelServerSettings,
}


def needed(services: set[str]) -> set[str]:
    """Folders of a service's own packages, by its pyproject.toml."""
    folders = {f"services/{service}" for service in services}
    for service in services:
        about = tomllib.loads((ROOT / "services" / service / "pyproject.toml").read_text())["project"]
        ours = [name for name in about["dependencies"] if name.startswith("kingmaker-")]
        folders |= {f"packages/{name.removeprefix('kingmaker-')}" for name in ours}
    return folders


def test_every_service_has_one() -> None:
    assert set(FILES) == {path.parent.name for path in ROOT.glob("services/*/pyproject.toml")} | {"local"}


@pytest.mark.parametrize("name", FILES)
def test_an_image_holds_its_services_and_the_packages_they_need(name: str) -> None:
    text = FILES[name].read_text()
    copied = set(re.findall(r"^COPY ((?:packages|services)/\S+) \1$", text, re.MULTILINE))
    assert copied == needed(HOLDS[name])
    installed = set(re.findall(r"\./((?:packages|services)/[\w-]+)", text))
    assert installed == copied
    assert set(re.findall(r"-r requirements/([\w-]+)\.txt", text)) == {"uv"} | HOLDS[name]


@pytest.mark.parametrize("name", FILES)
def test_nothing_is_installed_without_a_hash_or_by_root_at_run_time(name: str) -> None:
    text = FILES[name].read_text().replace("\\\n", " ")
    for line in text.splitlines():
        if "pip install" in line:
            for command in re.findall(r"pip install[^&]*", line):
                assert "--require-hashes" in command or ("--offline" in command and "--no-deps" in command)
    assert re.findall(r"^USER (.*)$", text, re.MULTILINE) == [f"{USER}:{USER}"]
    steps = (
        "COPY requirements/uv",
        "COPY requirements/(?!uv)",
        "COPY packages",
        "COPY services",
        "FROM .*}$",
        "COPY --from",
    )
    order = [[found.start() for found in re.finditer(step, text, re.MULTILINE)][-1] for step in steps]
    assert order == sorted(order), "what changes rarely comes first"
    assert text.count("FROM ${BASE}") == 2
    assert "ARG BASE=python:3.11-slim" in text


@pytest.mark.parametrize(
    "path", [*FILES.values(), COMPOSE], ids=lambda path: path.name if path == COMPOSE else path.parent.name
)
def test_every_setting_is_one(path: Path) -> None:
    for name in re.findall(r"KINGMAKER_[A-Z_]+", path.read_text()):
        [prefix] = [prefix for prefix in SETTINGS if name.startswith(prefix)]
        assert is_setting(SETTINGS[prefix], name.removeprefix(prefix).lower().split("__")), name


def is_setting(model: type[BaseModel], path: list[str]) -> bool:
    field = model.model_fields.get(path[0])
    if field is None:
        return False
    inner = field.annotation
    return len(path) == 1 or (isinstance(inner, type) and issubclass(inner, BaseModel) and is_setting(inner, path[1:]))


def test_the_images_of_compose_are_built_where_they_are_named() -> None:
    services: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())["services"]
    for name, service in services.items():
        assert service["read_only"] and service["cap_drop"] == ["ALL"], name
        if "build" in service:
            image = re.fullmatch(r"\$\{IMAGE_PREFIX:-kingmaker\}-([\w-]+):\$\{TAG:-latest\}", service["image"])
            assert image and (COMPOSE.parent / service["build"]["context"]).resolve() == ROOT
            assert ROOT / service["build"]["dockerfile"] == FILES[image[1]]
    assert set(services) == {"redis", "controller", "monitor", "gateway"}
    assert "ports" not in services["redis"]


def test_compose_and_the_chart_run_the_same_redis() -> None:
    compose = yaml.safe_load(COMPOSE.read_text())["services"]["redis"]["image"]
    image = yaml.safe_load((ROOT / "deploy/helm/kingmaker/values.yaml").read_text())["redis"]["image"]
    unless_told = re.fullmatch(r"\$\{REDIS_IMAGE:-(.*)\}", compose)
    assert unless_told is not None and f"{image['repository']}:{image['tag']}".endswith(unless_told[1])


def test_the_build_context_holds_sources_and_requirements_alone() -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert {rule for rule in rules if rule.startswith("!")} == {"!requirements", "!packages", "!services"}
    assert "**/tests" in rules
