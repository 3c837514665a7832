"""`kingmaker publish MODEL.joblib --reference train.csv --evaluation test.csv --label late --name flights`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from kingmaker.cli.failures import Failure
from kingmaker.publishing.errors import GateRefused, PublishError

if TYPE_CHECKING:
    import pandas as pd

    from kingmaker.publishing.publisher import Published

GATE_EXIT_CODE = 3


def publish(  # noqa: PLR0917 - typer calls it by name
    pipeline: Annotated[
        Path,
        typer.Argument(metavar="PIPELINE.joblib", help="A fitted pipeline. Loading it runs code: your own files only."),
    ],
    reference: Annotated[Path, typer.Option(help="Training rows, .csv or .parquet; the label column may be in it.")],
    evaluation: Annotated[Path, typer.Option(help="Rows the model has not seen, with their labels, .csv or .parquet.")],
    label: Annotated[str, typer.Option(help="Column that holds the label.")],
    name: Annotated[str, typer.Option(help="Registered model.")],
    min_auc: Annotated[float | None, typer.Option(help="Refuse below this AUC, exit code 3.")] = None,
    alias: Annotated[str, typer.Option(help="Alias that shall name the new version; '' for none.")] = "challenger",
    registry: Annotated[
        str | None, typer.Option(help="MLflow, for example sqlite:///mlflow.db. Default: MLFLOW_TRACKING_URI.")
    ] = None,
    allow_training_rows: Annotated[
        bool, typer.Option(help="Accept evaluation rows that were training rows; records quality as optimistic.")
    ] = False,
    positive: Annotated[
        str | None, typer.Option(help="Class the score speaks for. Default: the second of two.")
    ] = None,
) -> None:
    """Publish a fitted scikit-learn pipeline as a new version that Kingmaker can serve.

    PIPELINE is what joblib.dump wrote. Such files are pickles and run code when they are loaded:
    load only files that you made yourself. CSV columns that are not numbers are read as strings.
    """
    with _progress() as tell:
        tell("reading the files", 0, 0)
        try:
            from kingmaker.publishing import publisher  # noqa: PLC0415 - seconds that only this command should cost
        except ModuleNotFoundError as error:
            raise Failure(
                f"publishing needs {error.name}, which is not installed: pip install 'kingmaker[publish]'"
            ) from None
        fitted = _load(pipeline)
        train = _read(reference)
        rows = _read(evaluation)
        if label not in rows.columns:
            raise Failure(f"{evaluation} has no column {label!r}; it has {', '.join(map(str, rows.columns))}")
        try:
            published = publisher.publish(
                fitted,
                reference=train.drop(columns=[label], errors="ignore"),
                evaluation=(rows.drop(columns=[label]), rows[label]),
                name=name,
                min_auc=min_auc,
                alias=alias or None,
                registry=registry,
                allow_training_rows=allow_training_rows,
                positive=positive,
                progress=tell,
            )
        except PublishError as error:
            raise Failure(str(error), GATE_EXIT_CODE if isinstance(error, GateRefused) else 1) from None
    typer.echo(_summary(published))


def _load(path: Path) -> Any:
    import joblib  # noqa: PLC0415

    if not path.is_file():
        raise Failure(f"{path} does not exist")
    try:
        return joblib.load(path)
    except Exception as error:  # a pickle may fail with anything
        reason = " ".join(str(error).split())[:300]
        raise Failure(f"{path} is not a pipeline that joblib can load: {type(error).__name__}: {reason}") from None


def _read(path: Path) -> "pd.DataFrame":
    import pandas as pd  # noqa: PLC0415

    if not path.is_file():
        raise Failure(f"{path} does not exist")
    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        if path.suffix == ".csv":
            # otherwise a column's type is guessed anew in every part of the file
            frame = pd.read_csv(path, low_memory=False)
            if isinstance(frame.index, pd.RangeIndex):
                return frame
            # what pandas made row labels of are the first columns, and every name stands over another's values
            raise Failure(f"{path}: rows have more values than the {len(frame.columns)} names in the first line")
    except (ValueError, OSError, ImportError) as error:
        raise Failure(f"{path} cannot be read: {' '.join(str(error).split())[:300]}") from None
    raise Failure(f"{path} is neither .csv nor .parquet")


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """Called with a stage, how many are done and how many there are: a bar in a terminal, elsewhere a line a stage."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda stage, done, total: typer.echo(f"{stage} ({done}/{total})" if total else stage, err=True)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda stage, done, total: bar.update(task, description=stage, completed=done, total=total or None)


def _summary(published: "Published") -> str:
    metrics = ", ".join(f"{name} {value:.4f}" for name, value in published.metrics.items())
    lines = [
        f"published {published.uri}" + (f" as {published.name}@{published.alias}" if published.alias else ""),
        f"quality   {metrics}" + (" (optimistic: training rows)" if published.optimistic else ""),
        f"parity    {published.parity.max_abs_difference:.2g} on {published.parity.rows} rows",
        f"sha256    {published.onnx_sha256}",
    ]
    return "\n".join(lines)
