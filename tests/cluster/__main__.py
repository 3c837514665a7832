"""A cluster to try `make e2e` on without having one: the fake API server, and its pods as processes of this machine.

python -m tests.cluster --kubeconfig FILE &
make e2e KUBECONFIG=FILE REACH=pods
"""

import argparse
import signal
import sys
import tempfile
import threading
from pathlib import Path
from types import SimpleNamespace

from tests.cluster.pods import Pods
from tests.fakes.fake_apiserver import FakeApiserver
from tests.fakes.fake_apiserver.kubelet import Kubelet


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__)
    parser.add_argument("--kubeconfig", type=Path, required=True, help="written, and removed at the end")
    options = parser.parse_args()
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    with tempfile.TemporaryDirectory(prefix="kingmaker-cluster-") as folder, FakeApiserver() as server:
        pods = Pods(Path(folder), SimpleNamespace(fetch_command=()), server)
        with Kubelet(server.cluster, pods):
            server.kubeconfig(options.kubeconfig)
            sys.stdout.write(f"{server.url}\n")
            sys.stdout.flush()
            stopped.wait()
    options.kubeconfig.unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
