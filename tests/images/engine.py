"""buildah and podman in a folder of their own, so that images and containers of the machine's user are not touched."""

import json
import os
import resource
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

POD_RULES: Final = ("--read-only", "--read-only-tmpfs=false", "--cap-drop=all", "--security-opt=no-new-privileges")
"""What a pod of the chart may not do, a container here may not either; /tmp is a volume for those that need it."""


class Failed(AssertionError):
    """A program ended with another code than 0; the text has its last words."""


class Engine:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "networks").mkdir(parents=True, exist_ok=True)
        settings = {"CONTAINERS_CONF": self._podman(), "CONTAINERS_STORAGE_CONF": self._storage("overlay")}
        self.environment = {**os.environ, **settings, "BUILDAH_ISOLATION": "chroot"}
        self.environment.pop("STORAGE_DRIVER", None)
        try:
            self.say("buildah", "info")
        except Failed:
            shutil.rmtree(folder / "storage", ignore_errors=True)
            self._storage("vfs")  # slow, but it asks nothing of the file system below

    def say(
        self,
        *command: str | Path,
        timeout_s: float = 60,
        environment: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> str:
        """Run a command to its end; what it printed. Raises Failed."""
        done = subprocess.run(
            command,
            env={**self.environment, **(environment or {})},
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            cwd=cwd,
        )
        if done.returncode:
            said = done.stdout[-1500:] + done.stderr[-3000:]
            raise Failed(f"{' '.join(map(str, command))}: code {done.returncode}\n{said}")
        return done.stdout

    def has(self, name: str) -> bool:
        """Whether there is an image of this name."""
        return f"{name}:latest" in self.say("podman", "images", "--format", "{{.Repository}}:{{.Tag}}").split()

    def image(self, name: str) -> dict[str, Any]:
        """What is known of an image."""
        [found] = json.loads(self.say("podman", "image", "inspect", name))
        return dict(found)

    def run(self, image: str, *options: str, command: Sequence[str]) -> str:
        """Run a command in an image, under the rules of a pod; what it printed."""
        program, *arguments = command
        return self.say(
            "podman", "run", "--rm", "--network=host", "--no-healthcheck", *POD_RULES, *options,
            f"--entrypoint={program}", image, *arguments, timeout_s=300,
        )  # fmt: skip

    def start(self, image: str, *options: str, arguments: Sequence[str] = (), **environment: object) -> "Container":
        """Start an image under the rules of a pod, on this machine's network. arguments: after its ENTRYPOINT."""
        given = [f"--env={name}={value}" for name, value in environment.items()]
        command = ["--detach", "--network=host", "--no-healthcheck", *POD_RULES, *options, *given, image, *arguments]
        return Container(self, self.say("podman", "run", *command).strip())

    def clear(self) -> None:
        """Take away every container and volume. Images stay: the next run builds only what has changed since."""
        for command in (["podman", "rm", "--all", "--force"], ["podman", "volume", "prune", "--force"]):
            with suppress(Failed, subprocess.TimeoutExpired):
                self.say(*command, timeout_s=120)
        subprocess.run(
            ["umount", self.folder / "storage/overlay"], capture_output=True, check=False
        )  # or it stays busy

    def _storage(self, driver: str) -> str:
        file = self.folder / "storage.conf"
        lines = [f'driver = "{driver}"', f'graphroot = "{self.folder}/storage"', f'runroot = "{self.folder}/run"']
        file.write_text("\n".join(["[storage]", *lines, ""]))
        return str(file)

    def _podman(self) -> str:
        """podman asks for more files and processes than some machines grant root, and for a systemd not all have."""
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        ulimits = [f"nofile={files}:{files}", "nproc=4096:4096"]
        file = self.folder / "containers.conf"
        file.write_text(
            f'[containers]\ndefault_ulimits = {json.dumps(ulimits)}\nlog_driver = "k8s-file"\n'
            f'[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "none"\n'
            f'tmp_dir = "{self.folder}/tmp"\n[network]\nnetwork_config_dir = "{self.folder}/networks"\n'
        )
        return str(file)


class Container:
    """A running container."""

    def __init__(self, engine: Engine, id: str) -> None:
        self._engine, self.id = engine, id

    def about(self) -> dict[str, Any]:
        [found] = json.loads(self._engine.say("podman", "inspect", self.id))
        return dict(found)

    def execute(self, *command: str) -> str:
        return self._engine.say("podman", "exec", self.id, *command)

    def is_healthy(self) -> bool:
        """Whether the image's own HEALTHCHECK says so. Its interval needs a systemd; here the test asks."""
        kind, *command = self._engine.image(self.about()["Image"])["Healthcheck"]["Test"]
        assert kind == "CMD"
        try:
            self.execute(*command)
        except Failed:
            return False
        return True

    def log(self) -> str:
        command = ["podman", "logs", self.id]
        return subprocess.run(
            command,
            env=self._engine.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=True,
        ).stdout

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self._engine.say("podman", "stop", "--time=20", self.id)
        return int(self.about()["State"]["ExitCode"])


def until(holds: Callable[[], bool], what: str, patience_s: float = 60) -> None:
    """Poll until something holds."""
    deadline = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)
