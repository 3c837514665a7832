"""docs/architecture.md says who talks to whom. The rendered NetworkPolicies say the same: no row is missing at either
end, and nothing is allowed that no row says."""

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from kingmaker_controller.rollout.facts import WantedVariant
from kingmaker_controller.runtimes import manifests, podspec
from tests.deploy import chart
from tests.deploy.chart import ROOT, Object, Values, pods
from tests.deploy.chart_cases import CASES, EXTERNAL

PUBLISHERS = {"podSelector": {"matchLabels": {"job": "train"}}}
CLIENTS = {"namespaceSelector": {"matchLabels": {"team": "web"}}}
API = {"ipBlock": {"cidr": "10.0.0.1/32"}}
VALUES: Values = {"networkPolicy": {"clients": [CLIENTS], "publishers": [PUBLISHERS], "kubernetesApi": [API]}}
"""Every end outside of the release is told apart."""


class Edge(NamedTuple):
    start: str
    end: str
    port: int


def table() -> set[Edge]:
    text = (ROOT / "docs/architecture.md").read_text()
    section = text[text.index("## Connections") :]
    section = section[: section.index("\n## ", 1)]
    edges = set()
    for row in re.findall(r"^\| (.+) \|$", section, re.M)[1:]:
        start, end, ports, _ = (cell.strip() for cell in row.split("|"))
        for one in start.split(", "):
            edges |= {Edge(one, end, int(port)) for port in ports.split(", ")}
    return edges


def model_server_labels() -> dict[str, str]:
    """Of a pod as the controller makes it."""
    wanted = WantedVariant("lr", "models:/flights/1", "", "", None, 1)
    owner = manifests.Owner("flights", "shop", "uid")
    made = manifests.objects(owner, wanted, podspec.Pin("1", ""), podspec.Template("image", "http://mlflow"))
    return dict(made[-1]["spec"]["template"]["metadata"]["labels"])


def labels_of_pods(objects: list[Object]) -> dict[str, dict[str, str]]:
    """By the names the table gives them."""
    names = {"redis": "Redis", "mlflow": "MLflow", "test": "helm test"}
    found = {"model servers": model_server_labels()}
    for item in objects:
        if item["kind"] in ("Deployment", "StatefulSet", "Pod"):
            labels = (
                item["metadata"]["labels"] if item["kind"] == "Pod" else item["spec"]["template"]["metadata"]["labels"]
            )
            component = labels["app.kubernetes.io/component"]
            found[names.get(component, component)] = labels
    return found


def outside(policy: Values) -> dict[str, str]:
    """Peers outside of the release, as JSON, by the names the table gives them."""
    values = {"clients": "clients", "publishers": "publishers", "Kubernetes API": "kubernetesApi"}
    values |= {"Prometheus": "prometheus", "DNS": "dns"}
    named = {name: policy[value] for name, value in values.items()}
    return {json.dumps(peer, sort_keys=True): name for name, peers in named.items() for peer in peers}


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    assert selector.keys() <= {"matchLabels"}
    return selector.get("matchLabels", {}).items() <= labels.items()


class Network:
    """Who may talk to whom, as a network plugin would see it."""

    def __init__(self, objects: list[Object], policy: Values) -> None:
        self.policies = [item["spec"] for item in objects if item["kind"] == "NetworkPolicy"]
        self.labels = labels_of_pods(objects)
        self.outside = outside(policy)

    def denied_by_default(self, name: str) -> bool:
        mine = [p for p in self.policies if selects(p["podSelector"], self.labels[name])]
        return {kind for policy in mine for kind in policy["policyTypes"]} == {"Ingress", "Egress"}

    def edges(self, direction: str) -> Iterator[Edge]:
        """direction: egress, what starts are allowed; ingress, what ends are."""
        side = "to" if direction == "egress" else "from"
        for name, labels in self.labels.items():
            for policy in self.policies:
                if not selects(policy["podSelector"], labels):
                    continue
                for rule in policy.get(direction, []):
                    assert rule.get(side), f"{name}: a rule without {side} allows everybody"
                    for peer in rule[side]:
                        for other in self.named(peer):
                            for port in {one["port"] for one in rule["ports"]}:
                                yield Edge(name, other, port) if side == "to" else Edge(other, name, port)

    def named(self, peer: Object) -> list[str]:
        known = self.outside.get(json.dumps(peer, sort_keys=True))
        if known:
            return [known]
        assert peer.keys() == {"podSelector"}, f"{peer} is nobody the values named"
        found = [name for name, labels in self.labels.items() if selects(peer["podSelector"], labels)]
        assert found, f"{peer} is nobody"
        return found


@pytest.fixture(scope="module")
def network() -> Network:
    defaults = chart.defaults()["networkPolicy"]
    return Network(chart.render(VALUES), {**defaults, **VALUES["networkPolicy"]})


def test_every_connection_out_is_a_row_and_every_row_is_allowed_out(network: Network) -> None:
    ours = {edge for edge in table() if edge.start in network.labels}
    assert set(network.edges("egress")) == ours


