"""Why there is no folder, in one word for the caller and one sentence for people."""

from typing import Literal

Reason = Literal[
    "ModelNotFound",
    "VersionNotFound",
    "AliasNotFound",
    "RegistryUnreachable",
    "ShaMismatch",
    "NotOnnx",
    "BadProfile",
    "OutsideFolder",
    "WriteFailed",
    "Stopped",
    "Unexpected",
]


class FetchFailed(Exception):
    """The version cannot be had. reason: a closed set, programs branch on it."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason: Reason = reason
