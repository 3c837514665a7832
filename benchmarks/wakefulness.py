"""Whether a core may sleep while it waits, by the kernel's own switch.

A load generator that has asked one thing waits for the answer, and its core goes to sleep. On a virtual machine the
hypervisor has to be called to wake it: by the core that sends the answer, which loses that time, and before the
generator runs again. That is the machine's time and not a server's; of a fast server's request it is a third, of a slow
one's a tenth.

Source of the switch: the kernel's Documentation/ABI/testing/sysfs-devices-power, pm_qos_resume_latency_us.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

AWAKE: Final = "n/a"
"""No time to wake up is acceptable: the core polls while it waits."""
ANY: Final = "0"
"""It may sleep as deeply as it likes: the kernel's default."""
_CPU: Final = Path("/sys/devices/system/cpu")


@contextlib.contextmanager
def of(core: int, wanted: str, *, after: str | None = None, cpus: Path = _CPU) -> Iterator[bool]:
    """Have AWAKE or ANY for a while, and then `after`: what was before, if None. Tells whether it could be had: that
    takes root, and a kernel whose idle cores can poll."""
    switch = cpus / f"cpu{core}" / "power" / "pm_qos_resume_latency_us"
    try:
        can_poll = (cpus / f"cpu{core}" / "cpuidle" / "state0" / "name").read_text().strip() == "POLL"
        before = switch.read_text().strip()
        if can_poll:
            switch.write_text(before)  # whether we may
    except OSError:
        can_poll = False
    if not can_poll:
        yield False
        return
    try:
        switch.write_text(wanted)
        yield True
    finally:
        switch.write_text(before if after is None else after)
