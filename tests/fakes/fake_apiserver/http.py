"""HTTP in front of a cluster: addresses, bodies and answers."""

import base64
import contextlib
import json
import threading
import time
import traceback
from http.server import BaseHTTPRequestHandler
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

import yaml

from tests.fakes.fake_apiserver import admin, discovery, events, protobuf, selectors, tables
from tests.fakes.fake_apiserver.cluster import Cluster, Write
from tests.fakes.fake_apiserver.errors import ApiError, bad_request
from tests.fakes.fake_apiserver.faults import Faults
from tests.fakes.fake_apiserver.kinds import Kind
from tests.fakes.fake_apiserver.store import Object
from tests.fakes.fake_apiserver.watching import Dropped, Watch

_LONGEST_HANG_S = 1800


class Address(NamedTuple):
    """Where a request leads: a kind, and in it a namespace, a name and a subresource, as far as given."""

    kind: Kind
    namespace: str | None
    name: str
    subresource: str


class Handler(BaseHTTPRequestHandler):
    """One connection. cluster, faults and stopped are set by the server that owns it."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    cluster: Cluster
    faults: Faults
    stopped: threading.Event

    def log_message(self, format: str, *args: object) -> None:
        """Requests are kept in `faults.requests` instead."""

    def do_GET(self) -> None:
        self._answer("GET")

    def do_POST(self) -> None:
        self._answer("POST")

    def do_PUT(self) -> None:
        self._answer("PUT")

    def do_PATCH(self) -> None:
        self._answer("PATCH")

    def do_DELETE(self) -> None:
        self._answer("DELETE")

    def _answer(self, method: str) -> None:
        began = time.monotonic()
        parts = urlsplit(self.path)
        path, query = unquote(parts.path), dict(parse_qsl(parts.query, keep_blank_values=True))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.stopped.is_set():
            self.close_connection = True
            return
        if path.startswith("/fake/"):
            self._send(*admin.answer(method, path, query, self.faults, self.cluster))
            return
        is_watch = method == "GET" and query.get("watch") in ("true", "1")
        verb = "WATCH" if is_watch else method
        agent = self.headers.get("User-Agent", "")
        if self.faults.latency_s:
            time.sleep(self.faults.latency_s)
        released = self.faults.released
        trouble = self.faults.strikes(verb, path)
        try:
            if trouble is not None and trouble.how == "hang":
                released.wait(_LONGEST_HANG_S)
                raise Dropped
            if trouble is not None and trouble.how == "drop before":
                raise Dropped
            if trouble is not None and trouble.how == "answer":
                raise _refusal(trouble.code, trouble.retry_after_s)
            if is_watch:
                at = self._address(path)
                watch = Watch(self, at.kind, at.namespace, self._selected(at, query), query)
                self.faults.note(verb, path, query, agent, 200, began)
                watch.run()
                return
            code, answer, warnings = self._carry_out(method, path, query, body)
            if trouble is not None and trouble.how == "drop after":
                raise Dropped
        except ApiError as error:
            code, answer, warnings = error.code, error.status(), []
        except Dropped:
            self.faults.note(verb, path, query, agent, 0, began)
            self.close_connection = True
            return
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
            return
        except Exception as error:
            # A fault of this server: whoever runs the test must see it, and the client must not wait.
            traceback.print_exc()
            failed = ApiError(500, "InternalError", f"the fake apiserver is broken: {error!r}")
            code, answer, warnings = 500, failed.status(), []
        self.faults.note(verb, path, query, agent, code, began)
        if trouble is not None and trouble.how == "hang after":
            released.wait(_LONGEST_HANG_S)
        self._send(code, answer, warnings)

    def _send(self, code: int, answer: Any, warnings: list[str] | None = None) -> None:
        content = json.dumps(answer, separators=(",", ":")).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        for warning in warnings or []:
            self.send_header("Warning", "299 - " + json.dumps(warning))
        if retry := (answer.get("details") or {}).get("retryAfterSeconds") if isinstance(answer, dict) else None:
            self.send_header("Retry-After", str(retry))
        self.end_headers()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.wfile.write(content)
            self.wfile.flush()

    # Addresses

    def _address(self, path: str) -> Address:
        parts = path.strip("/").split("/")
        group, version, rest = ("", parts[1], parts[2:]) if parts[0] == "api" else (parts[1], parts[2], parts[3:])
        namespace = None
        if rest[0] == "namespaces" and len(rest) > 2:
            namespace, rest = rest[1], rest[2:]
        kind = self.cluster.kind(group, version, rest[0])
        name, subresource = (rest[1] if len(rest) > 1 else ""), (rest[2] if len(rest) > 2 else "")
        offered = {"": True, "status": kind.has_status, "scale": kind.has_scale}
        if not offered.get(subresource):
            raise ApiError(404, "NotFound", "the server could not find the requested resource")
        return Address(kind, namespace if kind.namespaced else "", name, subresource)

    def _carry_out(self, method: str, path: str, query: dict[str, str], body: bytes) -> tuple[int, Any, list[str]]:
        if (found := self._about_the_server(path)) is not None:
            return 200, found, []
        parts = path.strip("/").split("/")
        if parts[0] not in ("api", "apis") or len(parts) < (3 if parts[0] == "api" else 4):
            raise ApiError(404, "NotFound", "the server could not find the requested resource")
        at = self._address(path)
        if at.subresource == "scale":
            return 200, self._scale(method, at, query, body), []
        if method == "GET":
            return 200, (self._one(at) if at.name else self._list(at, query)), []
        write = self._write(method, at, query)
        is_protobuf = "protobuf" in (self.headers.get("Content-Type") or "")
        data = _decoded(at.kind, body) if is_protobuf and body else _parsed(body)
        if method == "DELETE":
            return 200, self._delete(at, query, data or {}, write), []
        if at.kind.namespaced and at.namespace is None:
            raise ApiError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
        namespace = at.namespace or ""
        if method == "POST":
            return 201, self.cluster.create(at.kind, namespace, data, write), write.warnings
        if method == "PUT":
            return 200, self.cluster.update(at.kind, namespace, at.name, data, write), write.warnings
        content_type = (self.headers.get("Content-Type") or "").partition(";")[0]
        exists = self.cluster.store.get(at.kind.storage, namespace, at.name) is not None
        patched = self.cluster.patch(at.kind, namespace, at.name, content_type, data, write)
        return (200 if exists else 201), patched, write.warnings

    def _scale(self, method: str, at: Address, query: dict[str, str], body: bytes) -> Object:
        """The number of replicas alone, which is what `kubectl scale` reads and writes."""
        namespace = at.namespace or ""
        item = self.cluster.get(at.kind, namespace, at.name)
        if method != "GET":
            wanted = {"spec": {"replicas": _parsed(body)["spec"]["replicas"]}}
            write = self._write(method, at._replace(subresource=""), query)
            item = self.cluster.patch(at.kind, namespace, at.name, "application/merge-patch+json", wanted, write)
        meta = {key: item["metadata"][key] for key in ("name", "namespace", "uid", "resourceVersion")}
        replicas = {"replicas": item["spec"].get("replicas", 1)}
        return {"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": meta, "spec": replicas, "status": replicas}

    def _write(self, method: str, at: Address, query: dict[str, str]) -> Write:
        manager = query.get("fieldManager", "")
        if not manager and not (method == "PATCH" and "apply-patch" in (self.headers.get("Content-Type") or "")):
            manager = self.headers.get("User-Agent", "unknown").partition("/")[0]
        return Write(
            manager, at.subresource, query.get("force") in ("true", "1"), bool(query.get("dryRun")),
            query.get("fieldValidation", "Warn"),
        )  # fmt: skip

    def _about_the_server(self, path: str) -> Any:
        kinds, path = self.cluster.kinds, path.rstrip("/")
        if path in ("/healthz", "/livez", "/readyz"):
            return {}
        if path == "/version":
            return discovery.version()
        if path == "/api":
            return discovery.core_versions()
        if path == "/apis":
            return discovery.groups(kinds)
        if path == "/openapi/v3":
            return discovery.openapi_index(kinds)
        parts = path.strip("/").removeprefix("openapi/v3/").split("/")
        form = discovery.openapi if path.startswith("/openapi/v3/") else discovery.resources
        if parts[0] == "api" and len(parts) == 2:
            return form(kinds, "", parts[1])
        if parts[0] == "apis" and len(parts) == 3:
            return form(kinds, parts[1], parts[2])
        return None

    # Reading

    def _table(self) -> bool:
        return "as=Table" in (self.headers.get("Accept") or "")

    def _one(self, at: Address) -> Object:
        item = self.cluster.get(at.kind, at.namespace or "", at.name)
        return (
            tables.of(at.kind, [_kept_form(item)], {"resourceVersion": item["metadata"]["resourceVersion"]})
            if self._table()
            else item
        )

    def _selected(self, at: Address, query: dict[str, str]) -> Any:
        by_label, by_field = (
            selectors.labels(query.get("labelSelector", "")),
            selectors.fields(query.get("fieldSelector", "")),
        )

        def matches(item: Object) -> bool:
            inside = at.namespace is None or item["metadata"].get("namespace", "") == at.namespace
            return inside and (not at.name or item["metadata"]["name"] == at.name) and by_label(item) and by_field(item)

        return matches

    def _list(self, at: Address, query: dict[str, str]) -> Object:
        matches, store = self._selected(at, query), self.cluster.store
        with store.changed:
            items = [item for item in store.all(at.kind.storage, at.namespace) if matches(item)]
            meta: Object = {"resourceVersion": str(store.revision)}
            if token := query.get("continue"):
                meta["resourceVersion"], after = _continued(token)
                store.since(int(meta["resourceVersion"]))
                items = [item for item in items if _place(item) > after]
        limit = int(query.get("limit") or 0)
        if limit and len(items) > limit:
            meta |= {
                "continue": _token(meta["resourceVersion"], items[limit - 1]),
                "remainingItemCount": len(items) - limit,
            }
            items = items[:limit]
        if self._table():
            return tables.of(at.kind, items, meta, query.get("includeObject", "Metadata"))
        served = [events.as_served(item, at.kind) for item in items]
        return {"kind": f"{at.kind.kind}List", "apiVersion": at.kind.api_version, "metadata": meta, "items": served}

    def _delete(self, at: Address, query: dict[str, str], options: Object, write: Write) -> Object:
        options = {**options, **{k: query[k] for k in ("propagationPolicy", "dryRun") if k in query}}
        if at.name:
            gone = self.cluster.delete(at.kind, at.namespace or "", at.name, options)
            details = {"name": at.name, "group": at.kind.group, "kind": at.kind.plural, "uid": gone["metadata"]["uid"]}
            done = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
            return gone if gone["metadata"].get("deletionTimestamp") else done
        matches = self._selected(at, query)
        for item in self.cluster.store.all(at.kind.storage, at.namespace):
            if matches(item):
                self.cluster.delete(at.kind, item["metadata"].get("namespace", ""), item["metadata"]["name"], options)
        return {"kind": f"{at.kind.kind}List", "apiVersion": at.kind.api_version, "metadata": {}, "items": []}


def _kept_form(item: Object) -> Object:
    """An Event in its core form, whichever face it was read through: the columns are those of core/v1."""
    return item if item["kind"] != "Event" or "involvedObject" in item else events.as_kept(item, _EVENTS)


_EVENTS = Kind("events.k8s.io", "v1", "events", "Event")


def _refusal(code: int, retry_after_s: int | None) -> ApiError:
    reason = {403: "Forbidden", 409: "Conflict", 410: "Expired", 429: "TooManyRequests", 500: "InternalError",
              503: "ServiceUnavailable", 504: "Timeout"}.get(code, "")  # fmt: skip
    details = {"retryAfterSeconds": retry_after_s} if retry_after_s is not None else {}
    return ApiError(code, reason, "switched on by a test", details)


def _decoded(kind: Kind, body: bytes) -> Any:
    """Protobuf, which built-in kinds alone are taken in."""
    try:
        if not kind.is_custom:
            return protobuf.decode(body)
    except protobuf.UnknownMessage:
        pass
    text = "the body of the request was in an unknown format - accepted media types include: "
    raise ApiError(415, "UnsupportedMediaType", f"{text}application/json, application/yaml")


def _parsed(body: bytes) -> Any:
    if not body:
        return None
    try:
        return json.loads(body)
    except ValueError:
        try:
            return yaml.safe_load(body)
        except yaml.YAMLError as error:
            raise bad_request(f"the body of the request is neither JSON nor YAML: {error}") from None


def _place(item: Object) -> list[str]:
    return [item["metadata"].get("namespace", ""), item["metadata"]["name"]]


def _token(revision: str, last: Object) -> str:
    return base64.urlsafe_b64encode(json.dumps([revision, _place(last)]).encode()).decode()


def _continued(token: str) -> tuple[str, list[str]]:
    try:
        revision, after = json.loads(base64.urlsafe_b64decode(token))
    except ValueError:
        raise bad_request("continue key is not valid: illegal base64 data") from None
    return revision, after
