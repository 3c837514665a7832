"""Everything a client may do with objects, with an apiserver's honesty about versions, status and ownership.

What is written goes the same way whatever the verb: decode strictly or not, default, validate, work out who owns
what, count the generation, and store only what differs.
"""

import uuid
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.fake_apiserver import checks, events, ownership, patches, pod_security, rules, strategy, structural
from tests.fakes.fake_apiserver.defaults import fill_built_in
from tests.fakes.fake_apiserver.errors import ApiError, already_exists, bad_request, conflict, invalid, not_found
from tests.fakes.fake_apiserver.kinds import SERVICE_MONITOR, Kind, built_in, of_crd
from tests.fakes.fake_apiserver.ownership import Manager
from tests.fakes.fake_apiserver.store import Object, Store
from tests.fakes.fake_apiserver.structural import copied


@dataclass(frozen=True)
class Write:
    """How a client asked for a write. validation: Strict, Warn or Ignore unknown fields."""

    manager: str
    subresource: str = ""
    force: bool = False
    dry_run: bool = False
    validation: str = "Warn"
    warnings: list[str] = field(default_factory=list)


_NOT_CHECKED = (
    "<nil>",
    "FieldValueInvalid",
    "<nil>: Invalid value: null: some validation rules were not checked because the object was invalid; "
    "correct the existing errors to complete validation",
)


