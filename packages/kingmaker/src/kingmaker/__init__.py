"""Kingmaker: champion/challenger serving for ONNX models.

`kingmaker.publish(...)` is loaded when it is first asked for: importing `kingmaker`, as every command
does, must not cost the seconds that scikit-learn and MLflow take.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kingmaker.publishing.publisher import Published as Published
    from kingmaker.publishing.publisher import publish as publish

__all__ = ["publish", "Published"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from kingmaker.publishing import publisher  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise ImportError(
            f"kingmaker.{name} needs {error.name}, which is not installed: pip install 'kingmaker[publish]'"
        ) from error
    return getattr(publisher, name)
