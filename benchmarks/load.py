"""Calls per second of many clients at a time, each a process with a shim of its own."""

from __future__ import annotations

import json
import os
import selectors
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from benchmarks import containers
from benchmarks.clients import RawClient
from benchmarks.daemons import Daemon, ran, running
from benchmarks.measure import Line, Series, Target

SANDBOXES = 8
CLIENTS = (8, 32)
SECONDS = 3.0
ROUNDS = 3
BASELINE_CALLS = 32


def lines() -> Iterator[Line]:
    with running(pool_size=0) as daemon, daemon.client() as first, containers.plain() as container:
        for number in range(SANDBOXES):
            first.call("space_create", name=f"bench-{number}")
            first.call("sandbox_launch", space=f"bench-{number}")
        baseline = Series([_docker_exec(str(container.id))])
        for clients in CLIENTS:
            yield Line(
                what=f"sandbox_shell true, {clients} clients, {SANDBOXES} sandboxes",
                unit="calls/s",
                ours=_rates(daemon, clients, _shell),
                baseline=baseline,
                against="docker exec, 8 at a time",
                targets=[Target(500)],
            )
        for clients in CLIENTS:
            yield Line(what=f"space_get, {clients} clients", unit="calls/s", ours=_rates(daemon, clients, _space_get))


def _shell(number: int) -> Mapping[str, object]:
    return {"name": "sandbox_shell", "arguments": {"space": f"bench-{number % SANDBOXES}", "command": "true"}}


def _space_get(number: int) -> Mapping[str, object]:
    return {"name": "space_get", "arguments": {"space": f"bench-{number % SANDBOXES}"}}


def _rates(daemon: Daemon, clients: int, call: Callable[[int], Mapping[str, object]]) -> Series:
    with ExitStack() as stack:
        opened = [stack.enter_context(daemon.client()) for _ in range(clients)]
        crowd = Crowd(opened, [call(number) for number in range(clients)])
        crowd.drive(SECONDS / 3)
        return Series([crowd.drive(SECONDS) for _ in range(ROUNDS)])


class Crowd:
    """Clients that each call again as soon as they were answered, driven by one thread that only copies bytes.

    The clients' own work must not take the processors from the server: an answer is looked at only for its end.
    """

    def __init__(self, clients: list[RawClient], calls: list[Mapping[str, object]]) -> None:
        self._clients = clients
        self._lines = [
            json.dumps({"jsonrpc": "2.0", "id": 0, "method": "tools/call", "params": call}).encode() + b"\n"
            for call in calls
        ]

    def drive(self, seconds: float) -> float:
        """Calls answered per second."""
        answered = 0
        with selectors.DefaultSelector() as ready:
            for client, line in zip(self._clients, self._lines, strict=True):
                ready.register(client.answers, selectors.EVENT_READ, (client, line, []))
                client.requests.write(line)
                client.requests.flush()
            started = time.monotonic()
            waiting = len(self._clients)
            while waiting:
                over = time.monotonic() - started >= seconds
                for key, _ in ready.select(timeout=10):
                    client, line, parts = key.data
                    chunk = os.read(key.fd, 1 << 16)
                    parts.append(chunk)
                    if not chunk.endswith(b"\n"):
                        continue
                    answer = b"".join(parts)
                    parts.clear()
                    if b'"isError":true' in answer or b'"error"' in answer[:40]:
                        raise RuntimeError(answer[:300].decode())
                    answered += 1
                    if over:
                        waiting -= 1
                    else:
                        client.requests.write(line)
                        client.requests.flush()
            return answered / (time.monotonic() - started)


def _docker_exec(container_id: str) -> float:
    started = time.monotonic()
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: ran(("docker", "exec", container_id, "true")), range(BASELINE_CALLS)))
    return BASELINE_CALLS / (time.monotonic() - started)
