"""A gateway as a tutorial writes it: FastAPI and httpx, 90 percent to one server and 10 to another.
`plain_httpx.py PORT PATH CHAMPION CHALLENGER`. Runs in our own environment."""

import contextlib
import random
import sys
from collections.abc import AsyncIterator
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI


def app(path: str, champion: str, challenger: str) -> FastAPI:
    client = httpx.AsyncClient(limits=httpx.Limits(max_connections=256, max_keepalive_connections=256))
    dice = random.Random(1)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with client:
            yield

    served = FastAPI(lifespan=lifespan)

    @served.post(path)
    async def infer(body: dict[str, Any]) -> Any:
        address = challenger if dice.random() < 0.1 else champion
        answer = await client.post(f"http://{address}{path}", json=body)
        answer.raise_for_status()
        return answer.json()

    return served


if __name__ == "__main__":
    port, path, champion, challenger = sys.argv[1:]
    served = app(path, champion, challenger)
    uvicorn.run(served, host="127.0.0.1", port=int(port), log_level="warning", access_log=False)