class Cluster:
    """The state of one apiserver. Every public method is safe to call from any thread."""

    def __init__(self, crds: list[Object] | None = None, namespaces: tuple[str, ...] = ("default",)) -> None:
        self.store = Store()
        self.kinds: list[Kind] = built_in()
        seed = Write("fake-apiserver")
        for name in namespaces:
            body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}, "status": {"phase": "Active"}}
            self.create(self.kind("", "v1", "namespaces"), "", body, seed)
        for crd in [SERVICE_MONITOR, *(crds or [])]:
            self.create(self.kind("apiextensions.k8s.io", "v1", "customresourcedefinitions"), "", crd, seed)

    def kind(self, group: str, version: str, plural: str) -> Kind:
        """Raises ApiError 404 for a resource this server does not have."""
        for kind in self.kinds:
            if (kind.group, kind.version, kind.plural) == (group, version, plural):
                return kind
        raise ApiError(404, "NotFound", "the server could not find the requested resource")

    # Reading

    def get(self, kind: Kind, namespace: str, name: str) -> Object:
        item = self.store.get(kind.storage, namespace, name)
        if item is None:
            raise not_found(kind.qualified, name)
        return events.as_served(item, kind)

    # Writing

    def create(self, kind: Kind, namespace: str, body: Object, write: Write) -> Object:
        with self.store.changed:
            item = self._decoded(kind, namespace, "", body, write)
            meta = item["metadata"]
            if not meta.get("name") and meta.get("generateName"):
                meta["name"] = meta["generateName"] + uuid.uuid4().hex[:5]
            if self.store.get(kind.storage, namespace, meta.get("name", "")):
                raise already_exists(kind.qualified, meta["name"])
            if meta.get("resourceVersion"):
                raise ApiError(500, "", "resourceVersion should not be set on objects to be created")
            self._begin(item, kind)
            manager = Manager(write.manager, "Update", kind.api_version)
            return self._accept(kind, None, item, write, owner=manager)

    def update(self, kind: Kind, namespace: str, name: str, body: Object, write: Write) -> Object:
        """PUT: everything is replaced. A stale resourceVersion is a conflict; none overwrites whatever is there."""
        with self.store.changed:
            item = self._decoded(kind, namespace, name, body, write)
            if kind.created_by_put and self.store.get(kind.storage, namespace, name) is None:
                return self.create(kind, namespace, body, write)
            live = self._live(kind, namespace, name)
            if kind.needs_version and not item["metadata"].get("resourceVersion"):
                text = "metadata.resourceVersion: Invalid value: 0: must be specified for an update"
                raise invalid(kind.qualified_kind, name, [("metadata.resourceVersion", "FieldValueInvalid", text)])
            return self._replace(kind, live, item, write)

    def patch(self, kind: Kind, namespace: str, name: str, content_type: str, body: Any, write: Write) -> Object:
        with self.store.changed:
            if content_type.startswith("application/apply-patch"):
                return self._apply(kind, namespace, name, body, write)
            live = events.as_served(self._live(kind, namespace, name), kind)
            if content_type == "application/merge-patch+json":
                patched = patches.merge(live, body)
            elif content_type == "application/json-patch+json":
                patched = patches.json_patch(live, body)
            elif content_type == "application/strategic-merge-patch+json" and not kind.is_custom:
                patched = patches.strategic(live, body, kind.schema)
            else:
                raise ApiError(
                    415,
                    "UnsupportedMediaType",
                    "the body of the request was in an unknown format - accepted media types include: "
                    "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml",
                )
            item = self._decoded(kind, namespace, name, patched, write)
            return self._replace(kind, self._live(kind, namespace, name), item, write)

    def _replace(self, kind: Kind, live: Object, item: Object, write: Write) -> Object:
        wanted = item["metadata"].get("resourceVersion")
        if wanted and wanted != live["metadata"]["resourceVersion"]:
            raise conflict(kind.qualified, live["metadata"]["name"])
        uid = item["metadata"].get("uid")
        if uid and uid != live["metadata"]["uid"]:
            raise ApiError(
                409, "Conflict", f'Operation cannot be fulfilled on {kind.qualified} "{live["metadata"]["name"]}": '
                f"StorageError: invalid object, Precondition failed: UID in precondition: {uid}, UID in object meta: "
                f"{live['metadata']['uid']}",
            )  # fmt: skip
        item = strategy.only_the_part(kind, live, item, write.subresource)
        manager = Manager(write.manager, "Update", kind.api_version, write.subresource)
        return self._accept(kind, live, item, write, owner=manager)

    def _apply(self, kind: Kind, namespace: str, name: str, body: Any, write: Write) -> Object:
        if not write.manager:
            raise bad_request(
                'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch'
            )
        if not isinstance(body, dict) or not body.get("kind") or not body.get("apiVersion"):
            raise bad_request("Object 'Kind' or 'apiVersion' is missing in the applied object")
        if body.get("metadata", {}).get("managedFields"):
            raise bad_request("metadata.managedFields must be nil")
        config = copied(body)
        meta = config.setdefault("metadata", {})
        self._check_address(kind, namespace, name, config)
        meta.update({"name": name} | ({"namespace": namespace} if kind.namespaced else {}))
        live = self.store.get(kind.storage, namespace, name)
        wanted = config["metadata"].pop("resourceVersion", None)
        if wanted and (live is None or wanted != live["metadata"]["resourceVersion"]):
            raise conflict(kind.qualified, name)
        if live is None and write.subresource:
            raise not_found(kind.qualified, name)
        if not kind.is_custom:
            config = structural.without_nulls(config)
        if kind.has_status:
            for part in ("spec", "metadata") if write.subresource else ("status",):
                kept = {k: config["metadata"][k] for k in ("name", "namespace") if k in config["metadata"]}
                config.pop(part, None)
                if part == "metadata":
                    config["metadata"] = kept
        manager = Manager(write.manager, "Apply", kind.api_version, write.subresource)
        item = ownership.applied(live, config, kind.schema, manager, force=write.force, now=strategy.now())
        if live is None:
            self._begin(item, kind)
        return self._accept(kind, live, item, write, owner=None)

    def delete(self, kind: Kind, namespace: str, name: str, options: Object) -> Object:
        """Remove an object, or mark it when finalizers want to be asked first."""
        with self.store.changed:
            live = self._live(kind, namespace, name)
            wants = options.get("preconditions") or {}
            for part in ("uid", "resourceVersion"):
                if wants.get(part) not in (None, live["metadata"][part]):
                    raise conflict(kind.qualified, name)
            policy = options.get("propagationPolicy") or "Background"
            finalizers = list(live["metadata"].get("finalizers") or [])
            for wanted, finalizer in (("Foreground", "foregroundDeletion"), ("Orphan", "orphan")):
                if policy == wanted and finalizer not in finalizers:
                    finalizers.append(finalizer)
            if options.get("dryRun"):
                return live
            grace_s = strategy.grace_s(kind, live, options)
            if not finalizers and not grace_s:
                return self._remove(kind, live)
            if live["metadata"].get("deletionTimestamp"):
                return live
            meta = {**live["metadata"], "finalizers": finalizers, "deletionTimestamp": strategy.now()}
            meta["deletionGracePeriodSeconds"] = grace_s
            if "generation" in meta:
                meta["generation"] += 1
            return self.store.put(kind.storage, {**live, "metadata": meta})

    # What every write goes through

    def _live(self, kind: Kind, namespace: str, name: str) -> Object:
        live = self.store.get(kind.storage, namespace, name)
        if live is None:
            raise not_found(kind.qualified, name)
        return live

    def _check_address(self, kind: Kind, namespace: str, name: str, body: Object) -> None:
        if body.get("kind", kind.kind) != kind.kind or body.get("apiVersion", kind.api_version) != kind.api_version:
            found = f"{body.get('apiVersion')}, Kind={body.get('kind')}"
            raise bad_request(f"the object provided is unrecognized as {kind.api_version}, Kind={kind.kind}: {found}")
        meta = body["metadata"]
        if name and meta.get("name") not in (None, name):
            raise bad_request(f"the name of the object ({meta['name']}) does not match the name on the URL ({name})")
        if kind.namespaced and meta.get("namespace") not in (None, "", namespace):
            raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
        if kind.namespaced and self.store.get("namespaces", "", namespace) is None:
            raise not_found("namespaces", namespace)

    def _decoded(self, kind: Kind, namespace: str, name: str, body: Any, write: Write) -> Object:
        """The body as an object at its place, without what the schema does not know."""
        if not isinstance(body, dict):
            raise bad_request("the object provided is no JSON object")
        item: Object = copied(body)
        if not isinstance(item.setdefault("metadata", {}), dict):
            raise bad_request("metadata is no JSON object")
        self._check_address(kind, namespace, name, item)
        item["apiVersion"], item["kind"] = kind.api_version, kind.kind
        if kind.namespaced:
            item["metadata"]["namespace"] = namespace
        if not kind.is_custom:
            item = structural.without_nulls(item)
        unknown = list(structural.prune(item, kind.schema))
        if unknown and write.validation == "Strict":
            texts = ", ".join(f'unknown field "{path}"' for path in unknown)
            raise bad_request(f"strict decoding error: {texts}")
        if write.validation != "Ignore":
            write.warnings.extend(f'unknown field "{path}"' for path in unknown)
        return item

    def _begin(self, item: Object, kind: Kind) -> None:
        item["metadata"] |= {"uid": str(uuid.uuid4()), "creationTimestamp": strategy.now()}
        for theirs in ("resourceVersion", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"):
            item["metadata"].pop(theirs, None)
        if kind.has_generation:
            item["metadata"]["generation"] = 1
        if kind.has_status and kind.kind != "Namespace":
            item.pop("status", None)

    def _accept(self, kind: Kind, live: Object | None, item: Object, write: Write, owner: Manager | None) -> Object:
        """Default, validate, own, count, store. owner: who did a plain write; None when an apply set the owners."""
        item = copied(item)  # parts of it may be the stored object's own
        if kind.is_custom:
            structural.fill(item, kind.schema)
        else:
            fill_built_in(item, live)
        self._validate(kind, item, live)
        item = events.as_kept(item, kind)
        meta = item["metadata"]
        if live is not None:
            for own in ("uid", "creationTimestamp", "generation", "deletionTimestamp", "deletionGracePeriodSeconds"):
                meta.pop(own, None)
                if own in live["metadata"]:
                    meta[own] = live["metadata"][own]
            meta["resourceVersion"] = live["metadata"]["resourceVersion"]
            if owner is not None:
                meta["managedFields"] = live["metadata"].get("managedFields", [])
            if strategy.same(live, item):
                return events.as_served(live, kind)
            if kind.has_generation and strategy.body(live) != strategy.body(item):
                meta["generation"] = live["metadata"]["generation"] + 1
        if owner is not None and kind.kind != "Event":
            ownership.updated(live, item, kind.schema, owner, strategy.now())
        if write.dry_run:
            return events.as_served(item, kind)
        if (
            live is not None
            and live["metadata"].get("finalizers")
            and meta.get("deletionTimestamp")
            and not meta.get("finalizers")
        ):
            return self._remove(kind, self.store.put(kind.storage, item))
        stored = self.store.put(kind.storage, item)
        if kind.kind == "CustomResourceDefinition":
            stored = self._serve(stored)
        return events.as_served(stored, kind)

    def _validate(self, kind: Kind, item: Object, live: Object | None) -> None:
        name = item["metadata"].get("name", "")
        causes: list[structural.Cause] = []
        if not name:
            text = "metadata.name: Required value: name or generateName is required"
            causes.append(("metadata.name", "FieldValueRequired", text))
        causes += structural.faults(item, kind.schema)
        if kind.is_custom:
            causes += [_NOT_CHECKED] if causes else rules.broken(item, kind.schema)
            causes = [cause for cause in causes if not strategy.is_left_alone(cause[0], item, live)]
        causes += checks.faults(kind, item, live) if not causes else []
        if causes:
            raise invalid(kind.qualified_kind, name, causes)
        if kind.kind == "Pod" and live is None:
            namespace = self.store.get("namespaces", "", item["metadata"]["namespace"])
            pod_security.admit(item, namespace or item)

    def _remove(self, kind: Kind, live: Object) -> Object:
        gone = self.store.remove(kind.storage, live["metadata"].get("namespace", ""), live["metadata"]["name"])
        if kind.kind == "CustomResourceDefinition":
            self.kinds = [k for k in self.kinds if k.qualified != live["metadata"]["name"]]
        return gone

    def _serve(self, crd: Object) -> Object:
        self.kinds = [k for k in self.kinds if k.qualified != crd["metadata"]["name"]] + of_crd(crd)
        since = {"lastTransitionTime": strategy.now(), "message": "", "status": "True"}
        conditions = [
            {"type": t, "reason": r, **since}
            for t, r in (("NamesAccepted", "NoConflicts"), ("Established", "InitialNamesAccepted"))
        ]
        return self.store.put("customresourcedefinitions.apiextensions.k8s.io", {**crd, "status": {
            "conditions": conditions, "acceptedNames": crd["spec"]["names"],
            "storedVersions": [v["name"] for v in crd["spec"]["versions"] if v["storage"]],
        }})  # fmt: skip
