"""The patches that are not apply, by the examples of their RFCs and of the Kubernetes documentation."""

from typing import Any

import pytest

from tests.fakes.fake_apiserver import patches
from tests.fakes.fake_apiserver.errors import ApiError
from tests.fakes.fake_apiserver.structural import definitions, resolve

DEPLOYMENT = resolve(definitions()["io.k8s.api.apps.v1.Deployment"])


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patch_follows_the_examples_of_rfc_7386(target: Any, patch: Any, result: Any) -> None:
    assert patches.merge(target, patch) == result


@pytest.mark.parametrize(
    ("target", "operations", "result"),
    [
        ({"foo": "bar"}, [{"op": "add", "path": "/baz", "value": "qux"}], {"foo": "bar", "baz": "qux"}),
        ({"foo": ["bar", "baz"]}, [{"op": "add", "path": "/foo/1", "value": "qux"}], {"foo": ["bar", "qux", "baz"]}),
        ({"baz": "qux", "foo": "bar"}, [{"op": "remove", "path": "/baz"}], {"foo": "bar"}),
        ({"foo": ["bar", "qux", "baz"]}, [{"op": "remove", "path": "/foo/1"}], {"foo": ["bar", "baz"]}),
        ({"baz": "qux"}, [{"op": "replace", "path": "/baz", "value": "boo"}], {"baz": "boo"}),
        ({"a": {"b": 1}, "c": {}}, [{"op": "move", "from": "/a/b", "path": "/c/d"}], {"a": {}, "c": {"d": 1}}),
        ({"a": ["x", "y", "z"]}, [{"op": "move", "from": "/a/1", "path": "/a/2"}], {"a": ["x", "z", "y"]}),
        ({"a": 1}, [{"op": "copy", "from": "/a", "path": "/b"}], {"a": 1, "b": 1}),
        ({"foo": ["bar"]}, [{"op": "add", "path": "/foo/-", "value": ["abc"]}], {"foo": ["bar", ["abc"]]}),
        ({"/": 9, "~1": 10}, [{"op": "test", "path": "/~01", "value": 10}], {"/": 9, "~1": 10}),
    ],
)  # fmt: skip
def test_json_patch_follows_the_examples_of_rfc_6902(target: Any, operations: Any, result: Any) -> None:
    assert patches.json_patch(target, operations) == result


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "test", "path": "/a", "value": 2},
        {"op": "remove", "path": "/b"},
        {"op": "replace", "path": "/b", "value": 1},
        {"op": "add", "path": "/b/c", "value": 1},
    ],
)
def test_a_json_patch_that_does_not_apply_is_422(operation: dict[str, Any]) -> None:
    with pytest.raises(ApiError) as caught:
        patches.json_patch({"a": 1}, [operation])
    assert caught.value.code == 422


def of_containers(*containers: dict[str, Any], **pod: Any) -> dict[str, Any]:
    return {"spec": {"template": {"spec": {"containers": list(containers), **pod}}}}


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        # lists with a merge key are merged by it, others replaced
        (
            of_containers({"name": "a", "image": "1"}, tolerations=[{"key": "x"}]),
            of_containers({"name": "b", "image": "2"}, tolerations=[{"key": "y"}]),
            of_containers({"name": "a", "image": "1"}, {"name": "b", "image": "2"}, tolerations=[{"key": "y"}]),
        ),
        (
            of_containers({"name": "a", "image": "1", "args": ["x"]}),
            of_containers({"name": "a", "args": ["y"]}),
            of_containers({"name": "a", "image": "1", "args": ["y"]}),
        ),
        (
            of_containers({"name": "a"}, {"name": "b"}),
            of_containers({"name": "a", "$patch": "delete"}),
            of_containers({"name": "b"}),
        ),
        (
            {"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}},
            {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}},
            {"spec": {"strategy": {"type": "Recreate"}}},
        ),
        (
            {"metadata": {"finalizers": ["a", "b"]}},
            {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"], "finalizers": ["c"]}},
            {"metadata": {"finalizers": ["b", "c"]}},
        ),
        ({"data": {"a": "1", "b": "2"}}, {"data": {"a": None}}, {"data": {"b": "2"}}),
        ({"data": {"a": "1"}}, {"data": {"$patch": "replace", "b": "2"}}, {"data": {"b": "2"}}),
    ],
)  # fmt: skip
def test_strategic_merge_knows_lists_by_their_key(target: Any, patch: Any, result: Any) -> None:
    assert patches.strategic(target, patch, DEPLOYMENT) == result
