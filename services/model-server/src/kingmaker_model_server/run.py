"""Run jobs of one kind through the model as one batch and cut the answers apart again."""

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from kingmaker_model_server import bound, typed
from kingmaker_model_server.answers import Answer, Output, Outputs
from kingmaker_model_server.bound import BoundRun
from kingmaker_model_server.columns import Column
from kingmaker_model_server.errors import ModelFailed
from kingmaker_model_server.job import Job, Kind
from kingmaker_model_server.metrics import Metrics
from kingmaker_model_server.session import CHUNK, OnnxModel
from kingmaker_model_server.signature import Signature

_FEW: Final = 64
"""Values that Python adds up sooner than numpy has looked at them."""


class Runner:
    """Runs jobs through one model. Rows of several jobs stand one behind the other."""

    def __init__(
        self, model: OnnxModel, signature: Signature, metrics: Metrics, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._model = model
        self._columns = [Column(spec) for spec in signature.inputs]
        self._inputs = [spec.name for spec in signature.inputs]
        self._specs = {spec.name: spec for spec in model.outputs}
        self._count = len(model.outputs)
        self._bound = bound.runs_of(model)
        self._observe = metrics.inference_duration.observe
        self._count_rows = metrics.rows.inc
        self._floats = typed.may_hold_bad_floats(signature)
        self._clock = clock

    def joined(self, jobs: Sequence[Job]) -> list[NDArray[Any]]:
        """The jobs' values, one array an input."""
        if len(jobs) == 1:
            return [column.array_of(part) for column, part in zip(self._columns, jobs[0].values, strict=True)]
        parts = zip(*(job.values for job in jobs), strict=True)
        return [column.joined(values) for column, values in zip(self._columns, parts, strict=True)]

    def is_sound(self, job: Job) -> bool:
        """Whether the job holds no infinity and misses no value it must have."""
        return self._is_sound(self.joined([job]))

    def run_one(self, job: Job) -> Answer:
        """The answer. Raises ModelFailed, and Unsound unless the job is sound."""
        rows, writer = job.rows, job.writer
        if self._bound is not None and rows <= CHUNK and len(writer.outputs) == self._count:
            run = self._bound[rows]
            run.put(job.values)
            if self._has_run(run):
                self._count_rows(rows)
                return run.answer(writer, job.request_id)
        outputs = self._run([job], rows)
        self._count_rows(rows)
        return writer.write(job.request_id, outputs, 0, rows)

    def run(self, jobs: Sequence[Job]) -> list[Answer]:
        """The answers, in order. Raises ModelFailed, and Unsound unless every job is sound."""
        rows = sum([job.rows for job in jobs])
        outputs = None
        if self._bound is not None and rows <= CHUNK and len(jobs[0].writer.outputs) == self._count:
            run = self._bound[rows]
            run.put_all([job.values for job in jobs])
            if self._has_run(run):
                outputs = run.outputs()
        if outputs is None:
            outputs = self._run(jobs, rows)
        self._count_rows(rows)
        answers: list[Answer] = []
        start = 0
        for job in jobs:
            stop = start + job.rows
            answers.append(job.writer.write(job.request_id, outputs, start, stop))
            start = stop
        outputs.forget()  # those in kept memory stay, and would keep these answers
        return answers

    def _has_run(self, run: BoundRun) -> bool:
        """Whether it has all outputs; if not, the model is to be asked in the other way. Raises Unsound."""
        if not (run.is_finite() or self._is_sound(run.arrays)):
            raise Unsound
        started = self._clock()
        try:
            if not run.run():
                self._bound = None  # this model does not answer with the memory it is given
                return False
        except ModelFailed:
            return False  # the other way finds the words
        self._observe(self._clock() - started)
        return True

    def _run(self, jobs: Sequence[Job], rows: int) -> Outputs:
        """The outputs that are asked for. Raises ModelFailed, Unsound."""
        arrays = self.joined(jobs)
        if not self._is_sound(arrays):
            raise Unsound
        names = jobs[0].writer.outputs
        if len(names) == self._count or any(job.writer is not jobs[0].writer for job in jobs):
            names = list(self._specs)  # in one order, for writers tell answers by the tails of all outputs
        started = self._clock()
        results = self._model.run(names, dict(zip(self._inputs, arrays, strict=True)))
        self._observe(self._clock() - started)
        row_wise = self._model.row_wise
        if row_wise:
            for array in results:
                if len(array) != rows:
                    raise ModelFailed(f"{rows} rows went in, but another number came out")
        return Outputs([Output(self._specs[n], a, row_wise) for n, a in zip(names, results, strict=True)])

    def _is_sound(self, arrays: list[NDArray[Any]]) -> bool:
        for at, may_miss in self._floats:
            if not _is_finite(arrays[at]) and (not may_miss or np.isinf(arrays[at]).any()):
                return False
        return True


def _is_finite(array: NDArray[Any]) -> bool:
    """Whether all values are numbers."""
    if array.size <= _FEW and math.isfinite(sum(array.ravel().tolist())):  # a sum of too large numbers is no number
        return True
    return bool(np.isfinite(array).all())


class Unsound(Exception):
    """A float is an infinity, or a value is missing where the model needs one."""


def runs_of(jobs: Sequence[Job], limit: int = CHUNK) -> list[list[Job]]:
    """Jobs parted into runs: one kind a run, at most `limit` rows, a job with more (or of no kind) alone.

    The order of jobs of a kind is kept.
    """
    kinds = {job.kind for job in jobs}
    if len(kinds) == 1 and None not in kinds and sum([job.rows for job in jobs]) <= limit:
        return [list(jobs)]  # as nearly always
    runs: list[list[Job]] = []
    filling: dict[Kind, tuple[list[Job], int]] = {}
    for job in jobs:
        if job.kind is None or job.rows >= limit:
            runs.append([job])
            continue
        run, rows = filling.get(job.kind, ([], limit))
        if rows + job.rows > limit:
            run, rows = [], 0
            runs.append(run)
        run.append(job)
        filling[job.kind] = run, rows + job.rows
    return runs
