"""Predictions without ASGI: the protocol hands whole requests to the same router every other way in uses."""

import re
from collections.abc import Callable
from time import perf_counter
from typing import Any, Final
from urllib.parse import unquote

from kingmaker_contracts.deadlines import TIMEOUT_HEADER
from kingmaker_contracts.inference import BINARY_HEADER
from kingmaker_contracts.problems import Code, Problem
from kingmaker_contracts.routing import Limits
from kingmaker_gateway import codec, protocols
from kingmaker_gateway.answers import too_large, unread_in_time
from kingmaker_gateway.guard import Guard
from kingmaker_gateway.models import LiveModel, Models
from kingmaker_gateway.protocols import Reader
from kingmaker_gateway.router import Arrival, Router
from kingmaker_gateway.wishes import VARIANT_HEADER
from kingmaker_servicekit.fast_http import Call, FastRoute, protocol_class
from kingmaker_servicekit.rounds import Rounds

_V2: Final = re.compile(r"/v2/models/(?P<model>[^/]+)(?:/versions/(?P<variant>[^/]+))?/infer")
_V1: Final = re.compile(r"/v1/models/(?P<model>[^/]+):predict")
_OURS: Final = frozenset((BINARY_HEADER.encode(), TIMEOUT_HEADER.encode(), VARIANT_HEADER.encode()))
_BINARY: Final = codec.BINARY.encode()
_MOST_PATHS: Final = 1024
_NO_HEADERS: Final[dict[str, str]] = {}

_Whole = tuple[Call, str, str | None, Reader, float]
"""A request whose body is here, the model and the variant in its path, how to read it, and when it was whole."""


class HotPath:
    """Which requests are predictions, and what to do with one. Paths seen are remembered, a bounded number, until
    routing changes."""

    def __init__(
        self, router: Router, models: Models, body_read_s: float, guard: Guard | None = None, last_call_s: float = 0
    ) -> None:
        """guard: of predictions. last_call_s: how long idle connections outlive the order to stop."""
        self._router = router
        self._guard = guard
        self._models = models
        self._body_read_s = body_read_s
        self._last_call_s = last_call_s
        self._routes: dict[bytes, FastRoute | None] = {}
        self._routing = models.routing
        self._rounds: Rounds[_Whole] = Rounds(self._serve)

    def protocol(self) -> type[Any]:
        """For Listener(http=...)."""
        return protocol_class(self.route, self.refuse, self._body_read_s, self._last_call_s)

    def route(self, method: bytes, path: bytes) -> FastRoute | None:
        if method != b"POST":
            return None
        if self._routing is self._models.routing:
            try:
                return self._routes[path]
            except KeyError:
                pass
        else:  # limits may have changed
            self._routing = self._models.routing
            self._routes.clear()
        if len(self._routes) >= _MOST_PATHS:
            self._routes.clear()
        route = self._routes[path] = self._made(path)
        return route

    def refuse(self, status: int, call: Call | None) -> tuple[list[tuple[bytes, bytes]], bytes]:
        """What the protocol itself says of a request it cannot read to its end."""
        model = None if call is None else self._model_of(call.path)
        if status == 413:
            problem = too_large(_limits(model).max_body_bytes)
        elif status == 408:
            problem = unread_in_time(self._body_read_s)
        elif status >= 500:
            problem = Problem(Code.INTERNAL, "a mistake of the gateway; its log has the details")
        else:
            problem = Problem(Code.BAD_INPUT, "not an HTTP request this server can read")
        answer = self._router.refuse(problem, model)
        return list(answer.headers), answer.body

    def _made(self, path: bytes) -> FastRoute | None:
        text = unquote(path.decode("ascii", "replace"))
        match = _V2.fullmatch(text)
        read: Reader = protocols.v2
        if match is None:
            match, read = _V1.fullmatch(text), protocols.v1
        if match is None:
            return None
        groups = match.groupdict()
        handler = self._handler(groups["model"], groups.get("variant"), read)
        return FastRoute(handler, _limits(self._models.get(groups["model"])).max_body_bytes)

    def _handler(self, name: str, variant: str | None, read: Reader) -> Callable[[Call], None]:
        router = self._router

        add = self._rounds.add

        def handle(call: Call) -> None:
            add((call, name, variant, read, perf_counter()))

        guard = self._guard
        if guard is None:
            return handle

        def handle_known(call: Call) -> None:
            try:
                guard.check(call.header(b"authorization"))
            except Problem as problem:
                answer = router.refuse(problem)
                call.answer(answer.status, answer.headers, answer.body)
                return
            handle(call)

        return handle_known

    def _serve(self, requests: list[_Whole]) -> None:
        arrivals = []
        for call, name, variant, read, started in requests:
            try:
                model = self._router.admit(name)
            except Problem as problem:
                answer = self._router.refuse(problem, self._models.get(name))
                call.answer(answer.status, answer.headers, answer.body)
                continue
            headers = _headers(call, model.state.sticky_header)
            arrivals.append(Arrival(model, variant, headers, call.body, read, call.answer, started))
        self._router.serve(arrivals)

    def _model_of(self, path: bytes) -> LiveModel | None:
        text = unquote(path.decode("ascii", "replace"))
        match = _V2.fullmatch(text) or _V1.fullmatch(text)
        return None if match is None else self._models.get(match["model"])


def _headers(call: Call, sticky: bytes | None) -> dict[str, str]:
    """Those a prediction looks at, by lower-case name; of a repeated one the first."""
    notes = call.notes
    if notes is None:
        return _found(call, sticky)
    known: dict[str, str] | None = notes.get(sticky)
    if known is None:
        known = notes[sticky] = _found(call, sticky)
    return known


def _found(call: Call, sticky: bytes | None) -> dict[str, str]:
    found: dict[str, str] | None = None
    for name, value in call.headers:
        if name in _OURS or name == sticky or (name == b"content-type" and value.startswith(_BINARY)):
            found = found or {}
            found.setdefault(name.decode("latin-1"), value.decode("latin-1"))
    return found or _NO_HEADERS


def _limits(model: LiveModel | None) -> Limits:
    return Limits() if model is None else model.state.record.limits
