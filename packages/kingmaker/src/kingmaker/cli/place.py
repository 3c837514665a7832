"""Where a command looks: the stacks of this machine, or a Kubernetes cluster through kubectl.

`kingmaker` looks at this machine and `kubectl kingmaker` at the cluster, unless told otherwise.
"""

from dataclasses import dataclass
from typing import Annotated

import typer

from kingmaker.cli.failures import Failure
from kingmaker.cluster import Cluster

InCluster = Annotated[
    bool | None,
    typer.Option(
        "--cluster/--local",
        help="Ask a Kubernetes cluster through kubectl, or the stacks of this machine.",
        show_default="--cluster for kubectl kingmaker, else --local",
    ),
]
Namespace = Annotated[
    str | None, typer.Option("--namespace", "-n", help="Namespace in the cluster.", show_default="your context's")
]
Context = Annotated[str | None, typer.Option(help="Context of your kubeconfig.", show_default="the current one")]


@dataclass(frozen=True)
class Defaults:
    """What the name the command was called by says."""

    in_cluster: bool = False


def cluster_of(
    context: typer.Context, in_cluster: bool | None, namespace: str | None, kube_context: str | None
) -> Cluster | None:
    """The cluster to ask; None for this machine. Raises Failure when options contradict each other."""
    defaults = context.obj if isinstance(context.obj, Defaults) else Defaults()
    if defaults.in_cluster if in_cluster is None else in_cluster:
        return Cluster(namespace, kube_context)
    if namespace is not None or kube_context is not None:
        raise Failure("--namespace and --context are for a cluster: add --cluster", 2)
    return None
