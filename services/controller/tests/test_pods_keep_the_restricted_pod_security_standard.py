"""The objects of a variant, rule by rule: what the Pod Security Standard `restricted` asks, and what serving asks."""

import json
import re
from dataclasses import replace
from typing import Any

import pytest

from kingmaker_contracts.served_model import Challenger, Champion, LimitsSpec
from kingmaker_controller.rollout.facts import Identity, WantedVariant
from kingmaker_controller.runtimes import manifests
from kingmaker_controller.runtimes.manifests import Owner
from kingmaker_controller.runtimes.podspec import Pin, Template

OWNER = Owner("flights", "shop", "uid-1")
TEMPLATE = Template("registry.example/kingmaker-model-server:1", "http://mlflow:5000", registry_secret="mlflow")
PIN = Pin("3", "a" * 64)


def wanted(**asked: Any) -> WantedVariant:
    champion = Champion(name="lr", model="models:/flights@champion", **asked)
    return WantedVariant("lr", champion.model, "", "", None, champion.replicas, asked=champion)


def made(variant: WantedVariant | None = None, pin: Pin = PIN) -> dict[str, dict[str, Any]]:
    return {item["kind"]: item for item in manifests.objects(OWNER, variant or wanted(), pin, TEMPLATE)}


@pytest.fixture
def pod() -> dict[str, Any]:
    return dict(made()["Deployment"]["spec"]["template"]["spec"])


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [*pod["initContainers"], *pod["containers"]]


# the rules of https://kubernetes.io/docs/concepts/security/pod-security-standards, baseline first


def test_baseline_no_host_namespaces_ports_paths_or_processes(pod: dict[str, Any]) -> None:
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        assert not pod.get(field)
    assert "windowsOptions" not in pod["securityContext"]
    assert not any("hostPath" in volume for volume in pod["volumes"])
    for container in containers(pod):
        assert not any("hostPort" in port for port in container.get("ports", []))
        for hook in ("livenessProbe", "readinessProbe", "startupProbe"):
            assert "host" not in container.get(hook, {}).get("httpGet", {})


def test_baseline_no_privileges_added_or_masks_lifted(pod: dict[str, Any]) -> None:
    contexts = [pod["securityContext"], *(container["securityContext"] for container in containers(pod))]
    for context in contexts:
        assert not context.get("privileged")
        for field in ("procMount", "seLinuxOptions", "appArmorProfile", "sysctls", "windowsOptions"):
            assert field not in context
        assert not context.get("capabilities", {}).get("add")


def test_restricted_volume_types(pod: dict[str, Any]) -> None:
    allowed = {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
    for volume in pod["volumes"]:
        assert set(volume) - {"name"} <= allowed


def test_restricted_no_privilege_escalation(pod: dict[str, Any]) -> None:
    assert all(c["securityContext"]["allowPrivilegeEscalation"] is False for c in containers(pod))


def test_restricted_runs_as_non_root(pod: dict[str, Any]) -> None:
    assert pod["securityContext"]["runAsNonRoot"] is True and pod["securityContext"]["runAsUser"] > 0
    for container in containers(pod):
        assert container["securityContext"]["runAsNonRoot"] is True
        assert container["securityContext"].get("runAsUser") != 0


def test_restricted_seccomp(pod: dict[str, Any]) -> None:
    for context in (pod["securityContext"], *(c["securityContext"] for c in containers(pod))):
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}


def test_restricted_capabilities(pod: dict[str, Any]) -> None:
    assert all(c["securityContext"]["capabilities"] == {"drop": ["ALL"]} for c in containers(pod))


# more than the standard asks


def test_a_prometheus_that_selects_by_label_finds_a_models_monitor() -> None:
    labels = {"release": "prometheus", manifests.MANAGED_BY: "somebody"}
    made = manifests.monitor(OWNER, Template("image", "http://mlflow:5000", monitor_labels=labels))
    assert made["metadata"]["labels"]["release"] == "prometheus"
    assert made["metadata"]["labels"][manifests.MANAGED_BY] == "kingmaker", "or the controller would not know its own"


def test_a_server_takes_the_largest_body_its_model_may_be_sent() -> None:
    def limit(variant: WantedVariant) -> str | None:
        container = made(variant)["Deployment"]["spec"]["template"]["spec"]["containers"][0]
        env = {item["name"]: item["value"] for item in container["env"]}
        return env.get("KINGMAKER_MODEL_SERVER_MAX_BODY_BYTES")

    # two characters of JSON may be eight bytes of a tensor, and the tensors' names come before them
    large = int(limit(replace(wanted(), limits=LimitsSpec(maxBodyBytes=64 << 20))) or 0)
    assert 4 * (64 << 20) < large < 5 * (64 << 20)
    assert limit(wanted()) is None, "the server's own limit is made for the default, and its pods need not start anew"


