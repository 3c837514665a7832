"""`kingmaker drift` prints what the monitor found, worst first, and never calls missing data stable."""

import http.server
import io
import threading
from collections.abc import Iterator

import msgspec
import pytest
from rich.console import Console
from typer.testing import CliRunner

from kingmaker.cli import app
from kingmaker.cli.drift import tables
from kingmaker.cli.failures import Failure
from kingmaker_contracts.report import Against, ModelReport
from tests.contracts import samples


def printed(found: ModelReport, against: Against | None = None) -> str:
    out = io.StringIO()
    console = Console(file=out, width=140)
    for part in tables(found, "1h", against):
        console.print(part)
    return out.getvalue()


def test_a_table_names_verdicts_numbers_and_what_was_lost() -> None:
    text = printed(samples.REPORT)
    lines = [line.split() for line in text.splitlines() if line]
    assert "lr against training, 1h, 403 rows: warning, 0 of 1 columns drifted, headline 0.280" in text
    assert lines[1][:4] == ["COLUMN", "VERDICT", "ROWS", "PSI"]
    assert lines[2][:4] == ["(prediction)", "insufficient", "data", "3"]
    assert "distance" in text
    assert "warning (this hour DRIFTED)" in text
    assert "400 of 403 counted, 3 dropped, 0 lost" in text
    assert "set aside as monitor.db.damaged-1" in text


def test_the_worst_column_stands_first_and_names_are_no_markup() -> None:
    table = samples.DRIFT
    calm = msgspec.structs.replace(samples.COLUMN, verdict="Stable", now="Stable", psi_corrected=0.9)
    columns = {"a": calm, "[red]b[/red]": samples.COLUMN}
    window = msgspec.structs.replace(
        samples.REPORT.windows["lr"]["1h"], drift={"training": msgspec.structs.replace(table, columns=columns)}
    )
    text = printed(msgspec.structs.replace(samples.REPORT, windows={"lr": {"1h": window}}))
    assert text.index("[red]b[/red]") < text.index("\na ")


def test_a_share_of_new_categories_that_nobody_knows_is_no_zero() -> None:
    column = msgspec.structs.replace(samples.COLUMN, out_of_range=None, classes_moved=0)
    table = msgspec.structs.replace(samples.DRIFT, columns={"carrier": column})
    window = msgspec.structs.replace(samples.REPORT.windows["lr"]["1h"], drift={"training": table})
    found = msgspec.structs.replace(samples.REPORT, windows={"lr": {"1h": window}})
    assert "not known" in printed(found)
    known = msgspec.structs.replace(table, columns={"carrier": msgspec.structs.replace(column, new=0.125)})
    window = msgspec.structs.replace(window, drift={"training": known})
    text = printed(msgspec.structs.replace(found, windows={"lr": {"1h": window}}))
    assert "12.5 %" in text
    assert "not known" not in text


def test_a_champion_has_nothing_to_be_held_against_but_training() -> None:
    assert "nothing to hold them against: it is the champion" in printed(samples.REPORT, against="champion")


@pytest.fixture
def monitor() -> Iterator[str]:
    body = msgspec.json.encode(samples.REPORT)

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            is_known = self.path == "/api/models/flights"
            self.send_response(200 if is_known else 404)
            self.end_headers()
            self.wfile.write(
                body if is_known else b'{"error": "model \'x\' is not followed", "code": "model_not_found"}'
            )

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_command_asks_a_monitor(monitor: str) -> None:
    done = CliRunner().invoke(app, ["drift", "flights", "--monitor", monitor, "--window", "1h"])
    assert done.exit_code == 0, done.output
    assert "lr against training" in done.output
    told = CliRunner().invoke(app, ["drift", "flights", "--monitor", monitor, "-o", "json"])
    assert msgspec.json.decode(told.output, type=ModelReport) == samples.REPORT


@pytest.mark.parametrize("env", [{"COLUMNS": "80"}, {"COLUMNS": "80", "FORCE_COLOR": "1", "TERM": "xterm"}])
def test_no_number_is_cut_for_a_narrow_terminal_or_a_pipe(monitor: str, env: dict[str, str]) -> None:
    """A line that is too long is the terminal's to wrap, as with kubectl: half a number is another number."""
    done = CliRunner().invoke(app, ["drift", "flights", "--monitor", monitor, "--window", "1h"], env=env)
    assert "…" not in done.output
    assert all(heading in done.output for heading in ("ROWS", "CORRECTED", "WASSERSTEIN", "OUTSIDE"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["flights", "--window", "2h"], "--window is '2h', expected 1h, 24h or rollout"),
        (["flights", "--against", "me"], "--against is 'me', expected training or champion"),
        (["flights", "--variant", "nn"], "flights has no variant 'nn'; it has lr"),
        (["nobody"], "model 'x' is not followed"),
    ],
)
def test_a_wrong_question_gets_one_clear_line(monitor: str, arguments: list[str], said: str) -> None:
    done = CliRunner().invoke(app, ["drift", *arguments, "--monitor", monitor])
    assert isinstance(done.exception, Failure)
    assert str(done.exception) == said
