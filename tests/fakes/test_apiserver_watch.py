"""The fake apiserver's watches: nothing is missed, what is forgotten is 410, and they fail as networks fail."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Empty, Queue
from typing import Any

import httpx
import pytest

from tests.fakes.apiserver_requests import MERGE, SM, Api
from tests.fakes.fake_apiserver import FakeApiserver
from tests.fakes.fake_apiserver.faults import How

FLIGHTS = f"{SM}/flights"


class Watcher:
    """A watch that is read in a thread. `end` is "" while it goes on, then why it ended."""

    def __init__(self, response: httpx.Response) -> None:
        self.events: Queue[dict[str, Any]] = Queue()
        self.end = ""
        self._response = response
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            for line in self._response.iter_lines():
                self.events.put(json.loads(line))
            self.end = "over"
        except httpx.HTTPError as error:
            self.end = type(error).__name__

    def next(self, seconds: float = 20) -> tuple[str, dict[str, Any]]:
        event = self.events.get(timeout=seconds)
        return event["type"], event["object"]

    def is_silent(self, seconds: float = 0.3) -> bool:
        try:
            self.next(seconds)
        except Empty:
            return self.end == ""
        return False

    def ends(self, seconds: float = 20) -> str:
        self._thread.join(seconds)
        return self.end


@contextmanager
def watching(server: FakeApiserver, version: str, path: str = SM, **query: Any) -> Iterator[Watcher]:
    asked = {"watch": "true", "resourceVersion": version, **query}
    with httpx.Client(base_url=server.url, timeout=30) as client, client.stream("GET", path, params=asked) as response:
        assert response.status_code == 200, response.read()
        yield Watcher(response)


def listed(api: Api, path: str = SM) -> str:
    return str(api.done("GET", path)["metadata"]["resourceVersion"])


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_watch_tells_every_change_since_the_list_in_order(api: Api) -> None:
    version = listed(api)
    api.model()
    api.done("PATCH", FLIGHTS, {"spec": {"paused": True}}, MERGE)
    with watching(api.server, version) as watch:
        assert [watch.next()[0], watch.next()[0]] == ["ADDED", "MODIFIED"]
        api.done("DELETE", FLIGHTS)
        kind, item = watch.next()
        assert kind == "DELETED"
        assert item["metadata"]["resourceVersion"] == listed(api)
        assert watch.is_silent()


def test_a_watch_from_nothing_begins_with_what_is_there(api: Api) -> None:
    api.model("a")
    api.model("b")
    with watching(api.server, "0") as watch:
        assert [watch.next()[1]["metadata"]["name"] for _ in range(2)] == ["a", "b"]
        assert watch.is_silent()


def test_a_watch_list_says_where_the_present_begins(api: Api) -> None:
    api.model()
    query = {"sendInitialEvents": "true", "allowWatchBookmarks": "true", "resourceVersionMatch": "NotOlderThan"}
    with watching(api.server, "", **query) as watch:
        assert watch.next()[0] == "ADDED"
        kind, item = watch.next()
        assert (kind, item["metadata"]["annotations"]) == ("BOOKMARK", {"k8s.io/initial-events-end": "true"})


def test_a_watch_is_of_its_kind_its_namespace_and_its_name(api: Api) -> None:
    version = listed(api)
    with (
        watching(api.server, version, SM.replace("default", "other")) as elsewhere,
        watching(api.server, version, "/apis/kingmaker.dev/v1alpha1/servedmodels") as everywhere,
        watching(api.server, version, fieldSelector="metadata.name=b") as of_b,
    ):
        api.model("a")
        api.done("POST", "/api/v1/namespaces/default/configmaps", {"metadata": {"name": "b"}})
        assert everywhere.next()[1]["metadata"]["name"] == "a"
        assert elsewhere.is_silent()
        assert of_b.is_silent(0.1)


def test_what_leaves_a_selection_is_deleted_for_its_watcher(api: Api) -> None:
    api.model()
    with watching(api.server, listed(api), labelSelector="team=a") as watch:
        for labels in ({"team": "a"}, {"team": "a", "x": "y"}, {"team": "b"}, {"team": "c"}, {"team": "a"}):
            api.done("PATCH", FLIGHTS, {"metadata": {"labels": labels}}, MERGE)
        kinds = [watch.next()[0] for _ in range(4)]
        assert kinds == ["ADDED", "MODIFIED", "DELETED", "ADDED"]


def test_bookmarks_carry_the_newest_version_of_any_kind(api: Api) -> None:
    api.server.faults.bookmark_every_s = 0.05
    version = listed(api)
    with watching(api.server, version, allowWatchBookmarks="true") as watch:
        api.done("POST", "/api/v1/namespaces/default/configmaps", {"metadata": {"name": "x"}})
        newest = listed(api)
        assert int(newest) > int(version)
        until(lambda: watch.next()[1]["metadata"]["resourceVersion"] == newest)
    with watching(api.server, version) as watch:
        assert watch.is_silent(), "bookmarks only for who allows them"


def test_a_watch_from_a_forgotten_version_is_410(api: Api) -> None:
    version = listed(api)
    api.model()
    api.server.cluster.store.compact()
    with watching(api.server, version) as watch:
        kind, status = watch.next()
        assert (kind, status["code"], status["reason"]) == ("ERROR", 410, "Expired")
        assert watch.ends() == "over"
    with watching(api.server, listed(api)) as watch:
        assert watch.is_silent()


def test_a_watch_that_keeps_up_survives_a_compaction(api: Api) -> None:
    with watching(api.server, listed(api)) as watch:
        api.model()
        assert watch.next()[0] == "ADDED"
        api.server.cluster.store.compact()
        api.done("PATCH", FLIGHTS, {"spec": {"paused": True}}, MERGE)
        assert watch.next()[0] == "MODIFIED"


def test_a_version_of_the_future_is_told_to_wait(api: Api) -> None:
    code, answer = api("GET", SM, watch="true", resourceVersion="999999")
    assert code == 504
    assert "Too large resource version" in answer["message"]


@pytest.mark.parametrize("version", ["-1", "abc", "1.5"])
def test_a_version_that_is_none_is_a_bad_request(api: Api, version: str) -> None:
    assert api("GET", SM, watch="true", resourceVersion=version)[0] == 400


def test_a_watch_ends_quietly_when_its_time_is_up(api: Api) -> None:
    with watching(api.server, listed(api), timeoutSeconds="1") as watch:
        assert watch.ends() == "over"
        assert watch.events.empty()


def test_dropped_watches_end_without_an_end_and_new_ones_live(api: Api) -> None:
    version = listed(api)
    with watching(api.server, version) as watch:
        api.server.faults.drop_watches()
        assert watch.ends() == "RemoteProtocolError"
    api.model()
    with watching(api.server, version) as watch:
        assert watch.next()[0] == "ADDED", "what happened meanwhile is not lost"


def test_a_half_open_watch_is_silent_for_ever_and_other_requests_go_on(api: Api) -> None:
    version = listed(api)
    with watching(api.server, version, timeoutSeconds="1") as watch:
        api.server.faults.half_open = True
        time.sleep(0.4)  # every watch looks at least every quarter of a second
        api.model()
        assert watch.is_silent(1.2), "not even its own time limit ends it"
        api.server.faults.half_open = False
        assert watch.is_silent()
        with watching(api.server, version) as fresh:
            assert fresh.next()[0] == "ADDED"
        api.server.faults.drop_watches()
        assert watch.ends()


def test_a_restarted_server_keeps_its_state_and_its_port(api: Api) -> None:
    api.model()
    version, port = listed(api), api.server.port
    with watching(api.server, version) as watch:
        api.server.stop()
        assert watch.ends()
    with pytest.raises(httpx.HTTPError):
        api("GET", FLIGHTS)
    api.server.start()
    assert api.server.port == port
    assert api.done("GET", FLIGHTS)
    with watching(api.server, version) as watch:
        api.done("DELETE", FLIGHTS)
        assert watch.next()[0] == "DELETED"


def test_requests_fail_as_they_are_told_to(api: Api) -> None:
    faults = api.server.faults
    faults.trouble("PATCH", "/status", times=2, code=429, retry_after_s=3)
    api.model()
    for _ in range(2):
        answer = api.http.patch(f"{FLIGHTS}/status", json={}, headers={"Content-Type": MERGE})
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "3")
    assert api("PATCH", f"{FLIGHTS}/status", {"status": {"phase": "x"}}, MERGE)[0] == 200
    drops: list[tuple[How, str]] = [("drop before", "x"), ("drop after", "y")]
    for how, stored in drops:
        faults.trouble("PATCH", how=how)
        with pytest.raises(httpx.RemoteProtocolError):
            api("PATCH", f"{FLIGHTS}/status", {"status": {"phase": "y"}}, MERGE)
        assert api.done("GET", FLIGHTS)["status"]["phase"] == stored
    faults.trouble("GET", how="hang")
    with pytest.raises(httpx.ReadTimeout):
        api.http.get(FLIGHTS, timeout=0.3)
    codes = [request.code for request in faults.seen("PATCH", "/status", agent="tests")]
    assert codes == [429, 429, 200, 0, 0]
