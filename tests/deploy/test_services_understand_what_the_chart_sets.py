"""The environment of every rendered pod goes through the service's own settings: a name that is none, or a value it
cannot use, would keep a pod from starting."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic_settings import BaseSettings

from deploy.helm.definition import settings as settings_schema
from kingmaker_controller.__main__ import read_settings
from kingmaker_controller.settings import Settings as ControllerSettings
from kingmaker_gateway.settings import Settings as GatewaySettings
from kingmaker_monitor.settings import Settings as MonitorSettings
from tests.deploy import chart
from tests.deploy.chart import NAMESPACE, ROOT, Object
from tests.deploy.chart_cases import ACL, CASES
from tests.fakes.authority import Authority

CLASSES: dict[str, type[BaseSettings]] = {
    "gateway": GatewaySettings,
    "monitor": MonitorSettings,
    "controller": ControllerSettings,
}


@pytest.fixture
def mounted(tmp_path: Path) -> Path:
    """What Secrets bring into pods, below here instead of below /etc/kingmaker."""
    authority = Authority(tmp_path / "authority")
    certificate, key = authority.issue("gateway")
    for name, content in {
        "redis/password": b"secret", "redis-sentinel/sentinel": b"secret", "token/token": b"t" * 48,
        "redis-ca/ca.crt": authority.ca.read_bytes(), "redis-certificate/tls.crt": certificate.read_bytes(),
        "redis-certificate/tls.key": key.read_bytes(), "tls/tls.crt": certificate.read_bytes(),
        "tls/tls.key": key.read_bytes(), "predict/tokens": b"a:" + b"p" * 32, "feedback/tokens": b"a:" + b"f" * 32,
    }.items():  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    return tmp_path


def pod_of(objects: list[Object], component: str) -> Object:
    [found] = [
        item["spec"]["template"]["spec"]
        for item in objects
        if item["kind"] in ("Deployment", "StatefulSet")
        and item["metadata"]["labels"]["app.kubernetes.io/component"] == component
    ]
    return dict(found)


def read(
    objects: list[Object], component: str, mounted: Path, monkeypatch: pytest.MonkeyPatch, shard: int = 0
) -> BaseSettings:
    pod = pod_of(objects, component)
    folders = {mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    for name, value in chart.environment(pod).items():
        if value.startswith("/"):
            assert str(Path(value).parent) in folders, f"{name} is in no volume"
        monkeypatch.setenv(name, value.replace("/etc/kingmaker", str(mounted)))
    if component == "monitor":
        monkeypatch.setenv("KINGMAKER_MONITOR_SHARD", str(shard))
    return CLASSES[component]()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("component", CLASSES)
def test_settings_are_accepted(component: str, case: str, mounted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = chart.render(CASES[case].values, apis=CASES[case].apis)
    settings: Any = read(objects, component, mounted, monkeypatch)
    known = {f"KINGMAKER_{component.upper()}_{name.upper()}" for name in type(settings).model_fields}
    given = chart.environment(pod_of(objects, component))
    assert {name.split("__")[0] for name in given} <= known
    ports = {port["containerPort"] for port in pod_of(objects, component)["containers"][0]["ports"]}
    assert {settings.port, getattr(settings, "admin_port", settings.port)} == ports
    assert settings.host in ("0.0.0.0", "::"), "probes and Services reach the pod's address"


def test_settings_of_the_values_reach_the_service(mounted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = chart.render(CASES["settings"].values)
    gateway: Any = read(objects, "gateway", mounted, monkeypatch)
    monitor: Any = read(objects, "monitor", mounted, monkeypatch)
    controller: Any = read(objects, "controller", mounted, monkeypatch)
    assert gateway.recorder.buffer_rows == 2_000_000, "Helm writes large numbers as 2e+06"
    assert gateway.hot_path is False
    assert monitor.drift_seconds == 7.5
    assert controller.kubernetes.sweep_s == 10


def test_the_controller_serves_its_namespace_and_makes_pods_of_the_chart_s_image(
    mounted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = chart.render(CASES["images"].values)
    settings: Any = read(objects, "controller", mounted, monkeypatch)
    kubernetes = settings.kubernetes
    assert kubernetes.namespace == NAMESPACE
    assert kubernetes.image == "registry.example.com/ml/kingmaker-model-server:1.2.3"
    assert (kubernetes.image_pull_policy, kubernetes.image_pull_secrets) == ("Always", ("pull",))
    role = chart.one(objects, "Role", "kingmaker-controller")
    [leases] = [r for r in role["rules"] if r["resources"] == ["leases"] and "resourceNames" in r]
    assert leases["resourceNames"] == [kubernetes.lease], "the one Lease it may change"
    assert read_settings({}) == settings


def test_models_are_monitored_by_the_prometheus_that_was_named(mounted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES["prometheus operator"]
    settings: Any = read(chart.render(case.values, apis=case.apis), "controller", mounted, monkeypatch)
    assert settings.kubernetes.service_monitor_labels == {"release": "prometheus"}
    assert settings.kubernetes.service_monitors is True


def test_model_servers_listen_where_the_services_do(mounted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings: Any = read(chart.render(CASES["names"].values), "controller", mounted, monkeypatch)
    assert settings.kubernetes.listen_address == settings.host == "::"


def test_models_are_scraped_as_often_as_the_services_or_not_at_all(
    mounted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {"monitoring": {"interval": "1m", "serviceMonitors": False}}
    settings: Any = read(chart.render(values), "controller", mounted, monkeypatch)
    assert settings.kubernetes.service_monitor_interval == "1m"
    assert settings.kubernetes.service_monitors is False


def test_all_pods_of_a_release_agree_where_redis_is(mounted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for values, user in ((ACL, True), ({}, False)):
        objects = chart.render(values)
        for component in CLASSES:
            settings: Any = read(objects, component, mounted, monkeypatch)
            assert settings.redis_url == "redis://km-kingmaker-redis:6379/0"
            assert settings.redis_username == (component if user else "")
            monkeypatch.delenv(f"KINGMAKER_{component.upper()}_REDIS_USERNAME", raising=False)
            monkeypatch.delenv(f"KINGMAKER_{component.upper()}_REDIS_PASSWORD_FILE", raising=False)
    service = chart.one(chart.render({}), "Service", "kingmaker-redis")
    assert [port["port"] for port in service["spec"]["ports"]] == [6379]


def test_a_service_gets_its_own_password_and_nobody_else_s() -> None:
    objects = chart.render(ACL)
    for component in CLASSES:
        [volume] = [v for v in pod_of(objects, component)["volumes"] if v["name"] == "redis-password"]
        assert volume["secret"] == {"secretName": "redis-users", "items": [{"key": component, "path": "password"}]}


def test_tokens_and_keys_of_the_gateway_are_in_no_other_pod() -> None:
    objects = chart.render(CASES["tokens and TLS"].values)
    for component in ("monitor", "controller"):
        assert not {v["name"] for v in pod_of(objects, component)["volumes"]} & {
            "tls",
            "predict-tokens",
            "feedback-tokens",
        }
    test_pod = chart.one(objects, "Pod", "kingmaker-test-predict-once")["spec"]
    [tls] = [v for v in test_pod["volumes"] if v["name"] == "tls"]
    assert [item["key"] for item in tls["secret"]["items"]] == ["tls.crt"], "the certificate, not the key"


def test_shards_of_the_monitor_are_the_ordinals_of_its_pods(mounted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = chart.render(CASES["three monitors"].values)
    stateful = chart.one(objects, "StatefulSet", "kingmaker-monitor")["spec"]
    [shard] = [
        e for e in stateful["template"]["spec"]["containers"][0]["env"] if e["name"] == "KINGMAKER_MONITOR_SHARD"
    ]
    assert shard["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.labels['apps.kubernetes.io/pod-index']"
    seen = set()
    for ordinal in range(stateful["replicas"]):
        settings: Any = read(objects, "monitor", mounted, monkeypatch, ordinal)
        seen.add((settings.shard, settings.shards))
    assert seen == {(0, 3), (1, 3), (2, 3)}


def test_what_the_chart_decides_is_not_a_value_too() -> None:
    """A setting that stands in a pod's environment twice would be whichever came last."""
    objects = chart.render(CASES["tokens and TLS"].values) + chart.render(CASES["sentinel"].values)
    for component in CLASSES:
        offered = settings_schema.schema_of(component)["properties"].keys()
        decided = {
            name.removeprefix(f"KINGMAKER_{component.upper()}_")
            for item in objects
            if item["kind"] in ("Deployment", "StatefulSet") and item["metadata"]["name"].endswith(component)
            for name in chart.environment(item["spec"]["template"]["spec"])
        }
        assert offered and not offered & decided


