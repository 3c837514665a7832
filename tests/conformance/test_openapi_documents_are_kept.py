"""schemathesis over what /openapi.json of both services promises: requests within it and against it.

It runs in an environment of its own and is slow only because that may have to be downloaded.
"""

import os
import subprocess
from pathlib import Path

import pytest

from tests.conformance import environments
from tests.conformance.models import Oracle
from tests.conformance.neighbour import Neighbour
from tests.conformance.stack import Target

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

CONFIG = """
[checks]
not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", "504"]  # 504: the client's own time limit was that short
"""
HOOKS = """
import schemathesis

@schemathesis.serializer("application/jsonlines")
def lines(ctx, value):
    return str(value).encode()
"""
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


@pytest.mark.parametrize("paths", ["any model", "a real model"])
@pytest.mark.parametrize("mode", ["positive", "negative"])
def test_no_request_gets_an_answer_the_document_does_not_know(
    target: Target, oracles: dict[str, Oracle], tmp_path: Path, mode: str, paths: str
) -> None:
    python = environments.python_of("schemathesis")
    config = CONFIG
    if paths == "a real model":  # else nearly every request ends at a model nobody serves
        names = {"model": "flights", "version": target.version, "variant": target.version}
        lines = [f'"path.{name}" = "{value}"' for name, value in names.items()]
        config = "\n".join(["[parameters]", *lines, CONFIG])
    (tmp_path / "schemathesis.toml").write_text(config)
    (tmp_path / "hooks.py").write_text(HOOKS)
    url = f"http://{target.addresses['flights']}/openapi.json"
    command = [str(python.with_name("schemathesis")), "run", url, "--checks", CHECKS, "--mode", mode]
    command += ["--max-examples", "40", "--phases", "examples,coverage,fuzzing", "--request-timeout", "20"]
    command += ["--suppress-health-check", "all", "--continue-on-failure", "--warnings", "off"]
    env = os.environ | {"SCHEMATHESIS_HOOKS": "hooks.py", "PYTHONPATH": str(tmp_path)}
    with Neighbour(target, oracles["flights"]):
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout[-12_000:] + done.stderr[-2000:]
    assert "No tests were run" not in done.stdout
