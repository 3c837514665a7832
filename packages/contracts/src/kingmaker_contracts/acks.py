"""What a gateway says of itself: the routing it applied, and the accounts of its event streams."""

from typing import Literal

import msgspec


class EventAccount(msgspec.Struct, frozen=True):
    """Rows of one stream over one gateway life: stored = sent - dropped - lost.

    sent: offered by the request path; dropped: given up before Redis took them;
    last_seq: number of the last entry written (0: none yet); written: rows of the entries up to it, which is
    what a reader of the whole stream should have; None from a gateway that does not say.
    """

    sent: int
    dropped: int
    last_seq: int
    written: int | None = None


class GatewayAck(msgspec.Struct, frozen=True):
    """Value of `km:gateways:{id}`. accounts and revisions are by `namespace/name`.

    producer: the id events carry, new in every life of the process; partition: the k it writes to; ended: these are
    the last words of a life, and nothing of it will be written any more. namespace: the one it serves, for several may
    share a Redis; None from a gateway that does not say.
    """

    producer: str
    partition: int
    started_at: str
    updated_at: str
    revisions: dict[str, int]
    epochs: dict[str, int]
    accounts: dict[str, EventAccount]
    ended: bool = False
    namespace: str | None = None
    v: Literal[1] = 1
