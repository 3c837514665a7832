"""What errors of Redis mean."""

from redis.exceptions import OutOfMemoryError, ResponseError


def is_wrong_type(error: BaseException) -> bool:
    """Whether a command, or a script, failed because its key holds something of another kind: a fault of that key,
    which need not stop what is asked of the others."""
    return isinstance(error, ResponseError) and "WRONGTYPE" in str(error)


def is_full(error: BaseException) -> bool:
    """Whether the server takes no writes of anybody, because its memory or its disk is full."""
    return isinstance(error, OutOfMemoryError) or (isinstance(error, ResponseError) and "MISCONF" in str(error))
