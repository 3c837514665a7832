"""Which stacks run on this machine, so that `kingmaker get` and `set-weight` find theirs by model name.

A stack describes itself in `.kingmaker/stack.json` beside its resource and leaves a pointer to it in the
user's state folder; a pointer whose process is gone is swept away.
"""

import contextlib
import hashlib
import os
from pathlib import Path

import msgspec

from kingmaker import resource_file
from kingmaker.local.layout import Layout
from kingmaker_contracts.keys import model_id


class Stack(msgspec.Struct, frozen=True):
    """A running stack. addresses: name of a process to http://host:port; models: namespace/name; born: when its process
    began, for the number of one that was killed goes to another."""

    pid: int
    file: str
    models: list[str]
    addresses: dict[str, str]
    born: int | None = None

    @property
    def layout(self) -> Layout:
        return Layout(Path(self.file))


class NotFound(Exception):
    """No running stack fits, or more than one does."""


def announce(stack: Stack) -> None:
    told = msgspec.structs.replace(stack, born=_born(stack.pid))
    stack.layout.description.write_bytes(msgspec.json.format(msgspec.json.encode(told), indent=2))
    pointer = _pointer(stack.layout)
    pointer.parent.mkdir(parents=True, exist_ok=True)
    whole = pointer.parent.with_name(f"{pointer.name}.{os.getpid()}")  # a reader of half a pointer would remove it
    whole.write_text(str(stack.layout.description))
    whole.replace(pointer)


def withdraw(layout: Layout) -> None:
    """What cannot be removed stays: it names a process that is gone, and nothing else may be left undone for it."""
    for path in (layout.description, _pointer(layout)):
        with contextlib.suppress(OSError):
            path.unlink()


def all_stacks() -> list[Stack]:
    """Every stack of this user that runs."""
    found: list[Stack] = []
    for pointer in sorted(_folder().glob("*")):
        with contextlib.suppress(OSError, ValueError):  # removed meanwhile, or nothing of ours
            stack = _read(Path(pointer.read_text()))
            if stack is None:
                pointer.unlink(missing_ok=True)
            else:
                found.append(stack)
    return found


def find(model: str | None, file: Path | None) -> Stack:
    """The stack of a resource file, or the one that serves `model`, or the only one. Raises NotFound."""
    if file is not None:
        stack = _read(Layout.of(file).description)
        if stack is None:
            raise NotFound(f"no stack runs on {file}; start it with: kingmaker up {file}")
        return stack
    stacks = [stack for stack in all_stacks() if model is None or _serves(stack, model)]
    if not stacks:
        what = f"serves a model named {model}" if model else "runs"
        raise NotFound(f"no stack on this machine {what}; start one with: kingmaker up FILE")
    if len(stacks) > 1:
        files = ", ".join(stack.file for stack in stacks)
        raise NotFound(f"{len(stacks)} stacks fit ({files}); say which with --file")
    return stacks[0]


def _serves(stack: Stack, model: str) -> bool:
    """Whether it does, or will: a running stack follows its file, which may name more models than when it started."""
    models = set(stack.models)
    with contextlib.suppress(resource_file.ResourceFileError):
        resources = resource_file.load(stack.layout.file)
        models |= {model_id(one.metadata.namespace, one.metadata.name) for one in resources}
    return any(model in (served, served.partition("/")[2]) for served in models)


def _read(description: Path) -> Stack | None:
    try:
        stack = msgspec.json.decode(description.read_bytes(), type=Stack)
    except (OSError, msgspec.DecodeError):
        return None
    return stack if stack.born is not None and stack.born == _born(stack.pid) else None


def _born(pid: int) -> int | None:
    """When a process began, in the kernel's ticks; None when there is none."""
    try:
        about = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    return int(about.rpartition(")")[2].split()[19])


def _folder() -> Path:
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "kingmaker" / "stacks"


def _pointer(layout: Layout) -> Path:
    return _folder() / hashlib.sha256(str(layout.state).encode()).hexdigest()[:16]
