"""Values that are fine one by one and cannot work together stop the template, with a sentence that says what to set."""

import json
import re

import pytest

from tests.deploy.chart import CHART, HELMS, Refused, Values, render, text
from tests.deploy.chart_cases import CHAMPION, EXTERNAL

OUTSIDE = {"redis": {"enabled": False}, "externalRedis": {"url": "redis://r:6379/0"}}

IMPOSSIBLE: dict[str, tuple[Values, str]] = {
    "a Redis that one busy model fills": (
        {"redis": {"maxMemory": "192mb"}},
        "redis.maxMemory is 192mb and one model's events may take 268435456 bytes: a full Redis refuses every write, "
        "changes of routing too. Set gateway.settings.RECORDER__MAX_STREAM_BYTES to four fifths of redis.maxMemory at "
        "most.",
    ),
    "a label that pods are found by": (
        {"commonLabels": {"team": "ml", "app.kubernetes.io/component": "models"}},
        "commonLabels has app.kubernetes.io/component, which the chart sets itself. Take another label.",
    ),
    "a label that network policies go by": (
        {"commonLabels": {"app.kubernetes.io/part-of": "platform"}},
        "commonLabels has app.kubernetes.io/part-of, which the chart sets itself. Take another label.",
    ),
    "two Redises": (
        {"externalRedis": {"url": "redis://r"}},
        "redis.enabled is true and externalRedis.url is set: there can be one Redis. Set redis.enabled=false, or leave "
        "externalRedis.url empty.",
    ),
    "no Redis": (
        {"redis": {"enabled": False}},
        "there is no Redis: set redis.enabled=true, or externalRedis.url to the address of yours.",
    ),
    "a password in the open": (
        {**OUTSIDE, "externalRedis": {"url": "redis://:secret@r:6379/0"}},
        "externalRedis.url carries a user or password, which everybody who may read Deployments would see. Set "
        "externalRedis.usernames and externalRedis.passwordSecret instead.",
    ),
    "a user without a password": (
        {**OUTSIDE, "externalRedis": {"url": "redis://r", "usernames": {"gateway": "g"}}},
        "externalRedis.usernames.gateway is set without a password: set externalRedis.passwordSecret to a Secret with "
        "the keys gateway, monitor and controller.",
    ),
    "a password for nobody": (
        {"externalRedis": {"passwordSecret": "x"}},
        "externalRedis.passwordSecret means nothing while redis.enabled is true. Set redis.enabled=false and "
        "externalRedis.url, or leave it empty.",
    ),
    "a CA for a connection without TLS": (
        {**OUTSIDE, "externalRedis": {"url": "redis://r", "caSecret": "ca"}},
        "externalRedis.caSecret means nothing without TLS: begin externalRedis.url with rediss, or leave it empty.",
    ),
    "a password for no Sentinels": (
        {**OUTSIDE, "externalRedis": {"url": "redis://r", "sentinelPasswordSecret": "s"}},
        "externalRedis.sentinelPasswordSecret means nothing without Sentinels: begin externalRedis.url with "
        "redis+sentinel://, or leave it empty.",
    ),
    "a user at the Sentinels without a password": (
        {**OUTSIDE, "externalRedis": {"url": "redis+sentinel://s/main/0", "sentinelUsername": "s"}},
        "externalRedis.sentinelUsername is set without a password: set externalRedis.sentinelPasswordSecret to a "
        "Secret with the key sentinel.",
    ),
    "users without passwords": (
        {"redis": {"acl": {"enabled": True}}},
        "redis.acl.enabled is true without passwords: set redis.acl.existingSecret to a Secret with the keys gateway, "
        "monitor and controller.",
    ),
    "passwords without users": (
        {"redis": {"acl": {"existingSecret": "x"}}},
        "redis.acl.existingSecret means nothing while redis.acl.enabled is false: set redis.acl.enabled=true, or leave "
        "it empty.",
    ),
    "users of another house's Redis": (
        {**OUTSIDE, "redis": {"enabled": False, "acl": {"enabled": True, "existingSecret": "x"}}},
        "redis.acl is for the chart's own Redis: set redis.enabled=true, or make the users yourself and set "
        "externalRedis.usernames and externalRedis.passwordSecret.",
    ),
    "a Redis that is killed before it is full": (
        {"redis": {"maxMemory": "1gb"}},
        "redis.maxMemory is 1gb and redis.resources.limits.memory is 1Gi: Redis would be killed before it refuses a "
        "write. Leave it a fifth of the limit at least.",
    ),
    "two registries": (
        {"registry": {"uri": "http://mlflow"}},
        "mlflow.enabled is true and registry.uri is set: there can be one registry. Set mlflow.enabled=false, or leave "
        "registry.uri empty.",
    ),
    "no registry": (
        {"mlflow": {"enabled": False}},
        "there is no registry to fetch models from: set mlflow.enabled=true, or registry.uri to the address of your "
        "MLflow.",
    ),
    "models without a registry": (
        {"mlflow": {"enabled": False}, "models": {"flights": {"champion": CHAMPION}, "ads": {"champion": CHAMPION}}},
        "there is no registry to fetch ads, flights from: set mlflow.enabled=true, or registry.uri to the address of "
        "your MLflow.",
    ),
    "credentials nobody asks for": (
        {"registry": {"credentialsSecret": "x"}},
        "registry.credentialsSecret means nothing while mlflow.enabled is true: the chart's MLflow asks for no "
        "credentials. Set mlflow.enabled=false and registry.uri, or leave it empty.",
    ),
    "a number beside the autoscaler": (
        {"gateway": {"replicas": 3, "autoscaling": {"enabled": True}}},
        "gateway.replicas is 3 and gateway.autoscaling.enabled is true: the autoscaler sets the number. Leave "
        "gateway.replicas out and set gateway.autoscaling.minReplicas.",
    ),
    "fewest above most": (
        {"gateway": {"autoscaling": {"enabled": True, "minReplicas": 20}}},
        "gateway.autoscaling.minReplicas is 20, more than maxReplicas, which is 10. Set maxReplicas to at least as "
        "many.",
    ),
    "CPU in percent of nothing": (
        {"gateway": {"autoscaling": {"enabled": True}, "resources": {"requests": {"cpu": None}}}},
        "gateway.autoscaling counts CPU in percent of the request, and there is none: set "
        "gateway.resources.requests.cpu.",
    ),
    "requests in flight without an adapter": (
        {"gateway": {"autoscaling": {"enabled": True, "targetInFlight": 64}}},
        "gateway.autoscaling.targetInFlight needs a metrics adapter that serves kingmaker_gateway_in_flight of pods: "
        "install one and set monitoring.metricsAdapter=true, or set targetInFlight=0.",
    ),
    "requests in flight without an autoscaler": (
        {"gateway": {"autoscaling": {"targetInFlight": 64}}},
        "gateway.autoscaling.targetInFlight means nothing while gateway.autoscaling.enabled is false: set "
        "gateway.autoscaling.enabled=true.",
    ),
    "a budget for all gateways": (
        {"gateway": {"podDisruptionBudget": {"maxUnavailable": 2}}},
        "gateway.podDisruptionBudget.maxUnavailable is 2 and there may be only 2 gateways: a drain could take them "
        "all. Set it lower.",
    ),
    "a route without the Gateway API": (
        {"httpRoute": {"enabled": True, "parentRefs": [{"name": "public"}]}},
        "httpRoute.enabled is true, and this cluster does not know HTTPRoutes: install the Gateway API or set "
        "httpRoute.enabled=false (with helm template: --api-versions gateway.networking.k8s.io/v1/HTTPRoute).",
    ),
    "a route of no Gateway": (
        {"httpRoute": {"enabled": True}},
        "httpRoute.enabled is true without a Gateway to belong to: set httpRoute.parentRefs[0].name.",
    ),
    "a certificate for no host": (
        {"ingress": {"enabled": True, "tls": {"secret": "cert"}}},
        "ingress.tls.secret is set without a host the certificate is for: set ingress.host.",
    ),
    "a deadline longer than the drain": (
        {"models": {"slow": {"champion": CHAMPION, "limits": {"deadlineMilliseconds": 60500}}}},
        "models.slow.limits.deadlineMilliseconds is 60500 and gateway.drainSeconds is 10: a gateway that leaves would "
        "cut requests off. Set gateway.drainSeconds to at least 61.",
    ),
    "events nobody reads": (
        {"gateway": {"settings": {"PARTITION": 3}}},
        "gateway.settings.PARTITION is 3 and the monitor reads 1 partitions, counted from 0: set "
        "monitor.settings.PARTITIONS to at least 4.",
    ),
    "a request of no model": (
        {"helmTest": {"body": "{}"}},
        "helmTest.body is a request of one model: set helmTest.model too.",
    ),
}


@pytest.mark.parametrize("version", HELMS)
@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_it_says_what_to_set(name: str, version: str) -> None:
    values, sentence = IMPOSSIBLE[name]
    with pytest.raises(Refused) as refused:
        render(values, version=version)
    assert sentence in str(refused.value).splitlines()


def test_every_sentence_of_the_chart_is_tried_here() -> None:
    written = (CHART / "templates/_checks.tpl").read_text()
    sentences = re.findall(r'append \$found (?:\(printf )?"([^"]+)"', written)
    patterns = [re.escape(s).replace("%v", ".+").replace("%s", ".+") for s in sentences]
    tried = [sentence for _, sentence in IMPOSSIBLE.values()]
    missing = [p for p in patterns if not any(re.fullmatch(p, sentence) for sentence in tried)]
    assert len(sentences) >= 20 and not missing


def test_all_that_is_wrong_is_said_at_once() -> None:
    values = {**EXTERNAL, "gateway": {"replicas": 3, "autoscaling": {"enabled": True}}}
    with pytest.raises(Refused) as refused:
        text(json.dumps(values))
    said = str(refused.value)
    assert "there is no Redis" in said and "there is no registry" in said and "gateway.replicas is 3" in said
