"""The stream of one watch: what was there, every change since a revision, bookmarks, and the ways it can fail."""

import contextlib
import json
import select
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.fakes.fake_apiserver import events, tables
from tests.fakes.fake_apiserver.errors import ApiError, bad_request
from tests.fakes.fake_apiserver.kinds import Kind
from tests.fakes.fake_apiserver.store import Object, as_event

_LONGEST_S = 1800


class Dropped(Exception):
    """The connection is to be closed without another word."""


class Watch:
    """One watch. What is wrong with its query is raised here (ApiError), before anything was sent."""

    def __init__(
        self, handler: Any, kind: Kind, namespace: str | None, matches: Callable[[Object], bool], query: dict[str, str]
    ) -> None:
        self._kind, self._matches = kind, matches
        self._store, self._faults, self._stopped = handler.cluster.store, handler.faults, handler.stopped
        self._stream = _Stream(handler, kind, "as=Table" in (handler.headers.get("Accept") or ""))
        lives_s = min(float(query.get("timeoutSeconds") or _LONGEST_S), self._faults.longest_watch_s)
        self._ends = time.monotonic() + lives_s
        self._bookmarks = query.get("allowWatchBookmarks") in ("true", "1")
        self._drops = self._faults.drops
        self._initial: list[Object] = []
        self._starts_whole = query.get("sendInitialEvents") in ("true", "1")
        wanted = query.get("resourceVersion") or "0"
        if not wanted.isdigit():
            raise bad_request(f'resourceVersion: Invalid value: "{wanted}": strconv.ParseUint: invalid syntax')
        with self._store.changed:
            if self._starts_whole or wanted == "0":
                self._initial = [item for item in self._store.all(kind.storage, namespace) if matches(item)]
                self._revision = self._store.revision
            else:
                self._revision = int(wanted)
            if self._revision > self._store.revision:
                text = f"Too large resource version: {wanted}, current: {self._store.revision}"
                raise ApiError(504, "Timeout", text, {"retryAfterSeconds": 1})

    def run(self) -> None:
        """Send until the time is up, the client goes away, or a fault strikes."""
        with contextlib.suppress(Dropped, BrokenPipeError, ConnectionResetError, ValueError):
            self._stream.begin()
            try:
                for item in self._initial:
                    self._stream.send("ADDED", item)
                if self._starts_whole:
                    self._stream.bookmark(self._revision, {"k8s.io/initial-events-end": "true"})
                self._follow()
            except ApiError as error:
                self._stream.error(error)
            self._stream.end()

    def _follow(self) -> None:
        marked = time.monotonic()
        frozen = False
        while (now := time.monotonic()) < self._ends or frozen:
            if self._stopped.is_set() or self._faults.drops != self._drops or self._stream.is_closed_by_client():
                raise Dropped
            # A half-open connection never comes back to life, not even when the network does.
            frozen = frozen or self._faults.half_open
            if frozen:
                time.sleep(0.02)
                continue
            for change in self._store.since(self._revision):
                self._revision = change.revision
                if change.storage == self._kind.storage and (event := as_event(change, self._matches)):
                    self._stream.send(event.type, event.object)
            if self._bookmarks and now - marked >= self._faults.bookmark_every_s:
                self._stream.bookmark(self._revision)
                marked = now
            self._store.wait_beyond(self._revision, min(0.25, max(0.0, self._ends - now)))


class _Stream:
    """The chunks of one watch."""

    def __init__(self, handler: BaseHTTPRequestHandler, kind: Kind, as_table: bool) -> None:
        self._handler, self._kind, self._as_table = handler, kind, as_table
        self._has_columns = False

    def begin(self) -> None:
        # The connection is of no use after a watch: clients differ in whether they take it up again.
        self._handler.close_connection = True
        self._handler.send_response(200)
        self._handler.send_header("Content-Type", "application/json")
        self._handler.send_header("Transfer-Encoding", "chunked")
        self._handler.end_headers()
        self._handler.wfile.flush()

    def is_closed_by_client(self) -> bool:
        return bool(select.select([self._handler.connection], [], [], 0)[0])

    def send(self, type_: str, item: Object) -> None:
        shown = events.as_served(item, self._kind)
        if self._as_table:
            shown = tables.of(self._kind, [item], {"resourceVersion": item["metadata"]["resourceVersion"]})
            if self._has_columns:
                del shown["columnDefinitions"]
            self._has_columns = True
        self._chunk({"type": type_, "object": shown})

    def bookmark(self, revision: int, annotations: dict[str, str] | None = None) -> None:
        meta: Object = {"resourceVersion": str(revision), "creationTimestamp": None}
        if annotations:
            meta["annotations"] = annotations
        kind = {"kind": self._kind.kind, "apiVersion": self._kind.api_version}
        if self._as_table:
            kind = {"kind": "Table", "apiVersion": "meta.k8s.io/v1"}
        self._chunk({"type": "BOOKMARK", "object": {**kind, "metadata": meta}})

    def error(self, error: ApiError) -> None:
        self._chunk({"type": "ERROR", "object": error.status()})

    def _chunk(self, value: Any) -> None:
        content = json.dumps(value, separators=(",", ":")).encode() + b"\n"
        self._handler.wfile.write(f"{len(content):x}\r\n".encode() + content + b"\r\n")
        self._handler.wfile.flush()

    def end(self) -> None:
        self._handler.wfile.write(b"0\r\n\r\n")
        self._handler.wfile.flush()
