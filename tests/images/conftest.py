"""The images, built once for all tests of this folder, as `make images` builds them."""

import os
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from conftest import needs, not_run
from tests.images import stand_ins
from tests.images.engine import Engine

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "build/images"
PREFIX = "localhost/kingmaker"
INSTALL = "apt-get install buildah podman runc debootstrap podman-compose"


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    for program in ("buildah", "podman", "runc", "debootstrap", "podman-compose"):
        needs(program, INSTALL)
    if os.geteuid() != 0:
        not_run("making a Debian takes root", "sudo make test-images")
    made = Engine(FOLDER)
    made.clear()  # what a killed run left
    yield made
    made.clear()


@pytest.fixture(scope="session")
def images(engine: Engine) -> Engine:
    """All images are there, called localhost/kingmaker-<name>."""
    stand_ins.make_python(engine)
    about = {"ENGINE": "buildah", "BASE": stand_ins.PYTHON, "PREFIX": PREFIX}
    said = engine.say(ROOT / "scripts/images", environment=about, timeout_s=1500)
    (FOLDER / "build.log").write_text(said)
    return engine


def tiny_model(constant: float) -> bytes:
    """y = x + constant, for x of shape (rows, 2)."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 2])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 2])
    shift = helper.make_tensor("shift", TensorProto.FLOAT, [1], [constant])
    graph = helper.make_graph([helper.make_node("Add", ["x", "shift"], ["y"])], "tiny", [x], [y], [shift])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A folder with two models that containers may read: lr adds 1, gbm adds 2."""
    folder = tmp_path / "models"
    folder.mkdir()
    for name, constant in (("lr", 1.0), ("gbm", 2.0)):
        (folder / f"{name}.onnx").write_bytes(tiny_model(constant))
    return folder
