"""Where the monitor is wired: one state file, two Redis clients, one thread that counts, two loops, one port."""

import asyncio
import logging
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from kingmaker_monitor import api, metrics
from kingmaker_monitor.errors import MonitorError
from kingmaker_monitor.evaluate import Evaluator
from kingmaker_monitor.ingest.discovery import Discovery
from kingmaker_monitor.ingest.ownership import Leases
from kingmaker_monitor.ingest.reader import REDIS_ERRORS, Reader
from kingmaker_monitor.ingest.rounds import Book
from kingmaker_monitor.profiles import Profiles
from kingmaker_monitor.settings import Settings
from kingmaker_monitor.snapshot import Board
from kingmaker_monitor.store import Store
from kingmaker_servicekit import metrics_endpoint, redis_client
from kingmaker_servicekit.serving import Listener, serve

logger = logging.getLogger(__name__)


async def run(settings: Settings, sock: socket.socket, store: Store) -> None:
    """Serve on a bound socket until SIGTERM. Raises MonitorError when reading ended by itself."""
    loop = asyncio.get_running_loop()
    # one thread: SQLite and the counts have one owner, and the event loop keeps answering
    executor = ThreadPoolExecutor(1, "counting")
    short, blocking = redis_client.connect(settings.redis), redis_client.connect_blocking(settings.redis)
    book = await loop.run_in_executor(executor, Book, store, Profiles(loop.time), settings.closed_lives)
    board = Board()
    leases = Leases(short, store.id, seconds=settings.lease_seconds, shard=settings.shard, shards=settings.shards)
    reader = Reader(
        book, Discovery(short, settings.namespace), leases, blocking, executor=executor, partitions=settings.partitions
    )
    evaluator = Evaluator(
        book,
        reader,
        leases,
        executor=executor,
        board=board,
        every_s=settings.evaluate_seconds,
        drift_s=settings.drift_seconds,
    )
    registry = metrics_endpoint.new_registry()
    metrics.register(registry, lambda: board.snapshot)
    endpoint = metrics_endpoint.build(registry, lambda: board.snapshot.evaluated_at > 0)
    listener = Listener("api", api.build(board, endpoint), sock)
    serving = asyncio.create_task(serve([listener], settings.drain_seconds), name="serve")
    working = [asyncio.create_task(reader.run(), name="read"), asyncio.create_task(evaluator.run(), name="evaluate")]
    try:
        await asyncio.wait([serving, *working], return_when=asyncio.FIRST_COMPLETED)
        ended = next((task for task in working if task.done()), None)
        if ended is not None:
            logger.critical("stopping", extra={"task": ended.get_name(), "error": repr(ended.exception())})
            raise MonitorError(f"the {ended.get_name()} loop ended: {ended.exception()!r}")
        await serving
    finally:
        await end(*working, serving)
        # a round in the thread is finished, not cut: it commits or rolls back as a whole
        executor.shutdown(wait=True)
        with suppress(*REDIS_ERRORS):
            await leases.release()
        await short.aclose()
        await blocking.aclose()


async def end(*tasks: asyncio.Task[None]) -> None:
    """Cancel until all have ended, whatever with: wait_for of Python 3.11, which redis-py sends with, swallows a
    cancellation that comes just after what it waits for."""
    left: set[asyncio.Task[None]] = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=0.2)
    await asyncio.gather(*tasks, return_exceptions=True)  # so that none is said to be never retrieved
