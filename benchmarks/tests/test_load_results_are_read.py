"""What wrk prints, and how two of them make one sample."""

import pytest

from benchmarks import load
from benchmarks.load import BadLoad, Counted

LINE = (
    'RESULT {"requests":100,"seconds":2.0,"p50_ms":1.5,"p99_ms":9.0,"not_2xx":1,"socket_errors":2,'
    '"checked":10,"wrong":3,"first_wrong":"503 busy"}'
)


def test_the_result_line_is_found_among_the_rest() -> None:
    told = load.parse(f"Running 2s test\n  12 requests in 2.00s\n\n{LINE}\n")
    assert told == Counted(100, 2.0, 1.5, 9.0, 1, 2, 10, 3, "503 busy")


@pytest.mark.parametrize("output", ["", "unable to connect to 127.0.0.1", f"{LINE}\n{LINE}", "RESULT {", "RESULT {}"])
def test_output_without_one_whole_result_is_an_error(output: str) -> None:
    with pytest.raises(BadLoad):
        load.parse(output)


@pytest.mark.parametrize(("connections", "expected"), [(1, (0, 1)), (2, (1, 1)), (16, (15, 1)), (64, (60, 4))])
def test_every_sixteenth_connection_checks_and_at_least_one(connections: int, expected: tuple[int, int]) -> None:
    assert load.shares(connections) == expected


def test_two_generators_make_one_sample() -> None:
    counting, checking = Counted(900, 1.0, 1.0, 4.0, 0, 1, 0, 0), Counted(100, 1.0, 7.0, 8.0, 2, 0, 100, 5, "200 odd")
    sample = load.joined([checking, counting], {"gateway": 0.01, "valkey": 0.001})
    assert sample.requests_per_s == 1000
    assert (sample.p50_ms, sample.p99_ms) == (1.0, 4.0)  # of the one that carried the load
    assert (sample.checked, sample.wrong, sample.failed, sample.first_wrong) == (100, 5, 3, "200 odd")
    assert sample.cpu_us["gateway"] == pytest.approx(10.0)
    assert sample.total_cpu_us == pytest.approx(11.0)
