"""The folder a fetched model version is: what the fetch step writes and the model server loads.

model.onnx, profile.json (absent for a model published without Kingmaker) and manifest.json, which is
written last: a folder without it is unfinished.
"""

from typing import Literal

import msgspec

MANIFEST = "manifest.json"
MODEL = "model.onnx"
PROFILE = "profile.json"


class Manifest(msgspec.Struct, frozen=True):
    """What was fetched. source: the model string asked for; version: the registry's, resolved once;
    alias: the alias that was resolved, if one was; sha256: of model.onnx, as the registry tells it or,
    without a registry, as computed; profile_sha256: None when there is no profile."""

    source: str
    name: str
    version: str
    sha256: str
    alias: str | None = None
    profile_sha256: str | None = None
    v: Literal[1] = 1
