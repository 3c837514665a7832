"""Above maxmemory Redis refuses every write that may need room, and so the very writes that would trim its streams."""

import re
import shlex
from typing import Any

import pytest
from redis.exceptions import OutOfMemoryError

from conftest import Valkey
from kingmaker_contracts import keys
from tests.monitoring.watched import RUNBOOKS

EVENTS = keys.events("shop", "flights", 0)


def write(client: Any, entries: int, times: int = 1) -> None:
    """As a gateway does, with a bound on the stream's length."""
    for _ in range(times):
        client.xadd(EVENTS, {keys.ENTRY_FIELD: b"x" * 100_000}, maxlen=entries, approximate=True)


def test_a_full_redis_takes_events_again(own_valkey: Valkey) -> None:
    client = own_valkey.client
    client.config_set("maxmemory", "8mb")
    client.config_set("maxmemory-policy", "noeviction")
    with pytest.raises(OutOfMemoryError) as refused:
        write(client, 10_000, times=200)
    with pytest.raises(OutOfMemoryError):
        write(client, 10)  # lowering what a gateway keeps does not help by itself

    for name in ("KingmakerRedisAway", "KingmakerEventsDropped"):
        [words] = re.findall(r"`(\S*\s?command not allowed[^`]*)`", (RUNBOOKS / f"{name}.md").read_text())
        assert words in str(refused.value), f"{name} names other words than the log has, which are {refused.value}"
    text = (RUNBOOKS / "KingmakerRedisAway.md").read_text()
    [command] = re.findall(r"^redis-cli (XTRIM .+)$", text, re.MULTILINE)
    command = command.replace("$NS", "shop").replace("$MODEL", "flights")
    client.execute_command(*shlex.split(re.sub(r"MAXLEN \d+", "MAXLEN 10", command)))
    write(client, 10)
    assert client.xlen(EVENTS) >= 10
