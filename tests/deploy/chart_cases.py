"""Values an operator may give the chart: each case must render with every Helm, and be accepted by every Kubernetes."""

from typing import NamedTuple

from tests.deploy.chart import GATEWAY_API, PROMETHEUS_OPERATOR, Values


class Case(NamedTuple):
    values: Values
    apis: tuple[str, ...] = ()


ACL: Values = {"redis": {"acl": {"enabled": True, "existingSecret": "redis-users"}}}
EXTERNAL: Values = {"redis": {"enabled": False}, "mlflow": {"enabled": False}}
CHAMPION = {"name": "lr", "model": "models:/flights@champion"}
MODEL = {"champion": CHAMPION, "challengers": [{"name": "gbm", "model": "models:/flights@challenger"}]}
_PLACED = {
    "nodeSelector": {"kubernetes.io/arch": "amd64"},
    "tolerations": [{"key": "ml", "operator": "Exists", "effect": "NoSchedule"}],
    "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "other"}}}]}},
    "priorityClassName": "high", "podAnnotations": {"team": "ml"}, "serviceAccountAnnotations": {"role": "arn:x"},
    "resources": {"requests": {"cpu": 1, "memory": "1Gi"}, "limits": {"memory": "1Gi"}},
}  # fmt: skip

CASES: dict[str, Case] = {
    "nothing set": Case({}),
    "redis with users": Case(ACL),
    "redis of another house": Case({**EXTERNAL, "registry": {"uri": "https://mlflow.example.com"}, "externalRedis": {
        "url": "rediss://redis.example.com:6380/2", "passwordSecret": "redis", "caSecret": "redis-ca",
        "usernames": {"gateway": "g", "monitor": "m", "controller": "c"},
        "peers": [{"ipBlock": {"cidr": "10.8.0.0/16"}}]}}),
    "sentinel": Case({**EXTERNAL, "registry": {"uri": "http://mlflow.ml:5000", "credentialsSecret": "mlflow"},
                      "externalRedis": {"url": "rediss+sentinel://s1:26379,s2:26379/main/0", "passwordSecret": "redis",
                                        "sentinelUsername": "s", "sentinelPasswordSecret": "redis",
                                        "caSecret": "ca", "clientCertificateSecret": "mine"}}),
    "cluster": Case({"redis": {"enabled": False}, "externalRedis": {"url": "redis+cluster://r1:6379,r2:7000"}}),
    "the image of Redis": Case({"redis": {"flavour": "redis", "image": {"repository": "redis", "tag": "7.4"}}}),
    "nothing kept": Case({name: {"persistence": {"enabled": False}} for name in ("redis", "monitor", "mlflow")}),
    "storage classes": Case({name: {"persistence": {"storageClass": "fast", "size": "100Gi"}}
                             for name in ("redis", "monitor", "mlflow")}),
    "autoscaled": Case({"gateway": {"autoscaling": {"enabled": True, "targetInFlight": 64}},
                        "monitoring": {"metricsAdapter": True}}),
    "autoscaled on CPU alone": Case({"gateway": {"autoscaling": {"enabled": True, "maxReplicas": 40}}}),
    "prometheus operator": Case({"monitoring": {"labels": {"release": "prometheus"}}}, PROMETHEUS_OPERATOR),
    "an ingress": Case({"ingress": {"enabled": True, "className": "nginx", "host": "kingmaker.example.com",
                                    "tls": {"secret": "cert"}, "annotations": {"a": "b"}}}),
    "an ingress without a host": Case({"ingress": {"enabled": True}}),
    "a route": Case({"httpRoute": {"enabled": True, "hostnames": ["k.example.com"], "parentRefs": [
        {"name": "public", "namespace": "edge", "sectionName": "https"}]}}, GATEWAY_API),
    "tokens and TLS": Case({"gateway": {"tls": {"secret": "tls"}, "auth": {
        "predictTokensSecret": "predict", "feedbackTokensSecret": "feedback"}}}),
    "no network policies": Case({"networkPolicy": {"enabled": False}}),
    "chosen clients": Case({"networkPolicy": {"clients": [{"namespaceSelector": {"matchLabels": {"team": "web"}}}],
                                              "publishers": [{"podSelector": {"matchLabels": {"job": "train"}}}],
                                              "kubernetesApi": [{"ipBlock": {"cidr": "10.0.0.1/32"}}]}}),
    "a bucket": Case({"mlflow": {"enabled": False},
                      "registry": {"uri": "https://mlflow.example.com:8443", "artifactPorts": [443]}}),
    "three monitors": Case({"monitor": {"shards": 3}}),
    "models": Case({"models": {"flights": MODEL,
                               "prices": {"champion": CHAMPION, "limits": {"maxBodyBytes": 1 << 30}}}}),
    "models with weights": Case({"models": {"flights": {**MODEL, "weights": {"gbm": 20}}}}),
    "placed": Case(dict.fromkeys(("gateway", "monitor", "controller", "mlflow"), _PLACED) | {
        "redis": {**_PLACED, **ACL["redis"]}}),
    "images": Case({"image": {"registry": "registry.example.com/ml", "tag": "1.2.3", "pullPolicy": "Always",
                              "pullSecrets": ["pull"]}, "gateway": {"image": {"digest": "sha256:" + "a" * 64}}}),
    "names": Case({"fullnameOverride": "km-shop", "commonLabels": {"team": "ml"}, "listenAddress": "::",
                   "clusterDomain": "example.local", "logLevel": "DEBUG"}),
    "settings": Case({"gateway": {"settings": {"RECORDER__BUFFER_ROWS": 2000000, "HOT_PATH": False}},
                      "monitor": {"settings": {"DRIFT_SECONDS": 7.5}},
                      "controller": {"settings": {"KUBERNETES__SWEEP_S": 10}}}),
    "small": Case({"gateway": {"replicas": 1, "leaveSeconds": 0, "podDisruptionBudget": {"enabled": False}},
                   "controller": {"replicas": 1, "tokenSecret": "token"}, "helmTest": {"enabled": False}}),
}  # fmt: skip
