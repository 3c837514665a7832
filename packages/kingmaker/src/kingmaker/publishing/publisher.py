"""`kingmaker.publish`: the order in which a fitted pipeline becomes a version.

Every check comes before anything is written, cheap ones first, so a refusal leaves the registry as it was.
Quality is measured on the converted model: a gate on what is not served would be a gate on nothing.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kingmaker.publishing import columns, parity, profile, quality, shared_rows
from kingmaker.publishing import registry as mlflow_registry
from kingmaker.publishing.columns import Column, Rows
from kingmaker.publishing.convert import convert
from kingmaker.publishing.errors import BadLabels, BadTarget, GateRefused, SharedRows
from kingmaker.publishing.estimator import Model, describe
from kingmaker.publishing.predictor import Predictor
from kingmaker_contracts.profile import Parity, Profile, Quality, sha256_of

TOLERANCE: Final = 1e-5
STAGES: Final = (
    "checking the rows",
    "converting to ONNX",
    "comparing with scikit-learn",
    "measuring quality",
    "describing the reference rows",
    "storing in MLflow",
)

Progress = Callable[[str, int, int], None]
"""Called when a stage begins: its name, how many are done, how many there are."""


@dataclass(slots=True, frozen=True)
class Published:
    """A version that is now in the registry."""

    name: str
    version: int
    alias: str | None
    onnx_sha256: str
    profile_sha256: str
    metrics: dict[str, float]
    parity: Parity
    optimistic: bool = False

    @property
    def uri(self) -> str:
        """How a ServedModel names it."""
        return f"models:/{self.name}/{self.version}"


@dataclass(slots=True, frozen=True)
class _Rows:
    """Both frames as served and as scikit-learn sees them, and the truth."""

    columns: list[Column]
    reference: Rows
    reference_frame: pd.DataFrame
    evaluation: Rows
    evaluation_frame: pd.DataFrame
    truth: NDArray[Any]
    optimistic: bool


def publish(
    pipeline: Any,
    *,
    reference: pd.DataFrame,
    evaluation: tuple[pd.DataFrame, Any],
    name: str,
    min_auc: float | None = None,
    alias: str | None = "challenger",
    registry: str | None = None,
    allow_training_rows: bool = False,
    tolerance: float = TOLERANCE,
    positive: str | int | bool | None = None,
    progress: Progress | None = None,
) -> Published:
    """Publish a fitted scikit-learn pipeline as a new version of the registered model `name`.

    reference: the training rows (X_train), which live rows will be compared with; evaluation: rows the model
    has not seen and their labels (X_test, y_test), which quality is measured on. min_auc: refuse below it.
    registry: MLflow's address, by default MLFLOW_TRACKING_URI. allow_training_rows: publish although
    evaluation rows were training rows, and record that quality is optimistic. tolerance: how far ONNX
    Runtime and scikit-learn may be apart. positive: the class the score speaks for.

    Raises a PublishError: see `kingmaker.publishing.errors`. Nothing is stored then.
    """
    tell = _teller(progress)
    tell(0)
    uri = mlflow_registry.resolve(registry)
    mlflow_registry.check(uri, name, alias)
    if min_auc is not None and not 0 <= min_auc <= 1:  # NaN is below nothing: as a gate it would let everything pass
        raise BadTarget(f"min_auc is {min_auc:g}, expected a number from 0 to 1")
    model = describe(pipeline, positive)
    if min_auc is not None and model.task == "regression":
        raise BadLabels("min_auc is for classifiers, the model is a regressor")
    rows = _checked_rows(model, reference, evaluation, allow_training_rows)
    tell(1)
    onnx = convert(model.estimator, model.task != "regression", rows.columns, rows.reference_frame.head(2))
    predictor = Predictor(onnx, model.task != "regression")
    rng = np.random.default_rng(0)
    tell(2)
    agreed = _compared(model, predictor, rows, tolerance, rng)
    tell(3)
    answers = predictor.predict(rows.evaluation)
    measured = quality.metrics(model, answers, rows.truth)
    if min_auc is not None and measured["auc"] < min_auc:
        raise GateRefused("AUC", measured["auc"], min_auc)
    tell(4)
    sha256 = hashlib.sha256(onnx).hexdigest()
    inputs = profile.inputs(predictor, rows.columns)
    scores = predictor.predict(rows.reference).score(model.column)
    raw = profile.encoded(
        Profile(
            name=name,
            onnx_sha256=sha256,
            inputs=inputs,
            outputs=predictor.outputs,
            score=profile.score(model, predictor),
            reference=profile.reference(inputs, rows.reference, scores),
            quality=Quality(len(rows.truth), measured, rows.optimistic),
            parity=agreed,
            created_at=profile.now(),
            calibration=quality.calibration(model, answers, rows.truth),
            importance=quality.importance(model, predictor, rows.evaluation, rows.truth, rng),
            libraries=profile.libraries(),
        )
    )
    tell(5)
    tags = _tags(sha256, sha256_of(raw), measured, agreed, rows.optimistic)
    content = mlflow_registry.Content(onnx, raw, inputs, predictor.outputs, tags, measured)
    stored = mlflow_registry.store(uri, name, alias, content)
    return Published(name, stored, alias, sha256, sha256_of(raw), measured, agreed, rows.optimistic)


def _checked_rows(
    model: Model, reference: pd.DataFrame, evaluation: tuple[pd.DataFrame, Any], allow_training_rows: bool
) -> _Rows:
    """Both frames with the model's columns, compared with each other. Raises a PublishError."""
    if not isinstance(evaluation, tuple) or len(evaluation) != 2:
        raise BadLabels("evaluation is (rows, labels): a DataFrame and one label a row")
    train = columns.aligned(reference, model.feature_names, "reference")
    test = columns.aligned(evaluation[0], model.feature_names or list(train.columns), "evaluation")
    truth = quality.labels_of(evaluation[1], len(test), test.index, model)
    known = columns.columns_of(train)
    train_rows = columns.served(train, known, "the reference rows")
    test_rows = columns.served(test, known, "the evaluation rows")
    overlap = shared_rows.overlap(train_rows, train.index, test_rows, test.index)
    if overlap.is_suspicious and not allow_training_rows:
        raise SharedRows(
            f"{overlap.text}: quality on training rows is no evidence. Hold rows out, or allow training rows "
            "(allow_training_rows=True, --allow-training-rows), which records that quality is optimistic"
        )
    return _Rows(
        known,
        train_rows,
        columns.as_fitted(train, known),
        test_rows,
        columns.as_fitted(test, known),
        truth,
        overlap.is_suspicious,
    )


