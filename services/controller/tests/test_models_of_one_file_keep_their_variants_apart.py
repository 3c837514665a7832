"""Two models may call a variant the same: neither gets what the other fetched."""

import asyncio
import sys
import time
from pathlib import Path

from kingmaker_contracts.served_model import Champion
from kingmaker_controller.rollout.facts import WantedVariant
from kingmaker_controller.runtimes.fetching import Fetcher
from kingmaker_controller.runtimes.processes import Commands, ProcessRuntime
from kingmaker_controller.runtimes.replica import Backoff

# Says what it fetched, and ends only after the other one has said so too: the worst order two fetches can have.
FETCH = """
import json, pathlib, sys, time
source, folder = sys.argv[1], pathlib.Path(sys.argv[sys.argv.index("--to") + 1])
manifest = {"source": source, "name": source, "version": source[-1], "sha256": source[-1] * 64, "alias": None,
            "profile_sha256": None, "v": 1}
first = folder / "1 said so"
while source[-1] == "2" and not first.exists():
    time.sleep(0.01)
print(json.dumps({"folder": str(folder), "manifest": manifest}), flush=True)
(folder / f"{source[-1]} said so").touch()
while len(list(folder.glob("* said so"))) < 2:
    time.sleep(0.01)
"""


async def test_each_model_serves_what_was_fetched_for_it(tmp_path: Path) -> None:
    sleeps = (sys.executable, "-c", "import time; time.sleep(600)")
    commands = Commands(sleeps, {}, "127.0.0.1", "json", tmp_path / "logs", 1.0, Backoff(0.01, 0.01))
    fetcher = Fetcher((sys.executable, "-c", FETCH), tmp_path / "models", tmp_path, None, {}, 60.0)
    runtime = ProcessRuntime(fetcher, commands, lambda: None, print)
    wanted = {
        f"default/{name}": WantedVariant(
            "lr", f"models:/{name}/{at}", "", "", None, 1, asked=Champion(name="lr", model="m")
        )
        for at, name in ((1, "flights"), (2, "boats"))
    }
    try:
        for model, variant in wanted.items():
            runtime.apply(model, [variant])
        deadline = time.monotonic() + 30
        versions: dict[str, str] = {}
        while not all(versions.values()) or not versions:
            assert time.monotonic() < deadline, "they were not fetched"
            await asyncio.sleep(0.01)
            versions = {
                model: runtime.observe(model, frozenset())[one.identity].version for model, one in wanted.items()
            }
        assert versions == {"default/flights": "1", "default/boats": "2"}
        assert len(list((tmp_path / "logs").glob("*.fetch.log"))) == 2
    finally:
        await runtime.close()
