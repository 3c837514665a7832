"""The kernel's switch is turned for as long as something is measured, and back again whatever happens."""

from pathlib import Path

import pytest

from benchmarks import wakefulness
from benchmarks.wakefulness import ANY, AWAKE


@pytest.fixture
def cpus(tmp_path: Path) -> Path:
    """What the kernel shows of a machine whose core 1 can poll."""
    for name, text in (("power/pm_qos_resume_latency_us", "0\n"), ("cpuidle/state0/name", "POLL\n")):
        file = tmp_path / "cpu1" / name
        file.parent.mkdir(parents=True)
        file.write_text(text)
    return tmp_path


def told(cpus: Path) -> str:
    return (cpus / "cpu1/power/pm_qos_resume_latency_us").read_text()


def test_a_core_is_kept_awake_and_may_sleep_for_a_while(cpus: Path) -> None:
    with wakefulness.of(1, AWAKE, cpus=cpus) as is_awake:
        assert (is_awake, told(cpus)) == (True, "n/a")
        with wakefulness.of(1, ANY, cpus=cpus) as may_sleep:
            assert (may_sleep, told(cpus)) == (True, "0")
        assert told(cpus) == "n/a"
    assert told(cpus) == "0"


def test_what_an_earlier_run_left_on_is_turned_off(cpus: Path) -> None:
    (cpus / "cpu1/power/pm_qos_resume_latency_us").write_text("n/a\n")
    with wakefulness.of(1, AWAKE, after=ANY, cpus=cpus):
        pass
    assert told(cpus) == "0"


def test_an_interrupted_measurement_turns_it_back(cpus: Path) -> None:
    with pytest.raises(KeyboardInterrupt), wakefulness.of(1, AWAKE, cpus=cpus):
        raise KeyboardInterrupt
    assert told(cpus) == "0"


def test_a_kernel_whose_cores_cannot_poll_is_told_of(cpus: Path) -> None:
    (cpus / "cpu1/cpuidle/state0/name").write_text("haltpoll idle\n")
    with wakefulness.of(1, AWAKE, cpus=cpus) as is_awake:
        assert (is_awake, told(cpus)) == (False, "0\n")


def test_a_kernel_without_the_switch_is_told_of(tmp_path: Path) -> None:
    with wakefulness.of(1, AWAKE, cpus=tmp_path) as is_awake:
        assert not is_awake
