"""/docs of every service works where nothing outside can be reached: clusters are often closed."""

import re

import httpx

from tests.integration.running_stack import RunningStack


def test_every_docs_page_brings_its_own_assets(shared_stack: RunningStack) -> None:
    for name in ("gateway", "monitor"):
        page = httpx.get(shared_stack.addresses[name] + "/docs").raise_for_status().text
        assets = re.findall(r'(?:src|href)="([^"]+)"', page)
        assert any(asset.endswith(".js") for asset in assets)
        for asset in assets:
            assert asset.startswith("/"), f"{name} fetches {asset}"
            assert len(httpx.get(shared_stack.addresses[name] + asset).raise_for_status().content) > 100
        schema = httpx.get(shared_stack.addresses[name] + "/openapi.json").json()
        assert schema["paths"]