def test_a_server_that_leaves_finishes_what_its_models_deadline_allows() -> None:
    for deadline_s, patience_s in ((1, 5), (60, 60)):
        limits = LimitsSpec(deadlineMilliseconds=deadline_s * 1000)
        pod = made(replace(wanted(), limits=limits))["Deployment"]["spec"]["template"]["spec"]
        env = {item["name"]: item["value"] for item in pod["containers"][0]["env"]}
        assert env["KINGMAKER_MODEL_SERVER_DRAIN_SECONDS"] == str(patience_s)
        leaving = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
        assert pod["terminationGracePeriodSeconds"] == leaving + patience_s + 10


def test_a_server_listens_where_the_cluster_has_addresses() -> None:
    template = Template("image", "http://mlflow:5000", listen_address="::")
    pod = manifests.objects(OWNER, wanted(), PIN, template)[-1]["spec"]["template"]["spec"]
    env = {item["name"]: item["value"] for item in pod["containers"][0]["env"]}
    assert env["KINGMAKER_MODEL_SERVER_HOST"] == "::", "0.0.0.0 is no address of a cluster with IPv6 alone"


def test_models_are_scraped_as_often_as_was_said() -> None:
    made = manifests.monitor(OWNER, Template("image", "http://mlflow:5000", monitor_interval="1m"))
    assert [endpoint["interval"] for endpoint in made["spec"]["endpoints"]] == ["1m"]


