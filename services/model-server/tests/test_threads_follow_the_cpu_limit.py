"""The thread count comes from what the cgroup allows."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kingmaker_model_server import threads


@pytest.mark.parametrize(
    ("text", "cores"),
    [
        ("200000 100000\n", 2.0),
        ("150000 100000", 1.5),
        ("50000 100000", 0.5),
        ("max 100000", None),
        ("", None),
        ("x y", None),
        ("1 0", None),
    ],
)
def test_cpu_max_of_cgroup_v2_is_read(text: str, cores: float | None) -> None:
    assert threads.from_cpu_max(text) == cores


@pytest.mark.parametrize(
    ("quota", "period", "cores"),
    [("400000\n", "100000\n", 4.0), ("-1", "100000", None), ("", "", None), ("0", "100000", None)],
)
def test_the_quota_of_cgroup_v1_is_read(quota: str, period: str, cores: float | None) -> None:
    assert threads.from_quota(quota, period) == cores


@given(st.lists(st.one_of(st.none(), st.floats(0.01, 512)), max_size=5), st.integers(1, 256))
def test_threads_are_at_least_one_and_never_more_than_any_limit_of_one_core_or_more(
    limits: list[float | None], affinity: int
) -> None:
    count = threads.allowed(limits, affinity)
    assert 1 <= count <= affinity
    assert all(limit is None or count <= max(1, limit) for limit in limits)


def test_the_own_cgroup_and_those_above_it_count(tmp_path: Path) -> None:
    root, proc = tmp_path / "cgroup", tmp_path / "self"
    (root / "pods" / "pod").mkdir(parents=True)
    proc.write_text("0::/pods/pod\n")
    assert threads.count(root, proc) >= 1
    (root / "pods" / "pod" / "cpu.max").write_text("max 100000")
    (root / "pods" / "cpu.max").write_text("100000 100000")
    assert threads.count(root, proc) == 1


def test_cgroup_v1_is_found_in_its_own_hierarchy(tmp_path: Path) -> None:
    root, proc = tmp_path / "cgroup", tmp_path / "self"
    (root / "cpu,cpuacct" / "pod").mkdir(parents=True)
    proc.write_text("9:memory:/other\n4:cpu,cpuacct:/pod\n0::/\n")
    (root / "cpu,cpuacct" / "pod" / "cpu.cfs_quota_us").write_text("100000")
    (root / "cpu,cpuacct" / "pod" / "cpu.cfs_period_us").write_text("100000")
    assert threads.count(root, proc) == 1


def test_in_a_container_the_limit_stands_at_the_root(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("100000 100000")
    (tmp_path / "self").write_text("0::/../outside\n")
    assert threads.count(tmp_path, tmp_path / "self") == 1
