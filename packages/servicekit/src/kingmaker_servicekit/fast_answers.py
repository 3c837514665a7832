"""Answers that go out together: what is the same for all of them is looked up once, and each costs a write.

Most answers are alike but for their bodies: the same status, the same constant headers, to clients who wait for nothing
else. Whatever is not so is answered by `Call.answer`, which is also the cheaper way for a call alone.
"""

from collections.abc import Sequence
from time import perf_counter
from typing import Final

from kingmaker_servicekit.fast_call import Call, Headers

_END: Final = b"\r\n\r\n"


def answer_all(
    calls: Sequence[Call],
    status: int,
    headers: Headers,
    bodies: Sequence[bytes],
    *,
    name: bytes,
    values: Sequence[bytes],
) -> list[tuple[Call, Exception]]:
    """Answer each call with its body and a header of its own, as `call.answer(status, headers, body, own)` would.

    name, values: of that header; sent as they are, so nothing that came from a client belongs there.
    Returns those that could not be answered, with what Call.answer raised; they cost their neighbours nothing.
    """
    failed: list[tuple[Call, Exception]] = []
    if not calls:
        return failed
    first = calls[0].connection
    server = first.server_state
    leads = first.wording.leads(server.default_headers, status, headers, name)
    now, join = perf_counter(), b"".join
    apart = 0
    for call, body, value in zip(calls, bodies, values, strict=True):
        connection = call.connection
        transport = connection.transport
        try:
            if (
                leads is None
                or connection.doing is not call
                or connection.server_state is not server
                or transport.is_closing()
            ):
                call.answer(status, headers, body, b"%b: %b\r\n" % (name, value))
                apart += 1
                continue
            # TakingTurns.send_answer, written out
            call.response_complete = True
            connection.doing = None
            connection.idle_since = now
            transport.write(join((leads[len(body)], value, _END, body)))
        except Exception as error:
            failed.append((call, error))
    server.total_requests += len(calls) - apart - len(failed)
    return failed
