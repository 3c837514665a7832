"""What a stack cannot use it names in one line; what a killed run left half done it makes anew."""

from collections.abc import Callable
from pathlib import Path

import pytest

from kingmaker import resource_file
from kingmaker.local.layout import Layout
from kingmaker.local.stack import Stack, StackError


@pytest.fixture
def layout(tmp_path: Path, resource: str, monkeypatch: pytest.MonkeyPatch) -> Layout:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    file = tmp_path / "model.yaml"
    file.write_text(resource)
    return Layout.of(file)


@pytest.mark.parametrize(
    ("where", "is_folder"),
    [
        (lambda layout: layout.state, False),
        (lambda layout: layout.logs, False),
        (lambda layout: layout.lock, True),
    ],
)
def test_a_path_that_cannot_be_used_is_named(layout: Layout, where: Callable[[Layout], Path], is_folder: bool) -> None:
    path = where(layout)
    path.parent.mkdir(exist_ok=True)
    if is_folder:
        path.mkdir()
    else:
        path.touch()
    with pytest.raises(StackError, match=rf"{path}: .*(file exists|directory)"):
        Stack(layout, resource_file.load(layout.file), None, print).__enter__()


def test_a_stack_that_cannot_say_where_it_is_stops_its_children(layout: Layout, tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    said: list[str] = []
    stack = Stack(layout, resource_file.load(layout.file), None, said.append)
    with pytest.raises(StackError, match=rf"{tmp_path / 'state'}/.*: not a directory"):
        stack.__enter__()
    assert stack.children == []
    assert said == ["starting redis, mlflow, controller, monitor, gateway"]


def test_a_token_that_a_killed_run_left_empty_is_made_anew(layout: Layout) -> None:
    layout.state.mkdir()
    layout.token.touch(0o600)
    layout.prepare()
    assert len(layout.token.read_text()) >= 32
