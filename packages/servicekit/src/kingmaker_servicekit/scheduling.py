"""How the system shares a core between this process and others."""

import os
from typing import Literal

Scheduling = Literal["normal", "batch"]


def apply(scheduling: Scheduling) -> None:
    """For this process and the threads it starts from now on.

    batch: becoming runnable, it does not interrupt who is running (sched(7), SCHED_BATCH; no privilege is needed).
    Where a gateway and model servers share a core, each of them finishes the round it is in, and more requests travel
    together. Where others keep the core busy for long, it waits for its turn like them.

    Raises ValueError where the system does not do that.
    """
    if scheduling == "normal":
        return
    try:
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    except (AttributeError, OSError) as error:  # AttributeError: not Linux
        raise ValueError(f"SCHEDULING is batch, which this system refuses ({error}); expected normal") from None
