"""What can stop a monitor. Each carries the exit code that `__main__` ends with."""


class MonitorError(Exception):
    """The monitor cannot run; the text says why and what to do."""

    exit_code = 1


class StateLocked(MonitorError):
    """Another monitor has the state file open."""

    exit_code = 4


class StateUnusable(MonitorError):
    """The state file cannot be created, opened or written."""

    exit_code = 3


class Superseded(Exception):
    """Another monitor counts this model now: what was read is not written. Nothing stops."""
