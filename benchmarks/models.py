"""The two models everything is measured with, as packages a model server loads, and rows with right answers.

`gb25` is the kind the targets hold for: 25 float32 features in one tensor. `flights` is the demo's logistic
regression on seven named columns, three of them strings, which costs every server more. Answers are ONNX
Runtime's own for each row alone; both variants of a stack serve the same file, so every answer is known.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import onnxruntime
import pandas as pd
from numpy.typing import NDArray
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks import folders
from examples.flights import data, features
from examples.flights import models as flights_models
from kingmaker.publishing import columns, histograms
from kingmaker.publishing import profile as described
from kingmaker.publishing.convert import TARGET_OPSET, convert
from kingmaker_contracts import package, wire
from kingmaker_contracts.profile import Feature, Output, Profile, Reference, Score, sha256_of

ROWS: Final = 256
TOLERANCE: Final = 1e-6
_EDITION: Final = "1"
"""Part of the folder's name: a change of what is built here must not find the old build."""
_FLIGHTS_FITTED: Final = 60_000


@dataclass(slots=True, frozen=True)
class Answer:
    """Probabilities of both classes."""

    first: float
    second: float


@dataclass(slots=True, frozen=True)
class BenchModel:
    """folder: the package; bodies: V2 JSON, request i has the id i+1; answers: by row; profile: its bytes."""

    name: str
    folder: Path
    bodies: list[str]
    answers: list[Answer]
    profile: bytes

    @property
    def path(self) -> str:
        return f"/v2/models/{self.name}/infer"

    @property
    def onnx(self) -> Path:
        return self.folder / package.MODEL

    @property
    def pool(self) -> Path:
        return self.folder / "pool.lua"


def load(name: str, root: Path = folders.MODELS) -> BenchModel:
    """A model by name, built on first use."""
    folder = root / f"{name}-{_EDITION}"
    if not (folder / package.MANIFEST).exists():
        _BUILDERS[name](folder)
    bodies, answers = _requests(folder)
    (folder / "pool.lua").write_text(pool_text(bodies, answers))
    return BenchModel(name, folder, bodies, answers, (folder / package.PROFILE).read_bytes())


def pool_text(bodies: list[str], answers: list[Answer], tolerance: float = TOLERANCE) -> str:
    """A Lua table of requests and right answers."""
    quoted = ",\n".join(f"[==[{body}]==]" for body in bodies)
    first = ",".join(repr(answer.first) for answer in answers)
    second = ",".join(repr(answer.second) for answer in answers)
    return f"return {{bodies={{{quoted}}},\nfirst={{{first}}},\nsecond={{{second}}},\ntolerance={tolerance!r}}}\n"


def body_of(number: int, tensors: list[tuple[str, str, list[int], list[Any]]]) -> str:
    """A V2 request. tensors: name, datatype, shape, data."""
    inputs = [{"name": n, "shape": s, "datatype": t, "data": d} for n, t, s, d in tensors]
    return msgspec.json.encode({"id": str(number), "inputs": inputs}).decode()


def _requests(folder: Path) -> tuple[list[str], list[Answer]]:
    rows: dict[str, list[Any]] = msgspec.json.decode((folder / "rows.json").read_bytes())
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(folder / package.MODEL, options, providers=["CPUExecutionProvider"])
    bodies, answers = [], []
    for i in range(ROWS):
        tensors: list[tuple[str, str, list[int], list[Any]]] = []
        feed: dict[str, NDArray[Any]] = {}
        for column, values in rows.items():
            value = values[i] if isinstance(values[i], list) else [values[i]]
            is_text = isinstance(value[0], str)
            tensors.append((column, "BYTES" if is_text else "FP32", [1, len(value)], value))
            feed[column] = np.array([value], dtype=object if is_text else np.float32)
        bodies.append(body_of(i + 1, tensors))
        first, second = session.run(["probabilities"], feed)[0][0].tolist()
        answers.append(Answer(first, second))
    return bodies, answers


def _build_gb25(folder: Path) -> None:
    rng = np.random.default_rng(25)
    x = rng.normal(size=(4000, 25)).astype(np.float32)
    y = (x[:, :5].sum(axis=1) + x[:, 5] * x[:, 6] + rng.logistic(size=len(x)) > 0).astype(int)
    trees = GradientBoostingClassifier(n_estimators=100, max_depth=3, random_state=0)
    pipeline = make_pipeline(StandardScaler(), trees)
    pipeline.fit(x, y)
    onnx: bytes = to_onnx(
        pipeline,
        initial_types=[("input", FloatTensorType([None, 25]))],
        options={id(pipeline): {"zipmap": False}},
        target_opset=TARGET_OPSET,
    ).SerializeToString()
    numeric = {f"input[{i}]": histograms.numeric(x[:, i]) for i in range(25)}
    inputs = [Feature("input", "FP32", [-1, 25], "numeric")]
    rows = {"input": np.round(x[:ROWS].astype(np.float64), 4).tolist()}
    reference = Reference(len(x), numeric=numeric, score=histograms.numeric(_scores(onnx, {"input": x})))
    _write(folder, onnx, inputs, reference, rows=rows)


def _build_flights(folder: Path) -> None:
    frame = features.build(data.load()).head(_FLIGHTS_FITTED)
    rows, truth = frame[features.BASIC], frame[features.LABEL]
    pipeline = flights_models.champion().fit(rows, truth)
    known = columns.columns_of(rows)
    onnx = convert(pipeline, True, known, rows.head(2))
    served = columns.served(rows, known, "the rows")
    inputs = [Feature(c.name, c.datatype, [-1, 1], c.kind, c.nullable) for c in known]
    feed = {name: values.reshape(-1, 1) for name, values in served.items()}
    reference = described.reference(inputs, served, _scores(onnx, feed))
    sample = rows.sample(ROWS, random_state=0)
    _write(folder, onnx, inputs, reference, rows={str(name): _json(sample[name]) for name in sample.columns})


def _json(column: "pd.Series[Any]") -> list[Any]:
    values: list[Any] = column.tolist()
    return values


def _scores(onnx: bytes, feed: dict[str, NDArray[Any]]) -> NDArray[np.float64]:
    session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["probabilities"], feed)[0][:, 1], dtype=np.float64)


def _write(
    folder: Path, onnx: bytes, inputs: list[Feature], reference: Reference, *, rows: dict[str, list[Any]]
) -> None:
    """The package, its manifest last, and the rows beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    name = folder.name.partition("-")[0]
    sha256 = hashlib.sha256(onnx).hexdigest()
    profile = Profile(
        name=name,
        onnx_sha256=sha256,
        inputs=inputs,
        outputs=[Output("label", "INT64", [-1]), Output("probabilities", "FP32", [-1, 2])],
        score=Score("binary", "probabilities", 1, "1", ["0", "1"], "label"),
        reference=reference,
        quality=None,
        parity=None,
        created_at=described.now(),
    )
    raw = wire.write_json(profile)
    (folder / package.MODEL).write_bytes(onnx)
    (folder / package.PROFILE).write_bytes(raw)
    (folder / "rows.json").write_bytes(msgspec.json.encode(rows))
    manifest = package.Manifest(f"benchmarks/{name}", name, "1", sha256, profile_sha256=sha256_of(raw))
    (folder / package.MANIFEST).write_bytes(wire.write_json(manifest))


_BUILDERS: Final = {"gb25": _build_gb25, "flights": _build_flights}
