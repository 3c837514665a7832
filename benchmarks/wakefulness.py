"""Whether a core may sleep while it waits, by the kernel's own switch.

A load generator that has asked one thing waits for the answer, and its core goes to sleep. On a virtual machine the
hypervisor has to be called to wake it: that takes some 30 microseconds of the core that sends the answer, and as long
again until the generator runs. Both are the machine's, not a server's, and they are a fifth to a third of what one
request after another takes with fast servers, whichever they are.

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
_FILE: Final = "/sys/devices/system/cpu/cpu{core}/power/pm_qos_resume_latency_us"


@contextlib.contextmanager
def of(core: int, wanted: str, *, file: str = _FILE) -> Iterator[bool]:
    """Have AWAKE or ANY for a while, then what was before. Tells whether it could be had: it takes root, and a kernel
    that offers the switch."""
    switch = Path(file.format(core=core))
    try:
        before = switch.read_text()
        switch.write_text(wanted)
    except OSError:
        yield False
        return
    try:
        yield True
    finally:
        switch.write_text(before)
