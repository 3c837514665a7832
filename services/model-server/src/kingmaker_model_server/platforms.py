"""What a platform says about where and how to serve, in its own words: SageMaker's argument, Vertex AI's variables.

The same image runs on both without settings of its own: SageMaker starts it with the argument `serve` and puts the
model into /opt/ml/model; Vertex AI sets AIP_HTTP_PORT and asks on the routes it names. A port a platform names is where
it will ask, so that wins over our setting; everything else gives way to a setting made by hand.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote, urlsplit

SERVE: Final = "serve"
SAGEMAKER_MODEL_DIR: Final = "/opt/ml/model"
MODEL_NAME: Final = "model"
"""The name in V1 and V2 paths where a platform's own path has none."""

_EVERYWHERE: Final = "0.0.0.0"  # noqa: S104 - the platform asks from outside the container


class BadPlatform(ValueError):
    """A platform said what cannot be done; the text names the argument or variable."""


@dataclass(slots=True, frozen=True)
class Word:
    """A platform's word on one setting. source: the variable it came from, for errors."""

    value: Any
    source: str
    wins: bool = False


def words_of(arguments: Sequence[str], environ: Mapping[str, str]) -> dict[str, Word]:
    """What the platform this process runs on says, by setting. arguments: without the program. Raises BadPlatform."""
    if list(arguments) not in ([], [SERVE]):
        raise BadPlatform(f"unknown argument {arguments[0]!r}; this program takes none, or {SERVE!r} from SageMaker")
    words: dict[str, Word] = {}
    if arguments:
        words |= _sagemaker(environ)
    words |= _vertex(environ)
    return words


def _sagemaker(environ: Mapping[str, str]) -> dict[str, Word]:
    argument = f"the argument {SERVE!r}"
    words = {
        "host": Word(_EVERYWHERE, argument),
        "model_dir": Word(SAGEMAKER_MODEL_DIR, argument),
        "model_name": Word(MODEL_NAME, argument),
    }
    port = environ.get("SAGEMAKER_BIND_TO_PORT")
    if port:
        words["port"] = Word(port, "SAGEMAKER_BIND_TO_PORT", wins=True)
    return words


def _vertex(environ: Mapping[str, str]) -> dict[str, Word]:
    words: dict[str, Word] = {}
    port, storage = environ.get("AIP_HTTP_PORT"), environ.get("AIP_STORAGE_URI")
    if port:
        words["port"] = Word(port, "AIP_HTTP_PORT", wins=True)
        words["host"] = Word(_EVERYWHERE, "AIP_HTTP_PORT")
        words["model_name"] = Word(MODEL_NAME, "AIP_HTTP_PORT")
    if storage:
        words["model_dir"] = Word(storage, "AIP_STORAGE_URI")
    for name in ("health_route", "predict_route"):
        route = environ.get(f"AIP_{name.upper()}")
        if route:
            words[name] = Word(route, f"AIP_{name.upper()}")
    return words


def folder_of(storage: str) -> str:
    """The folder AIP_STORAGE_URI means, when it is one on this machine. Raises BadPlatform."""
    parts = urlsplit(storage)
    if parts.scheme == "file" and not parts.netloc:
        return unquote(parts.path)
    if not parts.scheme:
        return storage
    raise BadPlatform(
        f"AIP_STORAGE_URI is {storage!r}: reading from {parts.scheme}:// is not supported yet; put the package into "
        "the image or a mounted folder and set KINGMAKER_MODEL_SERVER_MODEL_DIR"
    )
