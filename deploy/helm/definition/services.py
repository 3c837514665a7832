"""Values of the three services, of the model servers' image and of the store and registry beside them."""

from typing import Annotated, Literal

from pydantic import Field

from deploy.helm.definition.parts import (
    DisruptionBudget,
    Image,
    Part,
    Peers,
    Persistence,
    Placed,
    Port,
    Resources,
    SecretName,
    amounts,
)
from deploy.helm.definition.settings import SETTINGS_OF

Setting = str | int | float | bool


class GatewayAutoscaling(Part):
    """A HorizontalPodAutoscaler of the gateway."""

    enabled: bool = Field(default=False, description="Let Kubernetes choose the number of gateways.")
    min_replicas: Annotated[int, Field(ge=1)] = Field(default=2, description="The fewest.")
    max_replicas: Annotated[int, Field(ge=1)] = Field(default=10, description="The most.")
    target_cpu_percent: Annotated[int, Field(ge=1, le=100)] = Field(
        default=70, description="Of the CPU request: more gateways above it. One gateway uses one core at most."
    )
    target_in_flight: Annotated[int, Field(ge=0)] = Field(
        default=0,
        description="Requests in flight at one gateway on average: more gateways above it. 0: CPU alone decides. Needs "
        "monitoring.metricsAdapter.",
    )


class GatewayService(Part):
    """The one address clients call."""

    type: Literal["ClusterIP", "NodePort", "LoadBalancer"] = Field(default="ClusterIP", description="Kind of Service.")
    port: Port = Field(default=8080, description="Port of the Service; pods listen on 8080.")
    annotations: dict[str, str] = Field(default={}, description="Annotations of the Service.")


class GatewayAuth(Part):
    """Client tokens. Without them whoever reaches the gateway may predict: an Ingress or the network decides."""

    predict_tokens_secret: SecretName = Field(
        default="", description="Secret whose key `tokens` has lines name:token; predictions then need one of them."
    )
    feedback_tokens_secret: SecretName = Field(default="", description="The same for feedback.")


class GatewayTls(Part):
    """TLS at the gateway itself, beside what an Ingress does."""

    secret: SecretName = Field(default="", description="Secret with tls.crt and tls.key; the address is https then.")


class Gateway(Placed):
    """Answers clients."""

    image: Image = Field(default=Image(repository="kingmaker-gateway"), description="Its image.")
    replicas: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="Number of gateways; 2 when left out. Not with autoscaling."
    )
    autoscaling: GatewayAutoscaling = Field(
        default=GatewayAutoscaling(), description="A HorizontalPodAutoscaler on CPU and requests in flight."
    )
    pod_disruption_budget: DisruptionBudget = Field(
        default=DisruptionBudget(), description="How many gateways a node drain may take at once."
    )
    leave_seconds: Annotated[int, Field(ge=0, le=300)] = Field(
        default=15,
        description="A leaving gateway serves this much longer, until load balancers have heard of it. Raise it when "
        "yours are slow to.",
    )
    drain_seconds: Annotated[int, Field(ge=1, le=600)] = Field(
        default=10, description="Then requests in flight get this long. At least the longest deadline of a model."
    )
    service: GatewayService = Field(default=GatewayService(), description="The one address clients call.")
    auth: GatewayAuth = Field(
        default=GatewayAuth(), description="Client tokens; without them an Ingress or the network decides who may ask."
    )
    tls: GatewayTls = Field(default=GatewayTls(), description="TLS at the gateway itself.")
    settings: dict[str, Setting] = Field(
        default={},
        description="Settings of services/gateway/README.md without their prefix: {RECORDER__FLUSH_MS: 200}.",
        json_schema_extra={SETTINGS_OF: "gateway"},
    )
    resources: Resources = Field(
        default=amounts("500m", "256Mi", "1Gi"), description="Requests and limits of the container."
    )


class Monitor(Placed):
    """Turns events and labels into evidence."""

    image: Image = Field(default=Image(repository="kingmaker-monitor"), description="Its image.")
    shards: Annotated[int, Field(ge=1, le=100)] = Field(
        default=1,
        description="Monitors that share the models by the hash of their names, each with a volume of its own. A "
        "change moves models to monitors that have not counted them: their windows begin anew.",
    )
    persistence: Persistence = Field(
        default=Persistence(size="5Gi"), description="The file with everything that was counted."
    )
    pod_disruption_budget: DisruptionBudget = Field(
        default=DisruptionBudget(), description="How many monitors a node drain may take at once."
    )
    settings: dict[str, Setting] = Field(
        default={},
        description="Settings of services/monitor/README.md without their prefix: {DRIFT_SECONDS: 10}.",
        json_schema_extra={SETTINGS_OF: "monitor"},
    )
    resources: Resources = Field(
        default=amounts("250m", "512Mi", "2Gi"), description="Requests and limits of the container."
    )