def test_every_connection_in_is_a_row_and_every_row_is_allowed_in(network: Network) -> None:
    ours = {edge for edge in table() if edge.end in network.labels}
    assert set(network.edges("ingress")) == ours


def test_the_table_names_no_end_that_is_unknown(network: Network) -> None:
    known = {*network.labels, *network.outside.values()}
    assert {name for edge in table() for name in edge[:2]} == known


def test_every_pod_is_denied_what_no_rule_allows(network: Network) -> None:
    assert all(network.denied_by_default(name) for name in network.labels)


def test_ports_of_the_table_are_the_ports_of_the_pods() -> None:
    objects = chart.render({})
    listening = {
        name: {p["containerPort"] for c in pod["containers"] for p in c.get("ports", [])}
        for name, pod in pods(objects).items()
    }
    ends: dict[str, set[int]] = {}
    for edge in table():
        ends.setdefault(edge.end, set()).add(edge.port)
    for name in ("gateway", "monitor", "controller", "Redis", "MLflow"):
        assert ends[name] == listening[f"km-kingmaker-{name.lower()}"]
    assert ends["model servers"] == {podspec.PORT}


def test_dns_is_asked_both_ways_it_answers() -> None:
    for item in chart.render({}):
        for rule in item["spec"].get("egress", []) if item["kind"] == "NetworkPolicy" else []:
            if rule["ports"][0]["port"] == 53:
                assert [one["protocol"] for one in rule["ports"]] == ["UDP", "TCP"]


def test_whoever_is_not_named_may_call_the_gateway_and_nothing_else() -> None:
    """With the values as they come, every client may predict; no other rule is open to everybody inwards."""
    opened = [
        (item["metadata"]["name"], [one["port"] for one in rule["ports"]])
        for item in chart.render({})
        if item["kind"] == "NetworkPolicy"
        for rule in item["spec"].get("ingress", [])
        if not rule.get("from")
    ]
    assert opened == [("km-kingmaker-gateway", [8080])]


def test_only_the_kubernetes_api_is_reached_wherever_it_is_unless_named() -> None:
    opened = [
        (item["metadata"]["name"], [one["port"] for one in rule["ports"]])
        for item in chart.render({})
        if item["kind"] == "NetworkPolicy"
        for rule in item["spec"].get("egress", [])
        if not rule.get("to")
    ]
    assert opened == [("km-kingmaker-controller", [443, 6443])]


@pytest.mark.parametrize(
    ("url", "ports"),
    [
        ("redis://r", [6379]),
        ("rediss://r.example.com:6380/1", [6380]),
        ("redis+sentinel://s1:26379,s2:26380/main/0", [26379, 26380, 6379]),
        ("rediss+sentinel://s1,s2/main/0", [26379, 6379]),
        ("redis+cluster://r1:6379,r2:7000", [6379, 7000]),
        ("redis://[fd00::1]:7000/0", [7000]),
    ],
)
def test_the_port_of_another_house_s_redis_is_read_from_its_url(url: str, ports: list[int]) -> None:
    values = {"redis": {"enabled": False}, "externalRedis": {"url": url, "peers": [API]}}
    objects = chart.render(values)
    for component in ("gateway", "monitor", "controller"):
        egress = chart.one(objects, "NetworkPolicy", f"kingmaker-{component}")["spec"]["egress"]
        [rule] = [rule for rule in egress if rule.get("to") == [API]]
        assert [one["port"] for one in rule["ports"]] == ports


@pytest.mark.parametrize(
    ("uri", "port"),
    [("https://mlflow.example.com", 443), ("http://mlflow", 80), ("http://mlflow.ml:5000/path", 5000)],
)
def test_the_port_of_another_house_s_registry_is_read_from_its_address(uri: str, port: int) -> None:
    objects = chart.render({"mlflow": {"enabled": False}, "registry": {"uri": uri, "peers": [API]}})
    for component in ("controller", "model-servers"):
        egress = chart.one(objects, "NetworkPolicy", f"kingmaker-{component}")["spec"]["egress"]
        assert [rule["ports"] for rule in egress if rule.get("to") == [API]] == [[{"port": port, "protocol": "TCP"}]]


def test_a_store_of_artifacts_is_opened_to_model_servers_alone() -> None:
    objects = chart.render(CASES["a bucket"].values)
    names = [
        item["metadata"]["name"]
        for item in objects
        if item["kind"] == "NetworkPolicy"
        for rule in item["spec"].get("egress", [])
        if [one["port"] for one in rule["ports"]] == [443]
    ]
    assert names == ["km-kingmaker-model-servers"]


def test_without_redis_and_mlflow_of_its_own_nothing_is_said_about_their_pods() -> None:
    objects = chart.render({**EXTERNAL, "registry": {"uri": "http://m"}, "externalRedis": {"url": "redis://r"}})
    names = {item["metadata"]["name"] for item in objects if item["kind"] == "NetworkPolicy"}
    assert not names & {"km-kingmaker-redis", "km-kingmaker-mlflow"}