@pytest.mark.parametrize("component", CLASSES)
def test_settings_offered_are_documented(component: str) -> None:
    text = (ROOT / f"services/{component}/README.md").read_text()
    offered = settings_schema.schema_of(component)["properties"]
    assert not [name for name in offered if not re.search(rf"`{name}`", text)]


def test_a_leaving_gateway_has_time_for_all_it_has_to_do() -> None:
    """It serves on while it leaves the load balancers, finishes what it has, and writes its last events."""
    for values, leave, drain in (({}, 15, 10), ({"gateway": {"leaveSeconds": 60, "drainSeconds": 30}}, 60, 30)):
        objects = chart.render(values)
        deployment = chart.one(objects, "Deployment", "kingmaker-gateway")["spec"]
        pod = deployment["template"]["spec"]
        container = pod["containers"][0]
        assert container["lifecycle"]["preStop"]["sleep"]["seconds"] == leave
        assert json.loads(chart.environment(pod)["KINGMAKER_GATEWAY_DRAIN_SECONDS"]) == drain
        assert pod["terminationGracePeriodSeconds"] >= leave + drain + 5
        assert deployment["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
        assert container["readinessProbe"]["httpGet"] == {"path": "/health/ready", "port": "admin"}
        assert container["livenessProbe"]["httpGet"]["path"] == "/health/live", "an unready gateway is not restarted"


def test_the_controller_asks_the_registry_with_the_credentials_of_the_fetch_step() -> None:
    pod = pod_of(chart.render(CASES["sentinel"].values), "controller")
    assert pod["containers"][0]["envFrom"] == [{"secretRef": {"name": "mlflow"}}]
    assert chart.environment(pod)["KINGMAKER_CONTROLLER_KUBERNETES__REGISTRY_SECRET"] == "mlflow"
    assert "envFrom" not in pod_of(chart.render(), "controller")["containers"][0]
