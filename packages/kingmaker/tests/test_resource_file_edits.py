"""A weight edit changes that weight and nothing else, or nothing at all."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kingmaker import resource_file

TEXT = """\
# Who predicts late flights.
apiVersion: kingmaker.dev/v1alpha1
kind: ServedModel
metadata:
  name: flights
spec:
  champion:
    name: lr        # logistic regression
    model: 'models:/flights@champion'
  challengers:
    - name: gbm
      model: models:/flights@challenger
    - {name: nn, model: models:/flights/3}
  weights:
    gbm: 10         # percent
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "flights.yaml"
    path.write_text(TEXT)
    return path


def test_only_the_weight_changes(file: Path) -> None:
    assert resource_file.set_weights(file, "flights", {"gbm": 20}) == {"gbm": 10}
    assert file.read_text() == TEXT.replace("gbm: 10 ", "gbm: 20 ")


def test_a_weight_that_was_not_there_is_added(file: Path) -> None:
    assert resource_file.set_weights(file, "default/flights", {"nn": 5}) == {"nn": None}
    assert resource_file.load(file)[0].spec.weights == {"gbm": 10, "nn": 5}


def test_a_file_without_weights_gets_them(file: Path) -> None:
    file.write_text(TEXT[: TEXT.index("  weights:")])
    resource_file.set_weights(file, "flights", {"gbm": 7})
    assert resource_file.load(file)[0].spec.weights == {"gbm": 7}


@pytest.mark.parametrize(
    ("model", "weights", "words"),
    [
        ("flights", {"lr": 5}, "weights names something that is no challenger"),
        ("flights", {"gbm": 60, "nn": 60}, "add up to more than 100"),
        ("boats", {"gbm": 5}, "has no model 'boats'; it holds flights"),
    ],
)
def test_a_refused_edit_leaves_the_file_as_it_was(file: Path, model: str, weights: dict[str, int], words: str) -> None:
    with pytest.raises(resource_file.ResourceFileError, match=words):
        resource_file.set_weights(file, model, weights)
    assert file.read_text() == TEXT
    assert [path.name for path in file.parent.iterdir()] == ["flights.yaml"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no resource"),
        ("a: [1", r"line \d+: not YAML"),
        ("kind: Pod", "apiVersion: required, but missing"),
        (TEXT.replace("name: gbm", "name: lr"), r"spec.challengers\[0\].name: a challenger cannot carry"),
        (TEXT.replace("  weights:", "  wieghts:"), "spec.wieghts: unknown field"),
    ],
)
def test_a_file_that_is_no_resource_is_refused_by_name_and_place(file: Path, text: str, words: str) -> None:
    file.write_text(text)
    with pytest.raises(resource_file.ResourceFileError, match=words) as caught:
        resource_file.load(file)
    assert str(file) in str(caught.value)


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(resource_file.ResourceFileError, match="no such file"):
        resource_file.load(tmp_path / "nothing.yaml")


def test_of_several_documents_only_the_named_one_changes(file: Path) -> None:
    file.write_text(TEXT + "---\n" + TEXT.replace("name: flights", "name: boats"))
    resource_file.set_weights(file, "boats", {"gbm": 33})
    assert [model.spec.weights for model in resource_file.load(file)] == [{"gbm": 10}, {"gbm": 33}]


def test_a_wait_for_labels_out_of_bounds_is_refused_by_file_and_field(file: Path) -> None:
    file.write_text(f"{TEXT}  feedback: {{waitSeconds: 60}}\n")
    with pytest.raises(resource_file.ResourceFileError) as caught:
        resource_file.load(file)
    said = "spec.feedback.waitSeconds: should be greater than or equal to 900, found 60"
    assert str(caught.value) == f"{file}: {said}"
    file.write_text(f"{TEXT}  feedback: {{waitSeconds: 604800}}\n")
    assert resource_file.load(file)[0].spec.feedback.wait_seconds == 604_800


def test_a_link_stays_a_link_and_the_file_it_leads_to_changes(file: Path, tmp_path: Path) -> None:
    link = tmp_path / "elsewhere" / "link.yaml"
    link.parent.mkdir()
    link.symlink_to(file)
    resource_file.set_weights(link, "flights", {"gbm": 20})
    assert link.is_symlink()
    assert resource_file.load(file)[0].spec.weights == {"gbm": 20}


def test_line_ends_stay_as_they_are(file: Path) -> None:
    file.write_bytes(TEXT.replace("\n", "\r\n").encode())
    resource_file.set_weights(file, "flights", {"gbm": 20})
    assert file.read_bytes() == TEXT.replace("gbm: 10 ", "gbm: 20 ").replace("\n", "\r\n").encode()


def test_a_file_is_utf_8_whatever_the_locale_says(file: Path) -> None:
    code = "import pathlib, sys; from kingmaker import resource_file as r\n"
    code += "r.set_weights(pathlib.Path(sys.argv[1]), 'flights', {'gbm': 20})"
    file.write_bytes(TEXT.replace("Who predicts", "Wer sagt verspätete").encode())
    env = {"PATH": os.environ["PATH"], "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run([sys.executable, "-c", code, str(file)], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Wer sagt verspätete" in file.read_text(encoding="utf-8")


def test_a_folder_that_takes_no_new_file_is_named(file: Path) -> None:
    in_the_way = file.with_name(f".{file.name}.{os.getpid()}")
    in_the_way.mkdir()
    with pytest.raises(resource_file.ResourceFileError, match=rf"{file}: cannot be written: "):
        resource_file.set_weights(file, "flights", {"gbm": 20})
    assert file.read_text() == TEXT


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 3000 + "]" * 3000, "not YAML"),
        ("&a [*a]", "holds itself"),
        (TEXT.replace("name: flights", "name: 2001-99-99"), "not YAML: month must be in 1..12"),
        (TEXT + "---\n" + TEXT, "default/flights stands twice"),
    ],
)
def test_what_yaml_allows_and_a_resource_does_not_is_refused(file: Path, text: str, words: str) -> None:
    file.write_text(text)
    with pytest.raises(resource_file.ResourceFileError, match=words):
        resource_file.load(file)
