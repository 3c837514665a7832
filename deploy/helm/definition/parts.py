"""What several parts of the chart's values have in common, and the base every part inherits.

Unknown fields are errors everywhere: a value with a typo would otherwise do nothing, silently.
"""

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

KUBERNETES: Final = "x-kubernetes-definition"
"""Marks a field whose schema is Kubernetes' own: `schema` puts it in place."""

_CORE: Final = "io.k8s.api.core.v1"
_NETWORKING: Final = "io.k8s.api.networking.v1"

Port = Annotated[int, Field(ge=1, le=65535)]
Quantity = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?(Ki|Mi|Gi|Ti|k|M|G|T)?$")]
SecretName = Annotated[str, Field(pattern=r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$", max_length=253)]
Resources = Annotated[dict[str, Any], Field(json_schema_extra={KUBERNETES: f"{_CORE}.ResourceRequirements"})]
Tolerations = Annotated[list[Any], Field(json_schema_extra={KUBERNETES: f"{_CORE}.Toleration"})]
Affinity = Annotated[dict[str, Any], Field(json_schema_extra={KUBERNETES: f"{_CORE}.Affinity"})]
Peers = Annotated[list[Any], Field(json_schema_extra={KUBERNETES: f"{_NETWORKING}.NetworkPolicyPeer"})]


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True)


class Image(Part):
    """One container image."""

    repository: str = Field(
        min_length=1, description="Name of the image, with its registry if image.registry has none."
    )
    tag: str = Field(default="", description="Empty: image.tag, and without that the chart's appVersion.")
    digest: str = Field(
        default="", pattern=r"^(sha256:[0-9a-f]{64})?$", description="sha256:..., and then the tag means nothing."
    )


class Placed(Part):
    """Where pods of a component may run and what they get."""

    resources: Resources = Field(default={}, description="Requests and limits of the container.")
    node_selector: dict[str, str] = Field(default={}, description="Labels a node must have.")
    tolerations: Tolerations = Field(default=[], description="Taints that do not keep the pods away.")
    affinity: Affinity = Field(default={}, description="Beside the spread over nodes and zones there always is.")
    priority_class_name: str = Field(default="", description="PriorityClass of the pods; it must exist.")
    pod_annotations: dict[str, str] = Field(default={}, description="Annotations of the pods.")
    service_account_annotations: dict[str, str] = Field(
        default={}, description="Annotations of the service account, for a cloud's workload identity."
    )


class Persistence(Part):
    """A volume of one pod."""

    enabled: bool = Field(default=True, description="false: what is stored is gone with the pod.")
    size: Quantity = Field(default="8Gi", description="Size of the volume.")
    storage_class: str = Field(default="", description="Empty: the cluster's default. It must give ReadWriteOnce.")


class DisruptionBudget(Part):
    """How many pods a node drain may take at once."""

    enabled: bool = Field(default=True, description="Whether there is a budget.")
    max_unavailable: Annotated[int, Field(ge=1)] = Field(default=1, description="Pods a drain may take at once.")


PullPolicy = Literal["Always", "IfNotPresent", "Never"]


def amounts(cpu: str, memory: str, memory_limit: str) -> dict[str, Any]:
    """Requests and limits without a CPU limit: throttling a process that is late makes it later."""
    return {"requests": {"cpu": cpu, "memory": memory}, "limits": {"memory": memory_limit}}
