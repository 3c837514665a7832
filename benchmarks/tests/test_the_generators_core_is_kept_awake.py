"""The kernel's switch is turned for as long as something is measured, and back again whatever happens."""

from pathlib import Path

import pytest

from benchmarks import wakefulness


@pytest.fixture
def switch(tmp_path: Path) -> Path:
    (tmp_path / "cpu1").write_text("0\n")
    return tmp_path / "cpu{core}"


def told(switch: Path) -> str:
    return Path(str(switch).format(core=1)).read_text()


def test_a_core_is_kept_awake_and_may_sleep_for_a_while(switch: Path) -> None:
    with wakefulness.of(1, wakefulness.AWAKE, file=str(switch)) as is_awake:
        assert (is_awake, told(switch)) == (True, "n/a")
        with wakefulness.of(1, wakefulness.ANY, file=str(switch)) as may_sleep:
            assert (may_sleep, told(switch)) == (True, "0")
        assert told(switch) == "n/a"
    assert told(switch) == "0\n"


def test_an_interrupted_measurement_turns_it_back(switch: Path) -> None:
    with pytest.raises(KeyboardInterrupt), wakefulness.of(1, wakefulness.AWAKE, file=str(switch)):
        raise KeyboardInterrupt
    assert told(switch) == "0\n"


def test_a_kernel_without_the_switch_is_told_of(tmp_path: Path) -> None:
    with wakefulness.of(1, wakefulness.AWAKE, file=str(tmp_path / "cpu{core}")) as is_awake:
        assert not is_awake
