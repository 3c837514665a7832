"""Commands find the stack they mean, and say so when they cannot."""

import fcntl
import json
import os
import socket
import stat
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from conftest import take_free_port
from kingmaker import resource_file
from kingmaker.cli.get import age
from kingmaker.local import ports, running
from kingmaker.local.layout import Layout
from kingmaker.local.stack import Stack, StackError
from kingmaker_servicekit import serving


@pytest.fixture(autouse=True)
def state_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def announce(folder: Path, *models: str, pid: int | None = None) -> Layout:
    folder.mkdir()
    layout = Layout.of(folder / "model.yaml")
    layout.prepare()
    running.announce(running.Stack(pid or os.getpid(), str(layout.file), list(models), {"gateway": "http://x:1"}))
    return layout


def test_a_stack_is_found_by_model_file_or_as_the_only_one(tmp_path: Path) -> None:
    layout = announce(tmp_path / "a", "default/flights")
    for model, file in [("flights", None), ("default/flights", None), (None, layout.file), (None, None)]:
        assert running.find(model, file).file == str(layout.file)


def test_a_model_that_came_into_the_file_later_is_found(tmp_path: Path, resource: str) -> None:
    layout = announce(tmp_path / "a", "default/flights")
    layout.file.write_text(resource + "---\n" + resource.replace("name: flights", "name: boats"))
    assert running.find("boats", None).file == str(layout.file)
    layout.file.write_text("half of an ed{it")
    assert running.find("flights", None).file == str(layout.file)


def test_without_a_fitting_stack_the_command_to_start_one_is_told(tmp_path: Path) -> None:
    announce(tmp_path / "a", "default/flights")
    with pytest.raises(running.NotFound, match="serves a model named boats; start one with: kingmaker up"):
        running.find("boats", None)
    with pytest.raises(running.NotFound, match=r"no stack runs on .*other\.yaml"):
        running.find(None, tmp_path / "b" / "other.yaml")


def test_two_fitting_stacks_need_a_file(tmp_path: Path) -> None:
    announce(tmp_path / "a", "default/flights")
    announce(tmp_path / "b", "default/flights")
    with pytest.raises(running.NotFound, match="say which with --file"):
        running.find("flights", None)


def test_a_stack_whose_process_is_gone_is_forgotten(tmp_path: Path) -> None:
    gone = 2**22 + 1  # beyond the kernel's largest process number
    announce(tmp_path / "a", "default/flights", pid=gone)
    with pytest.raises(running.NotFound):
        running.find("flights", None)


def test_another_process_that_got_the_number_of_a_killed_one_is_no_stack(tmp_path: Path) -> None:
    """As after a restart of the machine: numbers are given out again from the beginning."""
    layout = announce(tmp_path / "a", "default/flights")
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as another:
        left = json.loads(layout.description.read_text()) | {"pid": another.pid}
        layout.description.write_text(json.dumps(left))
        assert running.all_stacks() == []
        with pytest.raises(running.NotFound):
            running.find(None, layout.file)


def test_a_pointer_that_cannot_be_read_hides_no_other_stack(tmp_path: Path) -> None:
    layout = announce(tmp_path / "a", "default/flights")
    folder = tmp_path / "state" / "kingmaker" / "stacks"
    (folder / "0-folder").mkdir()
    (folder / "1-torn").write_bytes(b"\xff")
    (folder / "2-gone").symlink_to(tmp_path / "nowhere")
    (folder / "3-nul").write_bytes(b"a\0b")
    assert running.find("flights", None).file == str(layout.file)


def test_a_withdrawn_stack_is_not_found(tmp_path: Path) -> None:
    layout = announce(tmp_path / "a", "default/flights")
    running.withdraw(layout)
    assert running.all_stacks() == []


def test_a_second_up_is_refused_and_the_first_stack_is_still_found(tmp_path: Path, resource: str) -> None:
    layout = announce(tmp_path / "a", "default/flights")
    layout.file.write_text(resource)
    with layout.lock.open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(StackError, match="a stack runs already on"):
            Stack(layout, resource_file.load(layout.file), None, print).__enter__()
    assert running.find("flights", None).file == str(layout.file)


def test_the_token_is_for_the_owner_alone_and_stays_the_same(tmp_path: Path) -> None:
    layout = Layout.of(tmp_path / "model.yaml")
    layout.prepare()
    token = layout.token.read_text()
    layout.prepare()
    assert layout.token.read_text() == token
    assert len(token) >= 32
    assert stat.S_IMODE(layout.token.stat().st_mode) == 0o600


def test_a_port_base_gives_a_row_and_a_taken_one_is_named() -> None:
    taken = take_free_port(row=7) + 1
    with socket.socket() as sock:
        sock.bind((ports.HOST, taken))
        with pytest.raises(ports.PortTaken, match=rf"port {taken} \(gateway_admin\) is taken"), ports.hold(taken - 1):
            pass
    with ports.hold(taken) as row:
        assert row.mlflow == taken + 4


def test_free_ports_are_all_different() -> None:
    with ports.hold(None) as chosen:
        assert len({getattr(chosen, name) for name in ports.NAMES}) == len(ports.NAMES)


def test_a_held_port_is_for_the_service_it_was_chosen_for_as_often_as_that_starts() -> None:
    with ports.hold(None) as chosen:
        for _ in range(2):
            with socket.socket() as stranger, pytest.raises(OSError, match="Address already in use"):
                stranger.bind((ports.HOST, chosen.gateway))
            serving.bind(ports.HOST, chosen.gateway).close()


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (119, "119s"), (120, "2m"), (10799, "179m"), (10800, "3h"), (200_000, "2d")]
)
def test_ages_are_written_as_kubectl_does(seconds: int, text: str) -> None:
    now = datetime(2026, 11, 21, tzinfo=UTC)
    assert age((now - timedelta(seconds=seconds)).isoformat(), now) == text
