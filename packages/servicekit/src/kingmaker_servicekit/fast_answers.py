"""Answers that go out together: what is the same for all of them is looked up once, and each costs a write.

Most answers are alike but for their bodies: the same status, the same constant headers, to clients who wait for nothing
else. Whatever is not so is answered by `Call.answer`.
"""

from collections.abc import Sequence
from time import perf_counter

from kingmaker_servicekit.fast_call import USUAL, Call, Headers


def answer_all(
    calls: Sequence[Call], status: int, headers: Headers, bodies: Sequence[bytes], owns: Sequence[bytes]
) -> list[tuple[Call, Exception]]:
    """Answer each call with its body and its own header lines, as `Call.answer` would. Returns those that could not be
    answered, with what Call.answer raised; they cost their neighbours nothing."""
    failed: list[tuple[Call, Exception]] = []
    if not calls:
        return failed
    first = calls[0].connection
    server = first.server_state
    head = first.wording.find(server.default_headers, status, headers)
    now = perf_counter()
    apart = 0
    for call, body, own in zip(calls, bodies, owns, strict=True):
        connection = call.connection
        transport = connection.transport
        try:
            if (
                connection.doing is not call
                or connection.server_state is not server
                or head is None
                or transport.is_closing()
            ):
                call.answer(status, headers, body, own)
                apart += 1
                continue
            # TakingTurns.send_answer, written out
            call.response_complete = True
            connection.doing = None
            connection.idle_since = now
            transport.write(USUAL % (head, len(body), own, body))
        except Exception as error:
            failed.append((call, error))
    server.total_requests += len(calls) - apart - len(failed)
    return failed
