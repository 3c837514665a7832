"""A serving process must not pay for what only the fetch step needs."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["kingmaker_model_server.__main__", "kingmaker_model_server.app"])
def test_importing_the_server_imports_neither_mlflow_nor_the_fetch_step(module: str) -> None:
    code = f"import sys, {module}; print([m for m in sys.modules if m.startswith('mlflow') or '.fetch' in m])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"[]\n"


def test_the_prediction_core_imports_no_web_framework() -> None:
    code = "import sys, kingmaker_model_server.predict; print({'fastapi', 'starlette', 'uvicorn'} & sys.modules.keys())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"set()\n"
