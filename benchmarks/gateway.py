"""What the way out of a sandbox costs: the same small client inside, through the gateway, and on the host, directly."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.clients import RawClient
from benchmarks.daemons import Daemon, running
from benchmarks.measure import Line, Series, Target

NAME = "server.test"
REQUESTS = 300
ROUNDS = 3
MEGABYTES = 200
DOWNLOADS, DOWNLOAD_MEGABYTES = 100, 10

SERVER = """
import socket, threading
listener = socket.create_server(('127.0.0.1', 0), backlog=512)
print(listener.getsockname()[1], flush=True)
block = bytes(1 << 20)
def serve(peer):
    with peer:
        head = b''
        while b'\\r\\n\\r\\n' not in head:
            head += peer.recv(65536)
        head, _, body = head.partition(b'\\r\\n\\r\\n')
        line = head.split()
        if line[0] == b'POST':
            left = int(head.lower().partition(b'content-length:')[2].split()[0]) - len(body)
            while left:
                left -= len(peer.recv(min(left, 1 << 20)))
        size = int(line[1].rpartition(b'/')[2])
        peer.sendall(b'HTTP/1.1 200 OK\\r\\nConnection: close\\r\\nContent-Length: %d\\r\\n\\r\\n' % size)
        while size > 0:
            peer.sendall(block[:size]); size -= len(block)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"""

CLIENT = """
import json, socket, sys, threading, time
host, port, base, what = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
buffer = bytearray(1 << 20)
def ask(size, body=0):
    into = bytearray(1 << 18)
    with socket.create_connection((host, port)) as peer:
        method = 'POST' if body else 'GET'
        peer.sendall(f'{method} {base}/{size} HTTP/1.1\\r\\nHost: NAME\\r\\nContent-Length: {body}\\r\\n\\r\\n'.encode())
        while body > 0:
            peer.sendall(buffer[:body]); body -= len(buffer)
        got = 0
        while more := peer.recv_into(into):
            got += more
        assert got > size, got
def timed(action, times):
    found = []
    for _ in range(times):
        began = time.perf_counter(); action(); found.append(time.perf_counter() - began)
    return found
if what == 'small':
    timed(lambda: ask(2), 20); found = timed(lambda: ask(2), REQUESTS)
elif what == 'down':
    found = timed(lambda: ask(MEGABYTES * 1000000), 3)
elif what == 'up':
    found = timed(lambda: ask(2, MEGABYTES * 1000000), 3)
else:
    threads = [threading.Thread(target=ask, args=(EACH * 1000000,)) for _ in range(DOWNLOADS)]
    began = time.perf_counter()
    for one in threads: one.start()
    for one in threads: one.join()
    found = [time.perf_counter() - began]
print(json.dumps(found))
"""
for _name, _value in {
    "NAME": NAME, "REQUESTS": REQUESTS, "MEGABYTES": MEGABYTES, "DOWNLOADS": DOWNLOADS, "EACH": DOWNLOAD_MEGABYTES,
}.items():  # fmt: skip
    CLIENT = CLIENT.replace(_name, str(_value))


def lines() -> Iterator[Line]:
    with server() as port, running(pool_size=0, settings=_settings(port)) as daemon:
        operator = daemon.operator()
        operator.call("space_create", name="bench", policy={"preset": "permissive"}, mounts=_mounts())
        operator.call("sandbox_launch", space="bench")
        inside = Inside(operator)
        small, direct = _latencies(inside, port)
        yield Line(
            what="gateway: added to a small request",
            unit="ms",
            ours=Series([one - direct.median for one in small.values]),
            baseline=direct,
            against="the same request from the host, directly",
            targets=[Target(3)],
        )
        for way, words in (("down", "download"), ("up", "upload")):
            ours = Series([MEGABYTES / one for one in inside.measure(way)])
            baseline = Series([MEGABYTES / one for one in _outside(port, way)])
            yield Line(
                what=f"gateway: {words} of {MEGABYTES} MB",
                unit="MB/s",
                ours=ours,
                baseline=baseline,
                against="from the host, directly",
                targets=[Target(100)],
            )
        yield from _many(inside, daemon)


def _many(inside: Inside, daemon: Daemon) -> Iterator[Line]:
    before = daemon.memory_mb
    (seconds,) = inside.measure("many")
    yield Line(
        what=f"gateway: {DOWNLOADS} downloads at a time of {DOWNLOAD_MEGABYTES} MB each",
        unit="MB/s",
        ours=Series([DOWNLOADS * DOWNLOAD_MEGABYTES / seconds]),
    )
    yield Line(
        what=f"gateway: memory that {DOWNLOADS} downloads leave behind",
        unit="MB",
        ours=Series([max(daemon.memory_mb - before, 0.0)]),
        targets=[Target(100)],
    )


class Inside:
    def __init__(self, operator: RawClient) -> None:
        self._operator = operator
        operator.call("sandbox_write_file", space="bench", path="client.py", content=CLIENT)

    def measure(self, what: str) -> list[float]:
        command = f"python3 client.py 127.0.0.1 3128 http://{NAME} {what}"
        answer: dict[str, Any] = self._operator.call("sandbox_shell", space="bench", command=command)
        assert answer["exit_code"] == 0, answer
        found: list[float] = json.loads(answer["stdout"])
        return found


def _latencies(inside: Inside, port: int) -> tuple[Series, Series]:
    ours: list[float] = []
    direct: list[float] = []
    for _ in range(ROUNDS):
        ours += inside.measure("small")
        direct += _outside(port, "small")
    return Series([one * 1000 for one in ours]), Series([one * 1000 for one in direct])


def _outside(port: int, what: str) -> list[float]:
    command = [sys.executable, "-c", CLIENT, "127.0.0.1", str(port), "", what]
    found: list[float] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return found


@contextmanager
def server() -> Iterator[int]:
    process = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()


def _settings(port: int) -> dict[str, str]:
    return {"MCP_SPACES_NETWORK_PRIVATE_HOSTS": f"{NAME}:80=127.0.0.1:{port}"}


def _mounts() -> dict[str, object]:
    return {"network": {"mode": "allowlist", "allow": [NAME]}}
