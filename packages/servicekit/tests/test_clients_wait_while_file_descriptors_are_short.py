"""A server without a file descriptor for one more client leaves it waiting, asks again now and then, and says so."""

import socket
import subprocess
import sys

CROWDED = """
import asyncio, resource, socket, sys, uvloop
from kingmaker_servicekit import logs, serving
from kingmaker_servicekit.accepting import Acceptor

class Counting(socket.socket):
    asked = 0
    def accept(self):
        Counting.asked += 1
        return super().accept()

class Echo(asyncio.Protocol):
    def connection_made(self, transport): self.transport = transport
    def data_received(self, data): self.transport.write(data)

async def main():
    sock = Counting(fileno=serving.bind("127.0.0.1", 0).detach())
    sock.setblocking(False)
    acceptor = Acceptor(sock, Echo, retry_s=float(sys.argv[1]))
    resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
    print(sock.getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    print(Counting.asked)
    acceptor.close()
    sock.close()
    await asyncio.sleep(0.1)  # for timers that are left

logs.configure(log_format="text")
uvloop.run(main())
"""


class Crowded:
    """A process that has 40 file descriptors, and twice as many clients as that, of whom the last are left waiting."""

    def __init__(self, retry_s: float) -> None:
        command = [sys.executable, "-c", CROWDED, str(retry_s)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        assert self.process.stdout is not None
        address = "127.0.0.1", int(self.process.stdout.readline())
        self.clients = [socket.create_connection(address, timeout=10) for _ in range(80)]
        self.answers(self.clients[0])  # all were taken who can be

    def answers(self, client: socket.socket) -> None:
        client.sendall(b"x")
        assert client.recv(1) == b"x"

    def stop(self) -> tuple[int, str]:
        """(How often it asked for a connection, what it logged.)"""
        out, err = self.process.communicate("stop\n", timeout=20)
        assert self.process.returncode == 0, err
        assert "Traceback" not in err
        for client in self.clients:
            client.close()
        return int(out), err


def test_clients_are_left_waiting_while_file_descriptors_are_short() -> None:
    crowded = Crowded(retry_s=600)
    for _ in range(100):
        crowded.answers(crowded.clients[0])  # each is a round of the loop, and the socket is readable in all
    asked, log = crowded.stop()
    assert log.count("cannot take connections, clients wait") == 1
    assert "Too many open files" in log
    assert asked < 80, "a server that goes on asking takes a processor"


def test_who_waited_is_taken_when_there_are_file_descriptors_again() -> None:
    crowded = Crowded(retry_s=0.05)
    for client in crowded.clients[:60]:
        client.close()
    crowded.answers(crowded.clients[-1])
    crowded.stop()


def test_an_end_while_file_descriptors_are_short_is_the_end() -> None:
    Crowded(retry_s=0.01).stop()
