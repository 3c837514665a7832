"""Run the server by itself until SIGTERM; the first line printed is its address."""

import argparse
import contextlib
import signal
import sys
import threading
from pathlib import Path

from tests.fakes.fake_apiserver.kubelet import Kubelet
from tests.fakes.fake_apiserver.server import FakeApiserver, load_yaml


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fakes.fake_apiserver", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--crd", type=Path, action="append", default=[], help="a YAML file, or a folder of them")
    parser.add_argument("--namespace", action="append", default=[], help="namespaces beside default")
    parser.add_argument("--kubeconfig", type=Path, help="write a kubeconfig that leads here")
    parser.add_argument(
        "--kubelet", action="store_true", help="pretend that pods run, so that Deployments become ready"
    )
    options = parser.parse_args()
    crds = [crd for path in options.crd for crd in load_yaml(path)]
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    server = FakeApiserver(crds, port=options.port, namespaces=("default", *options.namespace))
    with server, Kubelet(server.cluster) if options.kubelet else contextlib.nullcontext():
        if options.kubeconfig:
            server.kubeconfig(options.kubeconfig)
        sys.stdout.write(f"{server.url}\n")
        sys.stdout.flush()
        stopped.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
