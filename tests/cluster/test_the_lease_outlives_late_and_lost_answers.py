"""The controller's Lease against the fake API server and its faults."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kingmaker_controller.errors import LeaderLost, LeaseHeld, LeaseUnavailable
from kingmaker_controller.kube.lease import DURATION_S, PACE, KubernetesLease
from kingmaker_controller.leader import Leader
from tests.cluster.copies import NOW, Cluster, running, until

pytestmark = pytest.mark.fake_only("watches break off, hang and are refused when the test says so")


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with running(tmp_path) as made:
        yield made


async def test_the_lease_is_taken_renewed_taken_over_and_given_back(cluster: Cluster) -> None:
    clock = [100.0]

    def lease() -> KubernetesLease:
        return KubernetesLease(cluster.client, "default", "kingmaker", lambda: clock[0])

    first = Leader(lease(), "one", PACE, lambda: clock[0])
    second = Leader(second_store := lease(), "two", PACE, lambda: clock[0])
    assert await first.acquire([4], NOW) == 5
    with pytest.raises(LeaseHeld, match="one"):
        await second.acquire([], NOW)
    clock[0] += PACE.renew_s
    await first.hold(NOW.replace(minute=1))
    clock[0] += DURATION_S - 1.0
    with pytest.raises(LeaseHeld):
        await second.acquire([], NOW)  # its renewal was seen only now
    clock[0] += DURATION_S
    assert await second.acquire([], NOW) == 6, "nobody renewed it for as long as a lease lasts"
    with pytest.raises(LeaderLost):
        await first.hold(NOW)
    await first.release()
    stored = await second_store.read_lease()
    assert stored is not None and stored.holder == "two", "who lost it gives nothing back"
    await second.release()
    assert await Leader(lease(), "three", PACE, lambda: clock[0]).acquire([], NOW) == 7, "no wait after a release"


async def test_leadership_survives_a_lost_answer_and_ends_when_nobody_answers(cluster: Cluster) -> None:
    clock = [0.0]
    store = KubernetesLease(cluster.client, "default", "kingmaker", lambda: clock[0])
    leader = Leader(store, "one", PACE, lambda: clock[0])
    await leader.acquire([], NOW)
    cluster.server.faults.trouble(verb="PUT", path="leases", times=1, how="drop after")
    clock[0] += 2.0
    await leader.hold(NOW.replace(minute=1))
    clock[0] += 2.0
    await leader.hold(NOW.replace(minute=2))  # the stored one is our own, though it is not what we last heard of
    assert leader.epoch == 1
    cluster.server.faults.trouble(path="leases", times=1000, code=500)
    clock[0] += 5.0
    await leader.hold(NOW)
    clock[0] += 5.0
    with pytest.raises(LeaderLost, match="could not be renewed"):
        await leader.hold(NOW)


def leader_of(cluster: Cluster, holder: str) -> Leader:
    return Leader(KubernetesLease(cluster.client, "default", "kingmaker"), holder, PACE)


async def test_who_took_the_lease_without_hearing_of_it_does_not_wait_for_itself(cluster: Cluster) -> None:
    for verb in ("POST", "PUT"):
        leader = leader_of(cluster, f"by {verb}")
        cluster.server.faults.trouble(verb=verb, path="leases", how="drop after")
        with pytest.raises((LeaseUnavailable, LeaseHeld)):  # the client sends a PUT again, which then finds its own
            await leader.acquire([], NOW)
        with pytest.raises(LeaseHeld):
            await leader_of(cluster, "another").acquire([], NOW)
        taken = await leader.acquire([], NOW)
        assert taken == leader.epoch
        await leader.release()
    assert taken == 4, "each attempt counted"


async def test_a_lease_whose_renewal_was_broken_off_is_given_back(cluster: Cluster) -> None:
    leader = leader_of(cluster, "one")
    await leader.acquire([], NOW)
    cluster.server.faults.trouble(verb="PUT", path="leases", how="hang after")
    renewing = asyncio.create_task(leader.renew(NOW.replace(minute=1)))
    await until(lambda: cluster.server.faults.seen("PUT", "leases"))
    renewing.cancel()
    await asyncio.gather(renewing, return_exceptions=True)
    cluster.server.faults.clear()
    await leader.release()
    assert await leader_of(cluster, "two").acquire([], NOW) == 2
