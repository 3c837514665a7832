"""`python -m kingmaker.local.mlflow_server URI ARGUMENT...`: `mlflow ARGUMENT...` when URI's database is whole."""

import os
import sys

from kingmaker import registry_file


def main() -> None:
    uri, *arguments = sys.argv[1:]
    registry_file.make(uri)
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", *arguments])  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main()
