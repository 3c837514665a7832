"""Numbers of this machine that one test process may use at a time: blocks of ports, networks of loopback addresses.

A port or an address is free for everybody from the look at it until its server has it, and test processes do run
beside each other: the workers of one run, or two runs. So a process claims numbers by name first. The claim is an
abstract socket: nobody else can bind the name, and the kernel takes it back however the process ends.
"""

import contextlib
import random
import socket
from collections.abc import Sequence

_DICE = random.SystemRandom()  # tests seed the other one


def claim(what: str, numbers: Sequence[int]) -> int:
    """One of the numbers that no process has claimed; it stays this one's to its end."""
    name = socket.socket(socket.AF_UNIX)
    for number in _DICE.sample(numbers, len(numbers)):
        with contextlib.suppress(OSError):
            name.bind(f"\0kingmaker-tests/{what}/{number}")
            name.detach()
            return number
    raise RuntimeError(f"test processes of this machine hold every number of {what} there is")
