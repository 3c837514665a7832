"""What is in each image, and how large it is; sizes go to build/images/sizes.json."""

import json

import pytest

from kingmaker_controller.runtimes.podspec import USER
from tests.images.conftest import FOLDER, PREFIX
from tests.images.engine import Engine, Failed
from tests.images.stand_ins import PYTHON

pytestmark = pytest.mark.images
NAMES = ("gateway", "monitor", "controller", "model-server", "local")
LIMITS_MB = {"gateway": 250, "monitor": 360, "controller": 400, "model-server": 400, "local": 560}
HEAVY = ("pandas", "sklearn", "scipy", "onnxruntime", "mlflow", "kubernetes", "pytest", "pip", "uv")
NEEDED = {
    "gateway": set(),
    "monitor": {"scipy"},
    "controller": {"kubernetes"},
    "model-server": {"onnxruntime", "mlflow"},
    "local": {"kubernetes", "onnxruntime", "mlflow"},
}


def test_images_are_small(images: Engine) -> None:
    base = images.image(PYTHON)["Size"]
    sizes = {name: round(images.image(f"{PREFIX}-{name}")["Size"] / 1e6) for name in NAMES}
    report = {"base_mb": round(base / 1e6), "images_mb": sizes}
    (FOLDER / "sizes.json").write_text(json.dumps(report, indent=2))
    assert {name: size for name, size in sizes.items() if size >= LIMITS_MB[name]} == {}


@pytest.mark.parametrize("name", NAMES)
def test_an_image_holds_the_heavy_packages_it_needs_and_no_others(images: Engine, name: str) -> None:
    look = f"import importlib.util as u; print(*[n for n in {HEAVY} if u.find_spec(n)])"
    assert set(images.run(f"{PREFIX}-{name}", command=["python", "-c", look]).split()) == NEEDED[name]


@pytest.mark.parametrize("name", NAMES)
def test_an_image_says_what_it_is_and_runs_as_nobody_in_particular(images: Engine, name: str) -> None:
    about = images.image(f"{PREFIX}-{name}")
    labels = about["Labels"]
    assert labels["org.opencontainers.image.title"] == f"kingmaker-{name}"
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert labels["org.opencontainers.image.version"] == "0.1.0"
    assert len(labels["org.opencontainers.image.revision"]) == 40
    assert about["User"] == f"{USER}:{USER}"
    assert images.run(f"{PREFIX}-{name}", command=["id", "-u"]).strip() == str(USER)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_in_an_image_can_be_changed_by_its_user(images: Engine, name: str) -> None:
    look = ["find", "/opt", "-writable", "-not", "-type", "l"]
    assert images.run(f"{PREFIX}-{name}", command=look) == ""
    with pytest.raises(Failed, match="Read-only file system"):
        images.run(f"{PREFIX}-{name}", command=["touch", "/data"])


@pytest.mark.parametrize("name", NAMES)
def test_modules_were_compiled_when_the_image_was_built(images: Engine, name: str) -> None:
    """With a read-only root they would be compiled anew at every start."""
    look = "import sys, kingmaker_contracts.wire as w, pathlib; print(pathlib.Path(w.__cached__).exists())"
    assert images.run(f"{PREFIX}-{name}", command=["python", "-c", look]).strip() == "True"
