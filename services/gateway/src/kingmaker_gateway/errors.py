"""What can go wrong between the gateway and a model server.

What goes wrong between a client and the gateway is a `Problem` of the contracts; these never leave
the process: the router turns them into a fallback, or into a `Problem`.
"""


class GatewayError(Exception):
    """The family."""


class UpstreamError(GatewayError):
    """A model server gave no usable answer. The text is for logs, it may name addresses."""


class UpstreamTimeout(UpstreamError):
    """The time for this attempt ran out."""


class UpstreamUnreachable(UpstreamError):
    """No connection could be made to any endpoint."""


class ConnectionLost(UpstreamError):
    """The connection ended before the answer did. untouched: not one byte of the answer had come."""

    def __init__(self, message: str, untouched: bool) -> None:
        super().__init__(message)
        self.untouched = untouched


class UpstreamRefused(UpstreamError):
    """An answer with a status other than 200."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the model server answered {status}")
        self.status = status


class UpstreamGarbage(UpstreamError):
    """An answer that is not HTTP, not OIP V2, or not about the rows that were sent."""