class Controller(Placed):
    """Keeps model servers running and says who answers for which share of the traffic."""

    image: Image = Field(default=Image(repository="kingmaker-controller"), description="Its image.")
    replicas: Annotated[int, Field(ge=1, le=5)] = Field(
        default=2, description="Controllers; one of them leads, the others wait in line."
    )
    token_secret: SecretName = Field(
        default="",
        description="Secret whose key `token` opens the controller's API. Empty: the chart makes one and keeps it "
        "through upgrades, which needs a cluster to look it up in: set it when you render elsewhere.",
    )
    pod_disruption_budget: DisruptionBudget = Field(
        default=DisruptionBudget(), description="How many controllers a node drain may take at once."
    )
    settings: dict[str, Setting] = Field(
        default={},
        description="Settings of services/controller/README.md without their prefix: {KUBERNETES__SWEEP_S: 10}.",
        json_schema_extra={SETTINGS_OF: "controller"},
    )
    resources: Resources = Field(
        default=amounts("100m", "192Mi", "512Mi"), description="Requests and limits of the container."
    )


class ModelServer(Part):
    """What the controller needs to know of model-server pods. How many, and what they get, stands in each model."""

    image: Image = Field(
        default=Image(repository="kingmaker-model-server"), description="Image of model servers and their fetch step."
    )


class RedisAcl(Part):
    """A user for each service, with the least rights."""

    enabled: bool = Field(
        default=False,
        description="Only the controller may write routing and plans; nobody gets in without a password.",
    )
    existing_secret: SecretName = Field(
        default="",
        description="Secret with a password each under the keys gateway, monitor, controller, and admin if people "
        "shall have one.",
    )


class Redis(Placed):
    """One Valkey or Redis of the chart's own. For more than one node run your own and set externalRedis."""

    enabled: bool = Field(default=True, description="false: externalRedis.url says where Redis is.")
    image: Image = Field(
        default=Image(repository="docker.io/valkey/valkey", tag="8.1-alpine"), description="Its image."
    )
    flavour: Literal["valkey", "redis"] = Field(default="valkey", description="How the image calls its programs.")
    max_memory: str = Field(
        default="768mb",
        pattern=r"^[0-9]+(kb|mb|gb)$",
        description="Above it writes are refused and nothing is thrown away. Leave room below the memory limit for "
        "rewrites of the append-only file.",
    )
    persistence: Persistence = Field(default=Persistence(), description="The append-only file, synced every second.")
    acl: RedisAcl = Field(default=RedisAcl(), description="A user for each service, with the least rights.")
    resources: Resources = Field(
        default=amounts("250m", "512Mi", "1Gi"), description="Requests and limits of the container."
    )


class Usernames(Part):
    """ACL users. Empty: the default user."""

    gateway: str = Field(default="", description="The gateway's.")
    monitor: str = Field(default="", description="The monitor's.")
    controller: str = Field(default="", description="The controller's.")


class ExternalRedis(Part):
    """A Redis >= 7.0 or Valkey that is there already."""

    url: str = Field(
        default="",
        pattern=r"^(rediss?(\+sentinel|\+cluster)?://.+)?$",
        description="redis://host:6379/0, redis+sentinel://h1:26379,h2:26379/<master>/<db> or "
        "redis+cluster://h1:6379,h2:6379; rediss for TLS. Without a password in it.",
    )
    password_secret: SecretName = Field(
        default="", description="Secret with a password each under the keys gateway, monitor and controller."
    )
    usernames: Usernames = Field(default=Usernames(), description="ACL users; empty: the default user.")
    ca_secret: SecretName = Field(default="", description="Secret whose key ca.crt signs the server's certificate.")
    client_certificate_secret: SecretName = Field(
        default="", description="Secret with tls.crt and tls.key, for servers that ask for a certificate."
    )
    sentinel_username: str = Field(default="", description="ACL user at the Sentinels themselves.")
    sentinel_password_secret: SecretName = Field(
        default="", description="Secret whose key `sentinel` is the password at the Sentinels, if they ask for one."
    )
    ports: list[Port] = Field(
        default=[], description="Ports the NetworkPolicies open. Empty: those of the URL, and 6379 with Sentinel."
    )
    peers: Peers = Field(default=[], description="Where it is, as NetworkPolicy peers. Empty: anywhere.")


class Mlflow(Placed):
    """An MLflow of the chart's own on SQLite: a registry to start with."""

    enabled: bool = Field(default=True, description="false: registry.uri says where MLflow is.")
    image: Image = Field(default=Image(repository="ghcr.io/mlflow/mlflow", tag="v3.17.2"), description="Its image.")
    persistence: Persistence = Field(
        default=Persistence(size="20Gi"), description="Database and models. Kept when the release is uninstalled."
    )
    allowed_hosts: list[str] = Field(
        default=[], description="Names beside its Service's that people call it by, for the Host header."
    )
    resources: Resources = Field(
        default=amounts("250m", "768Mi", "2Gi"), description="Requests and limits of the container."
    )


class Registry(Part):
    """An MLflow that is there already."""

    uri: str = Field(default="", pattern=r"^(https?://[^@]+)?$", description="http(s)://..., without a password in it.")
    credentials_secret: SecretName = Field(
        default="",
        description="Secret whose entries become variables of controller and fetch step, as MLFLOW_TRACKING_TOKEN.",
    )
    peers: Peers = Field(default=[], description="Where it is, as NetworkPolicy peers. Empty: anywhere, on its port.")
    artifact_ports: list[Port] = Field(
        default=[],
        description="Ports of an artifact store that model servers fetch from past MLflow, as 443 for a bucket; their "
        "image then needs its client beside it (boto3, say). Empty: MLflow hands artifacts out itself.",
    )
