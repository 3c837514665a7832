"""What an operator sets, read once from the environment in `__main__`.

A name under our prefix that is no setting is an error: a misspelled setting would otherwise be ignored
in silence.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field, StringConstraints, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from kingmaker_model_server import platforms
from kingmaker_servicekit.logs import LogFormat

PREFIX: Final = "KINGMAKER_MODEL_SERVER_"

Sha256 = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]
Name = Annotated[str, StringConstraints(pattern="^[^/:\\s]+$")]
Route = Annotated[str, StringConstraints(pattern=r'^/[!"$&->@-z|~]*$')]
"""A path as it stands in a request line, matched letter for letter: no braces, query or percent signs."""


class BadSettings(ValueError):
    """Settings that cannot be used; one line that names each variable."""


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, env_ignore_empty=True, protected_namespaces=())

    model_dir: Path
    """A fetched package (see kingmaker_contracts.package), a folder with one .onnx file, or an .onnx file."""
    model_name: Name
    """The name clients use in paths."""
    version: Name | None = None
    """The registry version answers carry. Unset: the manifest's, else "0"."""
    expected_sha256: Sha256 | None = None
    """Hex sha256 model.onnx must have, whatever its manifest says."""
    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    """0 takes a free port; the log line `listening` names it."""
    health_route: Route | None = None
    """One more path for `/ping`; Vertex AI names it."""
    predict_route: Route | None = None
    """One more path for `/invocations`; Vertex AI names it."""
    drain_seconds: float = Field(default=5.0, gt=0, le=600)
    """Time requests in flight get after SIGTERM."""
    max_body_bytes: int = Field(default=16 * 1024 * 1024, ge=1024)
    """Larger bodies get 413. A body is in memory about three times while it is answered."""
    hot_path: bool = True
    """Predictions are answered by the protocol on the socket, joined by round; false: by FastAPI, one by one."""
    threads: int = Field(default=0, ge=0, le=1024)
    """Threads inside one inference. 0: as many whole cores as the cgroup lets this process use."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: LogFormat = "json"


def read(environ: Mapping[str, str], arguments: Sequence[str] = ()) -> Settings:
    """The settings of this process. environ: to look for misspelled names and a platform's variables; our own values
    come from os.environ. arguments: the command line's, without the program.

    Raises BadSettings.
    """
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    unknown = sorted(name for name in environ if name.startswith(PREFIX) and name not in known)
    if unknown:
        raise BadSettings(f"unknown settings: {', '.join(unknown)}; known are {', '.join(sorted(known))}")
    try:
        words = {
            name: word
            for name, word in platforms.words_of(arguments, environ).items()
            if word.wins or not environ.get(PREFIX + name.upper())
        }
        given: dict[str, Any] = {name: word.value for name, word in words.items()}
        if "model_dir" in words and words["model_dir"].source == "AIP_STORAGE_URI":
            given["model_dir"] = platforms.folder_of(given["model_dir"])
        return Settings(**given)
    except platforms.BadPlatform as fault:
        raise BadSettings(str(fault)) from None
    except ValidationError as error:
        sources = {name: word.source for name, word in words.items()}
        names = ((str(e["loc"][0]), e["msg"]) for e in error.errors())
        faults = (f"{sources.get(name, PREFIX + name.upper())}: {text}" for name, text in names)
        raise BadSettings("; ".join(faults)) from None
