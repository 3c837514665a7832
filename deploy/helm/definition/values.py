"""The one definition of the chart's values: types, defaults, and the words an operator reads.

`python -m deploy.helm.definition` writes values.yaml and values.schema.json from it, so that neither can say
something the other does not. A ServedModel's part is the CRD's own schema.
"""

from typing import Any, Literal

from pydantic import Field

from deploy.helm.definition.parts import Part, Peers, Port, PullPolicy, SecretName
from deploy.helm.definition.schema import SERVED_MODELS
from deploy.helm.definition.services import (
    Controller,
    ExternalRedis,
    Gateway,
    Mlflow,
    ModelServer,
    Monitor,
    Redis,
    Registry,
)


class Images(Part):
    """What is the same for all images of Kingmaker."""

    registry: str = Field(
        default="",
        pattern=r"^([^\s]*[^/\s])?$",
        description="Put before the four repositories: registry.example.com/ml.",
    )
    tag: str = Field(default="", description="Empty: the chart's appVersion.")
    pull_policy: PullPolicy = Field(default="IfNotPresent", description="Of all pods, model servers too.")
    pull_secrets: list[SecretName] = Field(default=[], description="Secrets to pull with, of all pods.")


class Monitoring(Part):
    """What the Prometheus operator is told, in clusters that know its kinds."""

    service_monitors: bool = Field(default=True, description="ServiceMonitors of all services, model servers too.")
    rules: bool = Field(default=True, description="The alerts of deploy/monitoring as PrometheusRules.")
    dashboard: bool = Field(default=True, description="A ConfigMap that Grafana's sidecar finds.")
    labels: dict[str, str] = Field(
        default={}, description="Labels your Prometheus selects by, as {release: kube-prometheus-stack}."
    )
    dashboard_labels: dict[str, str] = Field(
        default={"grafana_dashboard": "1"}, description="Labels your Grafana's sidecar selects by."
    )
    interval: str = Field(
        default="15s", pattern=r"^[0-9]+(s|m)$", description="How often is scraped, model servers too."
    )
    metrics_adapter: bool = Field(
        default=False,
        description="Say that a metrics adapter serves kingmaker_gateway_in_flight of pods (custom.metrics.k8s.io).",
    )


class IngressTls(Part):
    """TLS of the Ingress."""

    secret: SecretName = Field(default="", description="Secret with the certificate. Empty: plain HTTP.")


class Ingress(Part):
    """A way in from outside, by an Ingress controller."""

    enabled: bool = Field(default=False, description="Whether there is an Ingress.")
    class_name: str = Field(default="", description="Empty: the cluster's default.")
    host: str = Field(default="", description="Empty: any.")
    annotations: dict[str, str] = Field(default={}, description="Annotations of the Ingress.")
    tls: IngressTls = Field(default=IngressTls(), description="TLS of the Ingress.")


class ParentRef(Part):
    """A Gateway an HTTPRoute belongs to."""

    name: str = Field(min_length=1, description="Its name.")
    namespace: str = Field(default="", description="Empty: the release's.")
    section_name: str = Field(default="", description="A listener of it. Empty: all.")


class HttpRoute(Part):
    """A way in from outside, by the Gateway API."""

    enabled: bool = Field(default=False, description="Whether there is an HTTPRoute.")
    parent_refs: list[ParentRef] = Field(default=[], description="The Gateways it belongs to.")
    hostnames: list[str] = Field(default=[], description="Empty: any.")
    annotations: dict[str, str] = Field(default={}, description="Annotations of the HTTPRoute.")


class NetworkPolicies(Part):
    """NetworkPolicies for the connections of docs/architecture.md and nothing else."""

    enabled: bool = Field(default=True, description="Whether there are any. Your network plugin must enforce them.")
    clients: Peers = Field(default=[], description="Who may call the gateway. Empty: everybody.")
    publishers: Peers = Field(
        default=[], description="Who may write to the chart's MLflow. Empty: nobody but a port-forward."
    )
    prometheus: Peers = Field(
        default=[{"namespaceSelector": {}, "podSelector": {"matchLabels": {"app.kubernetes.io/name": "prometheus"}}}],
        description="Who may read metrics.",
    )
    dns: Peers = Field(
        default=[
            {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
                "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
            }
        ],
        description="Who answers DNS.",
    )
    kubernetes_api: Peers = Field(
        default=[], description="Where the API server is, for the controller. Empty: anywhere, on these ports."
    )
    kubernetes_api_ports: list[Port] = Field(
        default=[443, 6443], description="The Service's port and the one behind it; plugins differ in which they see."
    )


class HelmTest(Part):
    """`helm test`: one prediction."""

    enabled: bool = Field(default=True, description="Whether there is a test pod.")
    model: str = Field(default="", description="Which model is asked. Empty: the first the gateway serves.")
    body: str = Field(
        default="", description="JSON of an infer request. Empty: one row made up from the model's metadata."
    )


class Values(Part):
    """All values."""

    name_override: str = Field(default="", max_length=40, description="Instead of the chart's name in names.")
    fullname_override: str = Field(default="", max_length=40, description="All names begin with it.")
    common_labels: dict[str, str] = Field(default={}, description="Labels of every object of the chart.")
    cluster_domain: str = Field(default="cluster.local", description="DNS domain of the cluster.")
    listen_address: Literal["0.0.0.0", "::"] = Field(  # noqa: S104 - the pods' own network
        default="0.0.0.0",  # noqa: S104
        description='Address pods listen on; "::" for clusters with IPv6 alone.',
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(default="INFO", description="Of all services.")
    image: Images = Field(default=Images(), description="What is the same for all images of Kingmaker.")
    gateway: Gateway = Field(default=Gateway(), description="Answers clients.")
    monitor: Monitor = Field(default=Monitor(), description="Turns events and labels into evidence.")
    controller: Controller = Field(
        default=Controller(), description="Keeps model servers running and says who answers for which traffic."
    )
    model_server: ModelServer = Field(
        default=ModelServer(), description="The controller starts model servers; each model says what they get."
    )
    redis: Redis = Field(default=Redis(), description="One Valkey or Redis of the chart's own.")
    external_redis: ExternalRedis = Field(default=ExternalRedis(), description="Or one that is there already.")
    mlflow: Mlflow = Field(default=Mlflow(), description="An MLflow of the chart's own: a registry to start with.")
    registry: Registry = Field(default=Registry(), description="Or one that is there already.")
    models: dict[str, Any] = Field(
        default={},
        description="ServedModels by name, each the `spec` of one. Leave weights out and people set them with kubectl; "
        "give them and they are this release's. docs/kubectl.md says who wins.",
        json_schema_extra={SERVED_MODELS: True},
    )
    ingress: Ingress = Field(default=Ingress(), description="A way in from outside, by an Ingress controller.")
    http_route: HttpRoute = Field(default=HttpRoute(), description="A way in from outside, by the Gateway API.")
    network_policy: NetworkPolicies = Field(
        default=NetworkPolicies(),
        description="Only the connections of docs/architecture.md; everything else is denied.",
    )
    monitoring: Monitoring = Field(
        default=Monitoring(), description="For the Prometheus operator, in clusters that know its kinds."
    )
    helm_test: HelmTest = Field(default=HelmTest(), description="`helm test` predicts once.")
