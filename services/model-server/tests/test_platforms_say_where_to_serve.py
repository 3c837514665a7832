"""Which settings come from a platform, and which of them a person can overrule."""

from pathlib import Path
from typing import Any

import pytest

from kingmaker_model_server import settings
from kingmaker_model_server.settings import BadSettings, Settings

OURS = "KINGMAKER_MODEL_SERVER_"


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Any:
    def at(*arguments: str, **environ: str) -> Settings:
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        return settings.read(environ, arguments)

    return at


def test_serve_alone_is_enough_on_sagemaker(read: Any) -> None:
    found = read("serve")
    assert (found.model_dir, found.model_name) == (Path("/opt/ml/model"), "model")
    assert (found.host, found.port) == ("0.0.0.0", 8080)


def test_a_port_the_platform_names_wins_and_all_else_gives_way_to_a_person(read: Any) -> None:
    ours = {f"{OURS}MODEL_DIR": "/models/flights", f"{OURS}MODEL_NAME": "flights", f"{OURS}HOST": "10.0.0.7"}
    found = read("serve", SAGEMAKER_BIND_TO_PORT="9999", **ours, **{f"{OURS}PORT": "8081"})
    assert (found.model_dir, found.model_name) == (Path("/models/flights"), "flights")
    assert (found.host, found.port) == ("10.0.0.7", 9999)


def test_vertex_ai_names_port_routes_and_folder(read: Any) -> None:
    found = read(AIP_HTTP_PORT="7080", AIP_HEALTH_ROUTE="/h", AIP_PREDICT_ROUTE="/p", AIP_STORAGE_URI="file:///a%20b")
    assert (found.host, found.port, found.model_dir) == ("0.0.0.0", 7080, Path("/a b"))
    assert (found.health_route, found.predict_route, found.model_name) == ("/h", "/p", "model")


def test_a_model_in_the_image_needs_no_storage(read: Any) -> None:
    ours = {f"{OURS}MODEL_DIR": "/models/flights"}
    assert read(AIP_HTTP_PORT="7080", AIP_STORAGE_URI="gs://b/m", **ours).model_dir == Path("/models/flights")


def test_without_a_platform_nothing_is_presumed(read: Any) -> None:
    with pytest.raises(BadSettings, match=r"MODEL_DIR: Field required; .*MODEL_NAME: Field required"):
        read()


@pytest.mark.parametrize(
    ("environ", "text"),
    [
        ({"AIP_HTTP_PORT": "http"}, "AIP_HTTP_PORT: Input should be a valid integer"),
        ({"AIP_HTTP_PORT": "8080", "AIP_HEALTH_ROUTE": "health"}, "AIP_HEALTH_ROUTE: .*pattern"),
        ({"AIP_PREDICT_ROUTE": "/models/{m}"}, "AIP_PREDICT_ROUTE: .*pattern"),
        ({"AIP_STORAGE_URI": "gs://bucket/models/3"}, "AIP_STORAGE_URI is 'gs://bucket/models/3': .*not supported yet"),
        ({"SAGEMAKER_BIND_TO_PORT": "99999"}, "SAGEMAKER_BIND_TO_PORT: .*less than or equal to 65535"),
    ],
)
def test_what_a_platform_says_wrong_is_refused_by_its_own_name(read: Any, environ: dict[str, str], text: str) -> None:
    with pytest.raises(BadSettings, match=text):
        read("serve", **environ)


def test_an_unknown_argument_is_refused(read: Any) -> None:
    with pytest.raises(BadSettings, match="unknown argument 'train'; this program takes none, or 'serve'"):
        read("train")
