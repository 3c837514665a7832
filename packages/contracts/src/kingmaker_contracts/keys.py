"""Every Redis key, channel and stream name, one function each.

The hash tag `{namespace/name}` keeps all keys of one model in one slot of a cluster.
"""

from typing import Final

PREFIX: Final = "km:"
ROUTING_CHANNEL: Final = "km:routing"
"""Pub/sub: the message is `namespace/name` of the model whose routing record changed."""
MODELS: Final = "km:models"
"""Set of `namespace/name`: the models that have a routing record."""
ENTRY_FIELD: Final = b"b"
"""The one field of every stream entry: a MessagePack envelope."""
MAX_PARTITIONS: Final = 256


def model_id(namespace: str, name: str) -> str:
    return f"{namespace}/{name}"


def split_model_id(model: str) -> tuple[str, str]:
    """`namespace/name` back into its parts; ValueError for anything else."""
    namespace, slash, name = model.partition("/")
    if not (namespace and slash and name) or "/" in name:
        raise ValueError(f"not a model id: {model!r}, expected namespace/name")
    return namespace, name


def routing(namespace: str, name: str) -> str:
    return f"{_base(namespace, name)}:routing"


def plan(namespace: str, name: str) -> str:
    return f"{_base(namespace, name)}:plan"


def withdrawal(namespace: str, name: str) -> str:
    """Says for a while that a model was deleted, which a routing record that is gone does not: a Redis that was wiped
    has none either."""
    return f"{_base(namespace, name)}:withdrawn"


def profile(namespace: str, name: str, sha256: str) -> str:
    return f"{_base(namespace, name)}:profile:{sha256}"


def evidence(namespace: str, name: str) -> str:
    return f"{_base(namespace, name)}:evidence"


def monitor_lease(namespace: str, name: str) -> str:
    """`<state file's id>:<token>` of the monitor that counts this model, with a time to live."""
    return f"{_base(namespace, name)}:monitor"


def monitor_token(namespace: str, name: str) -> str:
    """The highest token a monitor's lease ever had: it outlives the lease."""
    return f"{_base(namespace, name)}:monitor:token"


def events(namespace: str, name: str, partition: int) -> str:
    return f"{_base(namespace, name)}:events:{_checked(partition)}"


def feedback(namespace: str, name: str, partition: int) -> str:
    return f"{_base(namespace, name)}:feedback:{_checked(partition)}"


def gateway(gateway_id: str) -> str:
    """JSON of `kingmaker_contracts.acks.GatewayAck`, with a time to live."""
    return f"{PREFIX}gateways:{gateway_id}"


def former_gateway(gateway_id: str, producer: str) -> str:
    """The last ack of an earlier life, kept for an hour by the next one so that its accounts can be closed."""
    return f"{gateway(gateway_id)}/{producer}"


def gateway_pattern() -> str:
    return f"{PREFIX}gateways:*"


def _base(namespace: str, name: str) -> str:
    return f"{PREFIX}{{{namespace}/{name}}}"


def _checked(partition: int) -> int:
    if not 0 <= partition < MAX_PARTITIONS:
        raise ValueError(f"partition {partition} is outside 0..{MAX_PARTITIONS - 1}")
    return partition
