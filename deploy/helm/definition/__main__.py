"""Write what the chart has from elsewhere (`make chart`), or with --check only say whether it is current.

A chart cannot read outside its folder, so the CRD, the alerts and the dashboard are copied into it.
"""

import argparse
import json
import sys
from pathlib import Path

from deploy.helm.definition import commented, schema
from deploy.helm.definition.values import Values

DEPLOY = Path(__file__).resolve().parents[2]
CHART = DEPLOY / "helm/kingmaker"
HEAD = "# Written by `make chart` from deploy/helm/definition; edit that.\n"
COPIES = {"k8s/crd": "crds", "monitoring/rules": "files/rules", "monitoring/dashboards": "files/dashboards"}


def wanted() -> dict[Path, str]:
    """Every generated file with its content."""
    found = {
        CHART / "values.yaml": f"{HEAD}\n{commented.of_values(Values)}",
        CHART / "values.schema.json": json.dumps(schema.of_values(Values), indent=1) + "\n",
    }
    for source, target in COPIES.items():
        for file in sorted((DEPLOY / source).glob("*.*")):
            found[CHART / target / file.name] = file.read_text()
    return found


def stale() -> list[Path]:
    """Generated files that are not what they should be, and copies whose original is gone."""
    files = wanted()
    there = {file for target in COPIES.values() for file in (CHART / target).glob("*.*")}
    differing = [file for file, text in files.items() if not file.exists() or file.read_text() != text]
    return sorted([*differing, *(there - files.keys())])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy.helm.definition", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail when a file is not current")
    if parser.parse_args().check:
        for file in stale():
            sys.stderr.write(f"{file.relative_to(DEPLOY.parent)} is not current: run make chart\n")
        return 1 if stale() else 0
    files = wanted()
    for file in stale():
        if file not in files:
            file.unlink()
            continue
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(files[file])
    return 0


if __name__ == "__main__":
    sys.exit(main())