def _compared(model: Model, predictor: Predictor, rows: _Rows, tolerance: float, rng: np.random.Generator) -> Parity:
    """ONNX Runtime against scikit-learn on evaluation rows, and on reference rows that miss values: a request
    may miss them too, though no evaluation row does. Raises ParityFailed."""
    chosen = parity.chosen_rows(len(rows.truth), rng)
    incomplete = np.flatnonzero(columns.missing_rows(rows.reference))[: parity.MAX_MISSING_ROWS]
    frame = pd.concat([rows.evaluation_frame.iloc[chosen], rows.reference_frame.iloc[incomplete]])
    ours, more = columns.take(rows.evaluation, chosen), columns.take(rows.reference, incomplete)
    served = {name: np.concatenate([ours[name], more[name]]) for name in ours}
    expected, found = model.predict(frame), predictor.predict(served)
    result, worst = parity.compare(expected, found, tolerance)
    parity.require(result, expected, found, row=worst, rows=served, index=list(frame.index))
    return result


def _tags(
    onnx_sha256: str, profile_sha256: str, measured: dict[str, float], agreed: Parity, optimistic: bool
) -> dict[str, str]:
    """What `mlflow` shows of a version without opening its files."""
    tags = {f"kingmaker.{name}": f"{value:.6g}" for name, value in measured.items()}
    tags |= {"kingmaker.onnx_sha256": onnx_sha256, "kingmaker.profile_sha256": profile_sha256}
    tags["kingmaker.parity_max_abs_difference"] = f"{agreed.max_abs_difference:.3g}"
    if optimistic:
        tags["kingmaker.quality_optimistic"] = "true"
    return tags


def _teller(progress: Progress | None) -> Callable[[int], None]:
    return lambda stage: progress(STAGES[stage], stage, len(STAGES)) if progress is not None else None
