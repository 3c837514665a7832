"""The file source: settling, renames, several documents, and what is wrong with them."""

from pathlib import Path

import pytest

from kingmaker_controller.sources import Reading, files
from kingmaker_controller.sources.files import FileSource

GOOD = """
apiVersion: kingmaker.dev/v1alpha1
kind: ServedModel
metadata: {name: NAME}
spec:
  champion: {name: lr, model: "models:/flights/1"}
"""


def document(name: str = "flights") -> str:
    return GOOD.replace("NAME", name)


def news(source: FileSource) -> Reading:
    """Of a look that must find some."""
    found = source.poll()
    assert found is not None
    return found


def test_the_first_look_counts_at_once_and_a_change_after_two_that_agree(tmp_path: Path) -> None:
    path = tmp_path / "served-model.yaml"
    path.write_text(document())
    source = FileSource(path)
    assert list(news(source).models) == ["default/flights"]
    assert source.poll() is None
    path.write_text(document("churn")[:40])
    assert source.poll() is None
    path.write_text(document("churn"))
    assert source.poll() is None, "it changed between two looks"
    assert list(news(source).models) == ["default/churn"]
    fresh = tmp_path / "fresh"
    fresh.write_text(document("other"))
    fresh.rename(path)
    assert source.poll() is None
    assert list(news(source).models) == ["default/other"]


def test_an_edit_that_is_taken_back_before_it_settled_is_no_news(tmp_path: Path) -> None:
    path = tmp_path / "served-model.yaml"
    path.write_text(document())
    source = FileSource(path)
    source.poll()
    path.write_text(document("churn"))
    assert source.poll() is None
    path.write_text(document())
    assert [source.poll(), source.poll()] == [None, None]


def test_a_file_that_vanishes_is_a_fault_and_read_again_when_it_returns(tmp_path: Path) -> None:
    path = tmp_path / "served-model.yaml"
    source = FileSource(path)
    assert "cannot be read: No such file" in str(news(source).faults[0])
    path.write_text(document())
    source.poll()
    assert list(news(source).models) == ["default/flights"]
    path.unlink()
    source.poll()
    assert news(source).faults


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "f.yaml: holds no ServedModel"),
        ("a: [1,\nb: 2", "f.yaml:2:5: not valid YAML"),
        ("a: 1\na: 2", "f.yaml:2:1: not valid YAML: found duplicate key"),
        ("\xff", "f.yaml: is not UTF-8"),
        ("- just\n- a list", "the resource: "),
        ("key: !!python/object:os.system {}", "not valid YAML"),
    ],
)
def test_what_is_no_resource_at_all_is_a_fault_with_its_place(text: str, expected: str) -> None:
    reading = files.parse(text.encode("latin-1"), "f.yaml")
    assert reading.models == {}
    assert expected in str(reading.faults[0])


def test_one_faulty_document_spoils_only_its_own_model() -> None:
    text = "---\n".join([document(), document("churn").replace("champion", "chmpion")])
    reading = files.parse(text.encode(), "f.yaml")
    assert reading.faults == ()
    assert reading.models["default/flights"].resource is not None
    assert sorted(map(str, reading.models["default/churn"].faults)) == [
        "spec.champion: required, but missing",
        "spec.chmpion: unknown field",
    ]


def test_two_documents_of_one_name_and_one_without_a_name_are_faults() -> None:
    nameless = document().replace("name: flights", "labels: {}")
    reading = files.parse("---\n".join([document(), document(), nameless]).encode(), "f.yaml")
    assert "stands twice" in str(reading.models["default/flights"].faults[0])
    assert str(reading.faults[0]) == "f.yaml[2].metadata.name: required, but missing"