def test_service_monitors_of_long_names_are_valid_and_each_models_own() -> None:
    names = ["a" * 59 + "-" + end for end in ("bcd", "bce")]
    assert {len(name) for name in names} == {63}  # the longest the definition takes
    made = [manifests.monitor(Owner(name, "shop", "uid"), TEMPLATE)["metadata"]["name"] for name in names]
    assert len(set(made)) == 2
    assert all(re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", name) for name in made)


def test_nothing_of_the_cluster_leaks_into_a_pod(pod: dict[str, Any]) -> None:
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False, "a Service called kingmaker-gateway would set KINGMAKER_GATEWAY_PORT"
    assert all(c["securityContext"]["readOnlyRootFilesystem"] is True for c in containers(pod))
    assert [c["name"] for c in containers(pod) if "envFrom" in c] == ["fetch"], "credentials are the fetch step's alone"


def test_the_version_is_fetched_into_an_empty_folder_and_verified(pod: dict[str, Any]) -> None:
    fetch, server = pod["initContainers"][0], pod["containers"][0]
    assert fetch["args"][0] == "models:/flights/3", "an alias was resolved once, for all pods"
    env = {item["name"]: item["value"] for item in server["env"]}
    assert env["KINGMAKER_MODEL_SERVER_EXPECTED_SHA256"] == "a" * 64
    assert env["KINGMAKER_MODEL_SERVER_MODEL_DIR"] == fetch["args"][fetch["args"].index("--link") + 1]
    assert fetch["args"][fetch["args"].index("--report") + 1] == fetch["terminationMessagePath"]
    mounts = {mount["name"] for container in containers(pod) for mount in container["volumeMounts"]}
    assert mounts == {volume["name"] for volume in pod["volumes"] if volume["emptyDir"] == {}}


def test_probes_tell_loading_readiness_and_death_apart(pod: dict[str, Any]) -> None:
    server = pod["containers"][0]
    startup, readiness, liveness = (server[f"{kind}Probe"] for kind in ("startup", "readiness", "liveness"))
    assert startup["httpGet"]["path"] == readiness["httpGet"]["path"] == "/v2/health/ready"
    assert liveness["httpGet"]["path"] == "/v2/health/live", "a busy or unready server is not restarted"
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 300
    assert readiness["periodSeconds"] * readiness["failureThreshold"] <= 5
    assert liveness["periodSeconds"] * liveness["failureThreshold"] >= 30


def test_a_pod_leaves_traffic_before_it_ends(pod: dict[str, Any]) -> None:
    server = pod["containers"][0]
    env = {item["name"]: item["value"] for item in server["env"]}
    leaving, draining = (
        server["lifecycle"]["preStop"]["sleep"]["seconds"],
        int(env["KINGMAKER_MODEL_SERVER_DRAIN_SECONDS"]),
    )
    assert leaving >= 5 + 3 + 3, "DNS lives 5 s, gateways look up every 3 s"
    assert pod["terminationGracePeriodSeconds"] > leaving + draining


@pytest.mark.parametrize(
    ("cpu", "threads"), [("1", 1), ("500m", 1), ("1500m", 1), ("2", 2), ("3.9", 3), ("4000m", 4), ("0.1", 1)]
)
def test_threads_are_the_whole_cores_of_the_cpu_limit(cpu: str, threads: int) -> None:
    pod = made(wanted(resources={"cpu": cpu, "memory": "1Gi"}))["Deployment"]["spec"]["template"]["spec"]
    env = {item["name"]: item["value"] for item in pod["containers"][0]["env"]}
    assert env["KINGMAKER_MODEL_SERVER_THREADS"] == str(threads)
    assert pod["containers"][0]["resources"]["limits"] == {"cpu": cpu, "memory": "1Gi"}


def test_pods_are_spread_over_nodes_and_zones(pod: dict[str, Any]) -> None:
    keys = {constraint["topologyKey"] for constraint in pod["topologySpreadConstraints"]}
    assert keys == {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}
    labels = made()["Deployment"]["spec"]["template"]["metadata"]["labels"]
    for constraint in pod["topologySpreadConstraints"]:
        assert constraint["labelSelector"]["matchLabels"].items() <= labels.items()


def test_a_rolling_update_takes_no_capacity_away() -> None:
    strategy = made()["Deployment"]["spec"]["strategy"]["rollingUpdate"]
    assert strategy == {"maxSurge": 1, "maxUnavailable": 0}


def test_a_challenger_that_becomes_champion_restarts_nobody() -> None:
    challenger = Challenger(name="lr", model="models:/flights@champion", maxWeight=50)
    as_challenger = WantedVariant("lr", "models:/flights@champion", "", "", None, 1, asked=challenger)
    assert made(as_challenger) == made()


def test_what_is_known_later_restarts_nobody() -> None:
    pinned = WantedVariant("lr", "models:/flights@champion", "3", "b" * 64, "c" * 64, 1, asked=wanted().asked)
    assert made(pinned) == made()


def test_the_headless_service_and_the_budget_select_this_variants_pods_alone() -> None:
    found = made()
    labels = found["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert found["Service"]["spec"]["clusterIP"] == "None"
    assert found["Service"]["spec"]["selector"].items() <= labels.items()
    assert found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert found["PodDisruptionBudget"]["spec"]["maxUnavailable"] == 1
    other = Identity("lr", "models:/flights/4")
    assert manifests.name_of(OWNER.model, other) not in json.dumps(found)


def test_everything_is_owned_by_its_served_model() -> None:
    for item in made(wanted(autoscaling={"maxReplicas": 5})).values():
        (reference,) = item["metadata"]["ownerReferences"]
        assert reference["uid"] == "uid-1" and reference["controller"] is True
        assert item["metadata"]["namespace"] == "shop"


def test_an_autoscaler_owns_the_replicas_where_it_is_asked_for() -> None:
    found = made(wanted(replicas=2, autoscaling={"maxReplicas": 5, "targetCpuPercent": 60}))
    spec = found["HorizontalPodAutoscaler"]["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (2, 5)
    assert spec["scaleTargetRef"]["name"] == found["Deployment"]["metadata"]["name"]
    assert "replicas" not in found["Deployment"]["spec"]
    assert "HorizontalPodAutoscaler" not in made(wanted(replicas=0, autoscaling={"maxReplicas": 5}))


def test_priorities_and_resources_are_each_variants_own() -> None:
    found = made(wanted(priorityClassName="crown"))["Deployment"]["spec"]["template"]["spec"]
    assert found["priorityClassName"] == "crown"
    assert "priorityClassName" not in made()["Deployment"]["spec"]["template"]["spec"]


@pytest.mark.parametrize("name", ["a", "9lives", "x" * 63, "a-" * 30 + "a"])
def test_names_are_dns_labels_and_tell_models_apart(name: str) -> None:
    long = "v" * 40
    names = {manifests.name_of(f"shop/{name}", Identity(long, f"models:/m/{version}")) for version in range(5)}
    assert len(names) == 5
    for found in names:
        assert len(found) <= 63 and found[0].isalpha() and found[-1].isalnum() and found == found.lower()
    endpoint = manifests.endpoint_of(f"shop/{name}", Identity(long, "models:/m/1"))
    assert endpoint.endswith(".shop.svc:8080")


def test_without_a_tag_in_the_registry_no_hash_is_expected() -> None:
    pod = made(pin=Pin("3", ""))["Deployment"]["spec"]["template"]["spec"]
    names = {item["name"] for item in pod["containers"][0]["env"]}
    assert "KINGMAKER_MODEL_SERVER_EXPECTED_SHA256" not in names
