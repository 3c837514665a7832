"""Configurations of Envoy and nginx: a 90/10 split, and a mirror. Pure text.

Each is set up as its documentation has it for throughput: one worker, no access log, upstream keep-alive,
no limits that would make it answer 503. A mirrored request may take the one second our own gateway's shadow
has, half of what a run lasts, so that requests it holds up are seen to end. Envoy's default circuit breaker
(1024) stays in force for the mirror, since that is what a user has.
"""

from pathlib import Path
from typing import Any, Final

import msgspec

from benchmarks.lab import HOST

MIRROR_TIMEOUT_S: Final = 1
_TYPES: Final = "type.googleapis.com/envoy.extensions.filters"
_NO_LIMIT: Final = {"thresholds": [{"max_connections": 100000, "max_pending_requests": 100000, "max_requests": 100000}]}


def envoy(port: int, champion: str, challenger: str, mirror: str | None = None) -> str:
    """A bootstrap (JSON is YAML). Addresses are host:port; challenger gets 10 percent."""
    clusters = {"champion": champion, "challenger": challenger}
    if mirror is not None:
        clusters["mirror"] = mirror
    route: dict[str, Any] = {
        "weighted_clusters": {
            "clusters": [{"name": "champion", "weight": 90}, {"name": "challenger", "weight": 10}],
        },
        "timeout": "30s",
    }
    if mirror is not None:
        route["request_mirror_policies"] = [{"cluster": "mirror"}]
        route["timeout"] = f"{MIRROR_TIMEOUT_S}s"  # a mirrored request lives by its route's timeout
    manager = {
        "@type": f"{_TYPES}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "generate_request_id": False,
        "route_config": {
            "virtual_hosts": [
                {"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": route}]},
            ]
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{_TYPES}.http.router.v3.Router"},
            }
        ],
    }
    listener = {
        "name": "public",
        "address": _socket(f"{HOST}:{port}"),
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }
    body = {"static_resources": {"listeners": [listener], "clusters": [_cluster(*c) for c in clusters.items()]}}
    return msgspec.json.encode(body).decode()


def nginx(port: int, folder: Path, champion: str, challenger: str, mirror: str | None = None) -> str:
    """A split_clients proxy in one process."""
    mirrored = mirror_block = ""
    if mirror is not None:
        mirrored = "mirror /mirror; mirror_request_body on;"
        mirror_block = (
            f"location = /mirror {{ internal; proxy_pass http://mirrored$request_uri; {_PROXY} "
            f"proxy_connect_timeout {MIRROR_TIMEOUT_S}s; proxy_read_timeout {MIRROR_TIMEOUT_S}s; }}"
        )
    return f"""{_nginx_head(folder)}
http {{ {_nginx_http(folder)}
  split_clients "$request_id" $variant {{ 10% challenger; * champion; }}
  upstream champion {{ server {champion} max_fails=0; keepalive 512; }}
  upstream challenger {{ server {challenger} max_fails=0; keepalive 512; }}
  upstream mirrored {{ server {mirror or champion} max_fails=0; keepalive 512; }}
  server {{ listen {HOST}:{port} backlog=2048;
    location / {{ {mirrored} proxy_pass http://$variant; {_PROXY} }}
    {mirror_block} }} }}
"""


def nginx_constant(ports: list[int], folder: Path, body: str) -> str:
    """The cheapest upstream there is: `return 200`."""
    listens = " ".join(f"listen {HOST}:{port} backlog=2048;" for port in ports)
    return f"""{_nginx_head(folder)}
http {{ {_nginx_http(folder)}
  server {{ {listens} default_type application/json; location / {{ return 200 '{body}'; }} }} }}
"""


_PROXY: Final = 'proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;'


def _nginx_head(folder: Path) -> str:
    return (
        "daemon off; master_process off; worker_processes 1; "
        f"pid {folder}/nginx.pid; error_log {folder}/error.log crit;\n"
        "events { worker_connections 8192; }"
    )


def _nginx_http(folder: Path) -> str:
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
    return f"access_log off; keepalive_requests 1000000000; client_body_buffer_size 64k; {temporary}"


def _cluster(name: str, address: str) -> dict[str, Any]:
    cluster: dict[str, Any] = {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _socket(address)}}]}],
        },
    }
    if name != "mirror":
        cluster["circuit_breakers"] = _NO_LIMIT
    return cluster


def _socket(address: str) -> dict[str, Any]:
    host, _, port = address.rpartition(":")
    return {"socket_address": {"address": host, "port_value": int(port)}}
