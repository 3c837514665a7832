"""`python -m kingmaker_model_server.fetch SOURCE --to ROOT`: one JSON line on standard output, whatever happens.

{"folder": ..., "manifest": {...}} and exit 0, or {"error": ..., "reason": ...} and exit 1. Everything
MLflow prints goes to standard error: file descriptor 1 itself is pointed there for the time of the work.
"""

import argparse
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from kingmaker_model_server.fetch import local, registry, source
from kingmaker_model_server.fetch.failure import FetchFailed, Reason

_REPORT_BYTES: Final = 4096
"""What Kubernetes keeps of a termination message."""
_STOPPED: Final[Reason] = "Stopped"
_CUT: Final = "..."


def main(arguments: Sequence[str] | None = None) -> int:
    """Fetch and report; returns the exit code."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # process 1 of a container is not ended without a handler
    sys.stdout.flush()
    out = os.dup(1)
    os.dup2(2, 1)
    code, line = _report(options)
    if options.report is not None:
        try:
            options.report.write_bytes(_written(line, _REPORT_BYTES))
        except OSError as fault:
            told: dict[str, object] = {
                "error": f"cannot write {options.report}: {fault.strerror or fault}",
                "reason": "WriteFailed",
            }
            code, line = 1, line if code else told
    os.write(out, _written(line))
    if line.get("reason") == _STOPPED:
        os._exit(code)  # the threads of a download would be waited for
    return code


def _written(line: dict[str, object], most: int | None = None) -> bytes:
    """The line. most: bytes of it; the text of an error is cut to that, for half a line could not be read."""
    raw = msgspec.json.encode(line) + b"\n"
    over = 0 if most is None else len(raw) - most
    if over <= 0 or "error" not in line:
        return raw
    cut = str(line["error"]).encode()[: -over - len(_CUT.encode())].decode(errors="ignore") + _CUT
    return msgspec.json.encode(line | {"error": cut}) + b"\n"


def _report(options: argparse.Namespace) -> tuple[int, dict[str, object]]:
    try:
        if options.source.startswith(source.SCHEME):
            wanted = source.parse(options.source)
            if not options.registry:
                raise FetchFailed("RegistryUnreachable", "no registry: give --registry or set MLFLOW_TRACKING_URI")
            folder, manifest = registry.fetch(options.source, wanted, options.registry, options.to)
        else:
            folder, manifest = local.fetch(options.source, options.base, options.to)
        if options.link is not None:
            _point(options.link, folder)
    except FetchFailed as failure:
        return 1, {"error": str(failure), "reason": failure.reason}
    except KeyboardInterrupt:
        return 1, {"error": "stopped by a signal", "reason": _STOPPED}
    except Exception as failure:  # outermost: the caller was promised a line
        traceback.print_exc()
        return 1, {"error": f"{type(failure).__name__}: {failure}", "reason": "Unexpected"}
    return 0, {"folder": str(folder.resolve()), "manifest": manifest}


def _point(link: Path, folder: Path) -> None:
    """Make link lead to the folder, in one step, whatever it led to before. Raises FetchFailed."""
    fresh = link.with_name(f".{link.name}.{os.getpid()}")
    try:
        fresh.unlink(missing_ok=True)  # of a step that was killed: in a pod each has the same process id
        fresh.symlink_to(os.path.relpath(folder, link.parent))
        fresh.replace(link)
    except OSError as fault:
        raise FetchFailed("WriteFailed", f"cannot make the link {link}: {fault.strerror or fault}") from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m kingmaker_model_server.fetch", description=(__doc__ or "")[:96])
    parser.add_argument("source", help="models:/name/3, models:/name@alias, or a path below --base")
    parser.add_argument("--to", type=Path, required=True, metavar="ROOT", help="folder that holds fetched versions")
    parser.add_argument(
        "--registry",
        default=os.environ.get("MLFLOW_TRACKING_URI", ""),
        metavar="URI",
        help="sqlite:///file or http(s)://host (default: MLFLOW_TRACKING_URI)",
    )
    parser.add_argument("--link", type=Path, metavar="PATH", help="also make PATH a symbolic link to the folder")
    parser.add_argument(
        "--report", type=Path, metavar="FILE", help="write the line there too, as /dev/termination-log of a container"
    )
    parser.add_argument(
        "--base", type=Path, default=Path(), metavar="FOLDER", help="paths may not leave it (default: here)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
