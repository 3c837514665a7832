"""Predictions without ASGI: the protocol hands whole requests to the same router every other way in uses."""

import logging
import re
from collections.abc import Callable
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
from kingmaker_gateway.protocols import Language
from kingmaker_gateway.router import Router
from kingmaker_gateway.wishes import VARIANT_HEADER, Wish
from kingmaker_servicekit.fast_call import Call, FastRoute, Handler, Head
from kingmaker_servicekit.fast_heads import Heads
from kingmaker_servicekit.fast_http import protocol_class
from kingmaker_servicekit.rounds import Rounds

logger = logging.getLogger(__name__)

_V2: Final = re.compile(r"/v2/models/(?P<model>[^/]+)(?:/versions/(?P<variant>[^/]+))?/infer")
_V1: Final = re.compile(r"/v1/models/(?P<model>[^/]+):predict")
_OURS: Final = frozenset((BINARY_HEADER.encode(), TIMEOUT_HEADER.encode(), VARIANT_HEADER.encode()))
_BINARY: Final = codec.BINARY.encode()
_MOST_PATHS: Final = 1024
_LONGEST_PATH: Final = 1024
_MOST_WISHES: Final = 256
"""Of each path."""
_LONGEST_WISH: Final = 256
"""Characters of the headers that make it: clients write them, and a head may be 64 KiB long."""


class _Alike:
    """Requests of a round that ask the same of a model, but for their rows and their callers' own keys."""

    __slots__ = ("_add", "calls", "name", "wish")

    def __init__(self, name: str, wish: Wish, add: Callable[["_Alike"], None]) -> None:
        """add: to the round."""
        self.name = name
        self.wish = wish
        self.calls: list[Call] = []
        self._add = add

    def take(self, call: Call) -> None:
        calls = self.calls
        if not calls:
            self._add(self)
        calls.append(call)


class HotPath:
    """Which requests are predictions, and what to do with one. Paths and heads seen are remembered, a bounded number,
    until routing changes."""

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
        self._rounds: Rounds[_Alike] = Rounds(self._serve, _is_one_request)
        self._heads = Heads()
        models.watch(self._forget)

    def protocol(self) -> type[Any]:
        """For Listener(http=...)."""
        return protocol_class(self.route, self.refuse, self._body_read_s, self._last_call_s, self._heads)

    def route(self, method: bytes, path: bytes) -> FastRoute | None:
        if method != b"POST":
            return None
        try:
            return self._routes[path]
        except KeyError:
            pass
        route = self._made(path)
        if len(path) <= _LONGEST_PATH:
            if len(self._routes) >= _MOST_PATHS:
                self._routes.clear()
            self._routes[path] = route
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
        language: Language = protocols.v2
        if match is None:
            match, language = _V1.fullmatch(text), protocols.v1
        if match is None:
            return None
        groups = match.groupdict()
        name = groups["model"]
        alike_of = self._groups(name, groups.get("variant"), language)
        guarded, limit = self._guarded, _limits(self._models.get(name)).max_body_bytes
        return FastRoute(
            guarded(lambda call: alike_of(call.head).take(call)), limit, lambda head: guarded(alike_of(head).take)
        )

    def _groups(self, name: str, variant: str | None, language: Language) -> Callable[[Head], _Alike]:
        """Tells with whom a request travels, by its head."""
        known: dict[tuple[tuple[str, str], ...], _Alike] = {}

        def alike_of(head: Head) -> _Alike:
            headers = _headers(head)
            key = tuple(headers.items())
            alike = known.get(key)
            if alike is None:
                alike = _Alike(name, Wish(variant, headers, language), self._rounds.add)
                if sum(map(len, headers.values())) <= _LONGEST_WISH:
                    if len(known) >= _MOST_WISHES:
                        known.clear()
                    known[key] = alike
            return alike

        return alike_of

    def _guarded(self, handler: Handler) -> Handler:
        """A token is looked up for each request, for it may have been taken back since the last."""
        router, guard = self._router, self._guard
        if guard is None:
            return handler

        def handle_known(call: Call) -> None:
            try:
                guard.check(call.header(b"authorization"))
            except Problem as problem:
                answer = router.refuse(problem)
                call.answer(answer.status, answer.headers, answer.body)
                return
            handler(call)

        return handle_known

    def _serve(self, round: list[_Alike]) -> None:
        is_all = len(round) == 1
        for alike in round:
            calls, alike.calls = alike.calls, []
            try:
                self._router.answer(alike.name, alike.wish, calls, is_all)
            except Exception:  # a mistake with these must cost neither the others of the round nor those to come
                logger.exception("requests of a round could not be served", extra={"model": alike.name})
        if not is_all:
            self._router.flush()

    def _forget(self) -> None:
        """Limits may have changed, and which headers count."""
        self._routes.clear()
        self._heads.clear()

    def _model_of(self, path: bytes) -> LiveModel | None:
        text = unquote(path.decode("ascii", "replace"))
        match = _V2.fullmatch(text) or _V1.fullmatch(text)
        return None if match is None else self._models.get(match["model"])


def _is_one_request(round: list[_Alike]) -> bool:
    return len(round) == 1 and len(round[0].calls) == 1


def _headers(head: Head) -> dict[str, str]:
    """Those that say how a request is to be served, by lower-case name; of a repeated one the first."""
    found: dict[str, str] = {}
    for name, value in head.headers:
        if name in _OURS or (name == b"content-type" and value.startswith(_BINARY)):
            found.setdefault(name.decode("latin-1"), value.decode("latin-1"))
    return found


def _limits(model: LiveModel | None) -> Limits:
    return Limits() if model is None else model.state.record.limits
