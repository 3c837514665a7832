"""A newer MLflow may refuse its predecessor's database until somebody migrates it: the page's pod does."""

import re
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy import chart
from tests.deploy.chart import ROOT
from tests.fakes.fake_apiserver import pod_security

OLDER = """
import sys
import sqlalchemy
from alembic import command
from alembic.script import ScriptDirectory
from mlflow.store.db.utils import _get_alembic_config
from mlflow.store.tracking.dbmodels.initial_models import Base
Base.metadata.create_all(sqlalchemy.create_engine(sys.argv[1]))
config = _get_alembic_config(sys.argv[1])
versions = ScriptDirectory.from_config(config)
command.upgrade(config, versions.get_revision(versions.get_current_head()).down_revision)
"""
OPEN = (
    "import sys; from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore as S; S(sys.argv[1], sys.argv[2])"
)


@pytest.fixture
def pod() -> Any:
    page = (ROOT / "docs/operating.md").read_text()
    [manifest] = re.findall(
        r"apply -f - <<END\n(apiVersion: v1\nkind: Pod\nmetadata: {name: migrate.*?)END\n", page, re.DOTALL
    )
    return yaml.safe_load(manifest)["spec"]


def python(code: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)


def test_a_database_of_an_older_version_is_opened_again(pod: Any, tmp_path: Path) -> None:
    address, artifacts = f"sqlite:///{tmp_path}/mlflow.db", str(tmp_path / "artifacts")
    assert python(OLDER, address).returncode == 0
    program, *arguments = pod["containers"][0]["command"]
    command = [Path(sys.executable).parent / program, *(a.replace("/data/", f"{tmp_path}/") for a in arguments)]
    before = sqlite3.connect(tmp_path / "mlflow.db").execute("SELECT version_num FROM alembic_version").fetchall()
    subprocess.run(command, check=True, capture_output=True)
    assert (
        before != sqlite3.connect(tmp_path / "mlflow.db").execute("SELECT version_num FROM alembic_version").fetchall()
    )
    assert python(OPEN, address, artifacts).returncode == 0


def test_its_pod_has_the_database_the_server_has_and_is_let_in(pod: Any) -> None:
    assert not list(pod_security.violations(pod))
    server = chart.one(chart.render(), "Deployment", "kingmaker-mlflow")["spec"]["template"]["spec"]
    assert f"--backend-store-uri={pod['containers'][0]['command'][-1]}" in server["containers"][0]["args"]
    [claim] = [v["persistentVolumeClaim"]["claimName"] for v in server["volumes"] if "persistentVolumeClaim" in v]
    assert [volume["persistentVolumeClaim"]["claimName"] for volume in pod["volumes"]] == [claim]
