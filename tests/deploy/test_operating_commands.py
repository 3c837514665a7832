"""Every command of docs/operating.md is run, or says that it needs a cluster."""

import re
from pathlib import Path

import pytest

from tests.deploy import pages
from tests.deploy.conftest import Kubectl
from tests.deploy.operating_stage import ROOT, a_terminal

PAGE = ROOT / "docs/operating.md"
ALLOWED_IN_PROSE = frozenset({"helm upgrade", "make bench", "python -m benchmarks.report"})


def test_every_command_is_run_or_says_what_it_needs() -> None:
    page = PAGE.read_text()
    unmarked = [
        f"line {block.line}: {block.shell.splitlines()[0]}" for block in pages.blocks_of(page) if not block.mark
    ]
    assert not unmarked, "put <!-- run --> or **Needs a cluster** above these"
    assert not list(pages.loose_commands(page, ALLOWED_IN_PROSE)), "commands stand in blocks, where they can be marked"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_commands_do_what_the_page_says(tmp_path: Path, kubectl_binary: Path) -> None:
    with a_terminal(tmp_path, kubectl_binary) as terminal:
        for block in pages.blocks_of(PAGE.read_text()):
            if block.mark == "needs a cluster":
                continue
            code, said = terminal.types(block.shell)
            where = f"docs/operating.md, line {block.line}:\n{block.shell}\nsaid:\n{said}\n{logs(tmp_path)}"
            assert (code != 0) == (block.mark == "refused"), where
            for line in block.prints:
                assert line in said, where
        reigns_since = terminal.types("kubectl -n shop get sm flights -o jsonpath='{.status.champion.since}'")[1]
        assert f'since: "{reigns_since}"' in (terminal.folder / "servedmodels.yaml").read_text(), (
            "status was not restored"
        )


def test_pods_the_page_asks_for_keep_the_standard_the_page_asks_for(kubectl: Kubectl) -> None:
    kubectl.says("label", "namespace", "default", "pod-security.kubernetes.io/enforce=restricted")
    shell = "".join(block.shell for block in pages.blocks_of(PAGE.read_text()))
    manifests = [
        text for text in re.findall(r"<<END\n(.*?)^END$", shell, re.DOTALL | re.MULTILINE) if "kind: Pod\n" in text
    ]
    assert manifests
    for manifest in manifests:
        assert kubectl.says("apply", "-f", "-", stdin=manifest).endswith("created\n")
    assert "violates PodSecurity" in kubectl.refuses("run", "careless", "--image=x")


def logs(folder: Path) -> str:
    return "\n".join(
        f"== {file.parent.name}\n{file.read_text()[-1500:]}" for file in sorted(folder.glob("pods/*/*/log"))
    )


def test_a_page_with_an_unmarked_command_is_found_out() -> None:
    page = "Type `kubectl get sm` or\n\n    helm list -n shop\n\n```sh\nkubectl delete pod --all\n```\n"
    [block] = pages.blocks_of(page)
    assert (block.mark, block.line) == (None, 5)
    assert list(pages.loose_commands(page)) == ["kubectl get sm", "helm list -n shop"]


def test_marks_belong_to_the_block_below_them() -> None:
    page = (
        "<!-- run -->\n```sh\na\n```\n\n<!-- prints -->\n```text\none\ntwo\n```\n"
        "**Needs a cluster**\n\n```sh\nb\n```\n<!-- run: refused -->\n```sh\nc\n```\n```yaml\nd: 1\n```\n"
    )
    found = [(block.shell, block.mark, block.prints) for block in pages.blocks_of(page)]
    assert found == [
        ("a\n", "runs", ["one", "two"]),
        ("b\n", "needs a cluster", []),
        ("c\n", "refused", []),
    ]
