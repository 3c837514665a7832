"""The monitor's REST API as the commands see it: read-only."""

from typing import Final
from urllib.parse import urlsplit

import httpx
import msgspec

from kingmaker_contracts.report import ModelReport

_THIS_MACHINE: Final = ("127.0.0.1", "localhost", "::1")


class MonitorError(Exception):
    """The monitor did not answer as expected; the text says what it said."""


def report(address: str, model: str) -> ModelReport:
    """Everything measured of a model. address: http://host:port; model: its name, without namespace. Raises
    MonitorError."""
    url = f"{address}/api/models/{model}"
    try:
        is_near = urlsplit(address).hostname in _THIS_MACHINE  # where no proxy leads
        answer = httpx.get(url, timeout=5, trust_env=not is_near)
        if answer.status_code != 200:
            raise MonitorError(str(answer.json().get("error", f"status {answer.status_code}")))
        return msgspec.json.decode(answer.content, type=ModelReport)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, AttributeError) as error:
        raise MonitorError(f"the monitor at {url} did not answer as expected: {error}") from None
