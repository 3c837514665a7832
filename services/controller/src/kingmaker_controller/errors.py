"""What can stop the controller, or one thing it does. Exit codes are what scripts see."""


class ControllerError(Exception):
    """Base of the family; exit_code is the process's when it ends the controller."""

    exit_code = 1


class BadSettings(ControllerError):
    """The environment does not make a controller; the text says which setting and why."""

    exit_code = 2


class LeaseHeld(ControllerError):
    """Another controller works on this state; the text names it."""

    exit_code = 4


class LeaderLost(ControllerError):
    """Somebody else took the lease while this controller was running."""

    exit_code = 4


class StatusOutdated(ControllerError):
    """Somebody else wrote the status since it was read; it has to be read again."""


class LeaseUnavailable(ControllerError):
    """Whoever keeps the lease did not answer; nothing is known of it."""


class FetchFailed(ControllerError):
    """A model version could not be fetched. reason: one CamelCase word of the fetch step, or ours."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class KubernetesError(ControllerError):
    """The API server refused. status: HTTP's; reason: one CamelCase word, as Conflict or Expired."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{message} ({reason or status})")
        self.status = status
        self.reason = reason
        self.message = message


class KubernetesUnavailable(KubernetesError):
    """The API server did not answer, or broke off."""

    def __init__(self, message: str) -> None:
        super().__init__(0, "Unavailable", message)


class StoreUnavailable(ControllerError):
    """Redis did not answer in time."""
