"""The fetch step: from a model string to a verified folder, against a real MLflow registry on SQLite."""

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from kingmaker_contracts.profile import FILE_NAME
from kingmaker_model_server import package
from kingmaker_model_server.fetch import local, registry, source
from kingmaker_model_server.fetch.failure import FetchFailed


class Registry:
    """A registry in a SQLite file: flights 1 (@champion, with a profile), 2 (wrong tag), 3 (logged by MLflow's
    own ONNX flavour, no profile), 4 (no ONNX), 5 (profile of another model), 6 (unreadable profile)."""

    def __init__(self, folder: Path, make: Any, model: bytes) -> None:
        import mlflow
        import onnx

        self.uri = f"sqlite:///{folder / 'mlflow.db'}"
        self.model = model
        client = mlflow.MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)
        client.create_registered_model("flights")
        profile = json.dumps(make.flights_profile(model)).encode()
        self.sha256 = hashlib.sha256(model).hexdigest()
        tag = registry.SHA_TAG

        def publish(name: str, raw: bytes | None, tags: dict[str, str]) -> Path:
            path = folder / name
            mlflow.onnx.save_model(
                onnx.load_from_string(model), str(path), pip_requirements=["onnxruntime"], save_as_external_data=False
            )
            (path / "model.onnx").write_bytes(model)
            if raw is not None:
                (path / FILE_NAME).parent.mkdir()
                (path / FILE_NAME).write_bytes(raw)
            client.create_model_version("flights", str(path), tags=tags)
            return path

        self.first = publish("one", profile, {tag: self.sha256})
        publish("two", profile, {tag: "0" * 64})
        experiment = client.create_experiment("e", artifact_location=str(folder / "artifacts"))
        mlflow.set_tracking_uri(self.uri)
        with mlflow.start_run(experiment_id=experiment):
            mlflow.onnx.log_model(
                onnx.load_from_string(model),
                name="model",
                registered_model_name="flights",
                pip_requirements=["onnxruntime"],
            )
        # its annotation forgets that None takes the address back
        mlflow.set_tracking_uri(None)  # type: ignore[arg-type]
        no_onnx = publish("four", None, {})
        text = (no_onnx / "MLmodel").read_text()
        (no_onnx / "MLmodel").write_text(text.replace("  onnx:", "  other:"))
        publish("five", json.dumps(make.flights_profile(model, onnx_sha256="1" * 64)).encode(), {})
        publish("six", b'{"name": 1}', {})
        client.set_registered_model_alias("flights", "champion", "1")


@pytest.fixture(scope="module")
def flights(tmp_path_factory: pytest.TempPathFactory, make: Any, flights_bytes: bytes) -> Registry:
    return Registry(tmp_path_factory.mktemp("mlflow"), make, flights_bytes)


