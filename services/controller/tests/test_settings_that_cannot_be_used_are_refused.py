"""The environment of the controller."""

import asyncio
from pathlib import Path

import pytest

from kingmaker_controller import __main__, app
from kingmaker_controller.errors import BadSettings

NEEDED = {"FILE": "served-model.yaml", "STATE_DIR": ".kingmaker", "TOKEN_FILE": "token"}


@pytest.fixture
def environ(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, str]:
    given = {f"KINGMAKER_CONTROLLER_{key}": str(tmp_path / value) for key, value in NEEDED.items()}
    for key, value in given.items():
        monkeypatch.setenv(key, value)
    return given


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("POL_MS", "100", "unknown settings: KINGMAKER_CONTROLLER_POL_MS"),
        ("POLL_MS", "soon", "KINGMAKER_CONTROLLER_POLL_MS"),
        ("PORT", "70000", "KINGMAKER_CONTROLLER_PORT"),
        ("RUNTIME__STOP_GRACE", "1", "KINGMAKER_CONTROLLER_RUNTIME__STOP_GRACE"),
        ("LOG_FORMAT", "xml", "KINGMAKER_CONTROLLER_LOG_FORMAT"),
    ],
)
def test_a_wrong_setting_is_named(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, name: str, value: str, expected: str
) -> None:
    monkeypatch.setenv(f"KINGMAKER_CONTROLLER_{name}", value)
    with pytest.raises(BadSettings, match=expected):
        __main__.read_settings({**environ, f"KINGMAKER_CONTROLLER_{name}": value})


def test_a_missing_setting_is_named(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KINGMAKER_CONTROLLER_TOKEN_FILE")
    with pytest.raises(BadSettings, match="KINGMAKER_CONTROLLER_TOKEN_FILE: Field required"):
        __main__.read_settings(environ)


@pytest.mark.parametrize(("content", "expected"), [(None, "cannot be read"), (" \n", "is empty")])
def test_a_token_file_without_a_token_is_refused(
    environ: dict[str, str], tmp_path: Path, content: str | None, expected: str
) -> None:
    if content is not None:
        (tmp_path / "token").write_text(content)
    settings = __main__.read_settings(environ)
    with pytest.raises(BadSettings, match=expected):
        asyncio.run(app.run(settings, app.Programs(), {}))
    assert not (tmp_path / ".kingmaker").exists()