def run(*arguments: str, **env: str) -> tuple[int, dict[str, Any]]:
    """The command as a process: its exit code and the one line on its standard output."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW")}
    command = [sys.executable, "-m", "kingmaker_model_server.fetch", *arguments]
    done = subprocess.run(command, capture_output=True, env=clean | env, timeout=60, check=False)
    lines = done.stdout.splitlines()
    assert len(lines) == 1, (done.stdout, done.stderr[-2000:])
    return done.returncode, json.loads(lines[0])


def fetch(text: str, uri: str, root: Path) -> Any:
    return registry.fetch(text, source.parse(text), uri, root)


def reason(text: str, uri: str, root: Path) -> tuple[str, str]:
    with pytest.raises(FetchFailed) as caught:
        fetch(text, uri, root)
    assert not root.exists() or not list(root.iterdir())
    return caught.value.reason, str(caught.value)


def test_an_alias_is_resolved_once_and_the_folder_is_one_the_server_loads(
    flights: Registry, tmp_path: Path, make: Any
) -> None:
    code, line = run("models:/flights@champion", "--to", str(tmp_path / "root"), MLFLOW_TRACKING_URI=flights.uri)
    assert code == 0, line
    folder = Path(line["folder"])
    assert folder == tmp_path / "root" / f"flights-1-{flights.sha256[:12]}"
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "model.onnx", "profile.json"]
    profile = (folder / "profile.json").read_bytes()
    assert line["manifest"] == {
        "source": "models:/flights@champion",
        "name": "flights",
        "version": "1",
        "sha256": flights.sha256,
        "alias": "champion",
        "profile_sha256": hashlib.sha256(profile).hexdigest(),
        "v": 1,
    }
    assert json.loads((folder / "manifest.json").read_text()) == line["manifest"]
    read = package.read(folder)
    assert (read.version, read.sha256) == ("1", flights.sha256)


def test_a_version_is_fetched_where_there_is_no_pandas(flights: Registry, tmp_path: Path) -> None:
    """As in the image, which has mlflow-skinny alone. tests/images tries the image itself."""
    for name in ("pandas", "sklearn"):
        (tmp_path / f"{name}.py").write_text(f"raise ModuleNotFoundError('{name} is not here', name='{name}')")
    arguments = ("models:/flights/1", "--to", str(tmp_path / "root"), "--registry", flights.uri)
    code, line = run(*arguments, PYTHONPATH=str(tmp_path))
    assert code == 0, line


def test_a_finished_folder_is_used_again_and_a_damaged_one_replaced(flights: Registry, tmp_path: Path) -> None:
    folder, _ = fetch("models:/flights@champion", flights.uri, tmp_path)
    before = (folder / "manifest.json").stat()
    again, manifest = fetch("models:/flights/1", flights.uri, tmp_path)
    assert again == folder
    assert (folder / "manifest.json").stat().st_mtime_ns == before.st_mtime_ns
    assert (manifest.source, manifest.alias, manifest.version) == ("models:/flights/1", None, "1")
    for damage in (
        lambda: (folder / "model.onnx").write_bytes(b"x"),
        (folder / "manifest.json").unlink,
        lambda: (folder / "manifest.json").write_bytes(
            (folder / "manifest.json").read_bytes().replace(b"flights", b"\xff")
        ),
        lambda: (folder / "profile.json").write_bytes(b"{}"),
    ):
        damage()
        fetch("models:/flights/1", flights.uri, tmp_path)
        assert package.read(folder).sha256 == flights.sha256
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def test_a_version_logged_without_kingmaker_has_no_profile(flights: Registry, tmp_path: Path) -> None:
    folder, manifest = fetch("models:/flights/3", flights.uri, tmp_path)
    assert (manifest.version, manifest.profile_sha256) == ("3", None)
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "model.onnx"]
    assert package.read(folder).profile is None


def test_another_sha256_than_the_tag_or_the_profile_says_is_refused(flights: Registry, tmp_path: Path) -> None:
    kind, text = reason("models:/flights/2", flights.uri, tmp_path)
    assert kind == "ShaMismatch"
    assert flights.sha256 in text
    assert registry.SHA_TAG in text
    kind, text = reason("models:/flights/5", flights.uri, tmp_path)
    assert kind == "ShaMismatch"
    assert "onnx_sha256 of profile.json" in text


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("models:/nobody/1", "ModelNotFound", "nobody"),
        ("models:/nobody@champion", "ModelNotFound", "nobody"),
        ("models:/flights/99", "VersionNotFound", "99"),
        ("models:/flights@king", "AliasNotFound", "'king'; it has champion"),
        ("models:/flights/4", "NotOnnx", "no onnx flavour, only other"),
        ("models:/flights/6", "BadProfile", "profile.json"),
    ],
)
def test_what_is_missing_is_named(flights: Registry, tmp_path: Path, text: str, kind: str, words: str) -> None:
    found, message = reason(text, flights.uri, tmp_path / "root")
    assert found == kind
    assert words in message


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("models:/flights", "ModelNotFound"),
        ("models:/flights/", "ModelNotFound"),
        ("models:/a/b/c", "ModelNotFound"),
        ("models:/flights@a@b", "ModelNotFound"),
        ("models:/flights/latest", "VersionNotFound"),
        ("models:/flights/0", "VersionNotFound"),
    ],
)
def test_a_malformed_model_string_is_refused_with_the_form(text: str, kind: str) -> None:
    with pytest.raises(FetchFailed) as caught:
        source.parse(text)
    assert caught.value.reason == kind


def test_a_registry_that_is_not_there_is_told_soon_and_nothing_is_created(free_port: int, tmp_path: Path) -> None:
    # run() gives up after 60 s, MLflow's own defaults after four minutes
    code, line = run("models:/f/1", "--to", str(tmp_path / "r"), "--registry", f"http://127.0.0.1:{free_port}")
    assert (code, line["reason"]) == (1, "RegistryUnreachable"), line
    assert reason("models:/f/1", f"sqlite:///{tmp_path}/none.db", tmp_path / "r")[0] == "RegistryUnreachable"
    assert not (tmp_path / "none.db").exists()
    (tmp_path / "other.db").write_bytes(b"no database at all, but long enough to be looked at")
    assert reason("models:/f/1", f"sqlite:///{tmp_path}/other.db", tmp_path / "r")[0] == "RegistryUnreachable"
    assert reason("models:/f/1", "databricks", tmp_path / "r")[0] == "RegistryUnreachable"
    assert not (tmp_path / "r").exists()


def test_no_registry_at_all_says_which_setting_is_missing(tmp_path: Path) -> None:
    code, line = run("models:/f/1", "--to", str(tmp_path))
    assert (code, line["reason"]) == (1, "RegistryUnreachable")
    assert "MLFLOW_TRACKING_URI" in line["error"]


def test_a_path_is_taken_from_below_the_base_and_from_nowhere_else(tmp_path: Path, make: Any) -> None:
    base, root = tmp_path / "base", tmp_path / "root"
    (base / "sub").mkdir(parents=True)
    model = make.one_column_model()
    (base / "sub" / "tiny.onnx").write_bytes(model)
    (tmp_path / "outside.onnx").write_bytes(model)
    (base / "link.onnx").symlink_to(tmp_path / "outside.onnx")
    code, line = run("sub/tiny.onnx", "--to", str(root), "--base", str(base))
    assert code == 0, line
    sha256 = hashlib.sha256(model).hexdigest()
    assert line["manifest"]["version"] == sha256[:8]
    assert Path(line["folder"]) == root / f"tiny-{sha256[:8]}-{sha256[:12]}"
    assert local.fetch("sub", base, root)[1].name == "sub"
    (base / "linked").mkdir()
    (base / "linked" / "model.onnx").symlink_to(tmp_path / "outside.onnx")
    for text in ("../outside.onnx", str(tmp_path / "outside.onnx"), "link.onnx", "sub/../../outside.onnx", "linked"):
        with pytest.raises(FetchFailed) as caught:
            local.fetch(text, base, root)
        assert caught.value.reason == "OutsideFolder", text
    (base / "empty").mkdir()
    (base / "note.txt").write_text("no model")
    for text, kind in (("none.onnx", "ModelNotFound"), ("empty", "NotOnnx"), ("note.txt", "NotOnnx")):
        with pytest.raises(FetchFailed) as caught:
            local.fetch(text, base, root)
        assert caught.value.reason == kind, text


def test_a_saved_mlflow_model_and_a_fetched_package_keep_their_profile(flights: Registry, tmp_path: Path) -> None:
    shutil.copytree(flights.first, tmp_path / "saved")
    folder, manifest = local.fetch("saved", tmp_path, tmp_path / "root")
    assert manifest.profile_sha256 is not None
    again, second = local.fetch(str(folder), tmp_path, tmp_path / "second")
    assert (second.name, second.version, second.sha256) == (manifest.name, manifest.version, manifest.sha256)
    assert package.read(again).profile == package.read(folder).profile


def test_a_root_that_cannot_be_written_is_told(tmp_path: Path, make: Any) -> None:
    (tmp_path / "tiny.onnx").write_bytes(make.one_column_model())
    (tmp_path / "root").write_text("a file")
    with pytest.raises(FetchFailed) as caught:
        local.fetch("tiny.onnx", tmp_path, tmp_path / "root")
    assert caught.value.reason == "WriteFailed"


def test_a_pod_finds_the_folder_by_a_link_and_its_controller_the_reason_in_a_report(tmp_path: Path, make: Any) -> None:
    (tmp_path / "one.onnx").write_bytes(make.flights_model())
    where = ["--to", str(tmp_path / "models"), "--base", str(tmp_path)]
    linked = tmp_path / "models" / "current"
    report = tmp_path / "termination-log"
    options = [*where, "--link", str(linked), "--report", str(report)]
    for _ in range(2):  # a container that is started again finds the link there
        code, line = run(str(tmp_path / "one.onnx"), *options)
        assert code == 0 and json.loads(report.read_text()) == line
        assert linked.is_symlink() and linked.resolve() == Path(line["folder"])
        assert package.read(linked).sha256 == line["manifest"]["sha256"]
    code, line = run(str(tmp_path / "two.onnx"), *options)
    assert code == 1 and json.loads(report.read_text()) == line and line["reason"] == "ModelNotFound"


def test_a_link_that_cannot_be_made_is_told_in_the_one_line(tmp_path: Path, make: Any) -> None:
    (tmp_path / "one.onnx").write_bytes(make.one_column_model())
    (tmp_path / "folder").mkdir()
    report = tmp_path / "termination-log"
    for link in (tmp_path / "nowhere" / "current", tmp_path / "folder"):
        options = ["--to", str(tmp_path / "models"), "--base", str(tmp_path), "--link", str(link)]
        code, line = run(str(tmp_path / "one.onnx"), *options, "--report", str(report))
        assert (code, line["reason"]) == (1, "WriteFailed")
        assert str(link) in line["error"]
        assert json.loads(report.read_text()) == line


def test_a_link_is_made_though_a_step_of_the_same_process_id_was_killed_over_it(tmp_path: Path, make: Any) -> None:
    (tmp_path / "one.onnx").write_bytes(make.one_column_model())
    again = (  # in a container each step may have the number 1
        "import os, pathlib, sys; pathlib.Path(f'.current.{os.getpid()}').symlink_to('half'); "
        "from kingmaker_model_server.fetch.__main__ import main; sys.exit(main())"
    )
    command = [sys.executable, "-c", again, "one.onnx", "--to", "models", "--link", "current"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert package.read(tmp_path / "current").sha256 == json.loads(done.stdout)["manifest"]["sha256"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["current", "models", "one.onnx"]


def test_a_report_is_whole_however_long_the_reason_is(tmp_path: Path, make: Any) -> None:
    for at in range(60):
        (tmp_path / f"{'ü' * 60}-{at:02}.onnx").write_bytes(b"")
    report = tmp_path / "termination-log"
    code, line = run(str(tmp_path), "--base", str(tmp_path), "--to", str(tmp_path / "models"), "--report", str(report))
    assert (code, line["reason"]) == (1, "NotOnnx")
    assert line["error"].endswith("59.onnx where one .onnx file was expected")
    assert 4000 < report.stat().st_size <= 4096  # what Kubernetes keeps
    told = json.loads(report.read_text())
    assert told["reason"] == "NotOnnx"
    assert line["error"].startswith(told["error"].removesuffix("..."))


def test_a_report_that_cannot_be_written_is_told(tmp_path: Path, make: Any) -> None:
    (tmp_path / "one.onnx").write_bytes(make.one_column_model())
    report = tmp_path / "nowhere" / "termination-log"
    options = ["--base", str(tmp_path), "--to", str(tmp_path / "models"), "--report", str(report)]
    code, line = run(str(tmp_path / "one.onnx"), *options)
    assert (code, line["reason"]) == (1, "WriteFailed")
    assert str(report) in line["error"]
    assert run(str(tmp_path / "two.onnx"), *options)[1]["reason"] == "ModelNotFound"


def test_a_package_that_is_not_what_its_manifest_says_is_not_taken_for_another(tmp_path: Path, make: Any) -> None:
    model = make.flights_model()
    other = make.one_column_model()
    damages: dict[str, Any] = {
        "sha256": lambda folder: (folder / "model.onnx").write_bytes(other),
        "profile_sha256": lambda folder: (folder / "profile.json").unlink(),
    }
    make.write_package(tmp_path / "sha256", model)
    make.write_package(tmp_path / "profile_sha256", model, make.flights_profile(model))
    for field, damage in damages.items():
        local.fetch(field, tmp_path, tmp_path / "root")
        damage(tmp_path / field)
        with pytest.raises(FetchFailed, match=f"{field} is .*manifest.json says .*damaged") as caught:
            local.fetch(field, tmp_path, tmp_path / "other")
        assert caught.value.reason == "ShaMismatch"
    assert not (tmp_path / "other").exists()


def test_two_fetches_of_one_version_leave_the_folder_of_the_faster_for_whoever_reads_it(
    tmp_path: Path, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "one.onnx").write_bytes(make.one_column_model())
    root, begin = tmp_path / "root", tempfile.mkdtemp
    faster: list[tuple[Path, int]] = []

    def overtaken(*args: Any, **kwargs: Any) -> str:
        """Where the slower one has found nothing, the faster one goes from its beginning to its end."""
        monkeypatch.setattr(tempfile, "mkdtemp", begin)
        folder, _ = local.fetch("one.onnx", tmp_path, root)
        faster.append((folder, folder.stat().st_ino))
        return begin(*args, **kwargs)

    monkeypatch.setattr(tempfile, "mkdtemp", overtaken)
    folder, _ = local.fetch("one.onnx", tmp_path, root)
    assert [(folder, folder.stat().st_ino)] == faster
    assert list(root.iterdir()) == [folder]


def test_artifacts_in_a_store_this_image_has_no_client_for_are_told_with_the_cure(tmp_path: Path) -> None:
    import mlflow

    (tmp_path / "botocore.py").write_text("raise ModuleNotFoundError('botocore is not here', name='botocore')")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    client = mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
    client.create_registered_model("flights")
    client.create_model_version("flights", "s3://nobody/model")
    arguments = ("models:/flights/1", "--to", str(tmp_path / "root"), "--registry", uri)
    code, line = run(*arguments, PYTHONPATH=str(tmp_path))
    assert (code, line["reason"]) == (1, "RegistryUnreachable"), line
    assert "s3://nobody/model" in line["error"]
    assert "--serve-artifacts" in line["error"]


class SlowStore(ThreadingHTTPServer):
    """MLflow's REST, as far as a fetch asks it: flights 1, whose files come seconds after they were asked for, as from
    a server that gets each whole from a bucket first."""

    def __init__(self, files: dict[str, bytes], delay_s: float) -> None:
        self.answers: dict[str, Any] = {
            "/api/2.0/mlflow/registered-models/get": {"registered_model": {"name": "flights"}},
            "/api/2.0/mlflow/model-versions/get": {"model_version": {"name": "flights", "version": "1"}},
            "/api/2.0/mlflow/model-versions/get-download-uri": {"artifact_uri": "mlflow-artifacts:/flights"},
            "/api/2.0/mlflow-artifacts/artifacts": {"files": [{"path": n, "is_dir": False} for n in files]},
        }
        for name, raw in files.items():
            self.answers[f"/api/2.0/mlflow-artifacts/artifacts/flights/{name}"] = raw
        self.delay_s = delay_s
        self.asked, self.goes_on = threading.Event(), threading.Event()
        super().__init__(("127.0.0.1", 0), SlowHandler)


class SlowHandler(BaseHTTPRequestHandler):
    server: SlowStore

    def do_GET(self) -> None:
        answer = self.server.answers[self.path.partition("?")[0]]
        if isinstance(answer, bytes):
            self.server.asked.set()
            self.server.goes_on.wait(self.server.delay_s)
        raw = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@contextlib.contextmanager
def serving(store: SlowStore) -> Iterator[str]:
    """Its address."""
    thread = threading.Thread(target=store.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{store.server_port}"
    finally:
        store.goes_on.set()
        store.shutdown()
        thread.join()
        store.server_close()


def test_a_file_that_takes_long_to_begin_is_waited_for_longer_than_a_registry(tmp_path: Path, make: Any) -> None:
    model = make.one_column_model()
    files = {"MLmodel": b"flavors: {onnx: {data: model.onnx}}", "model.onnx": model}
    store = SlowStore(files, delay_s=5)  # a registry is given 4 s
    with serving(store) as uri:
        code, line = run("models:/flights/1", "--to", str(tmp_path / "root"), "--registry", uri)
    assert code == 0, line
    assert line["manifest"]["sha256"] == hashlib.sha256(model).hexdigest()


def test_a_signal_ends_a_download_with_the_one_line_and_leaves_nothing_half(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    store = SlowStore({"MLmodel": b"flavors: {onnx: {data: model.onnx}}", "model.onnx": b""}, delay_s=60)
    command = [
        sys.executable,
        "-m",
        "kingmaker_model_server.fetch",
        "models:/flights/1",
        "--to",
        str(tmp_path / "root"),
    ]
    env = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW")} | {"TMPDIR": str(tmp_path / "tmp")}
    with (
        serving(store) as uri,
        subprocess.Popen([*command, "--registry", uri], stdout=subprocess.PIPE, env=env) as step,
    ):
        try:
            assert store.asked.wait(30)
            assert [path.name.startswith("kingmaker-fetch-") for path in (tmp_path / "tmp").iterdir()] == [True]
            step.send_signal(signal.SIGTERM)
            out, _ = step.communicate(timeout=20)
        finally:
            step.kill()
    assert step.returncode == 1
    assert json.loads(out) == {"error": "stopped by a signal", "reason": "Stopped"}
    assert list((tmp_path / "tmp").iterdir()) == []
