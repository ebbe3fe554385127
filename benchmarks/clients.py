"""Two MCP clients: a raw one, which costs next to nothing, and the SDK's, which is what agents written in Python use.

The raw one writes a line of JSON and reads lines until its answer comes, in the calling thread. What it measures is
the server and the pipes that the shim lent it, or the daemon's socket; what the SDK's measures beyond that is the client's own work.
"""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, cast

PROTOCOL = "2025-11-25"
CLIENT = {"name": "benchmark", "version": "1"}


class Refused(Exception):
    """The server answered with an error."""


class RawClient:
    """Over the pipes of a process, or over a socket. Not for threads."""

    def __init__(self, *, requests: BinaryIO, answers: BinaryIO, process: subprocess.Popen[bytes] | None) -> None:
        self.requests = requests
        self.answers = answers
        self.process = process
        self._number = 0

    @classmethod
    def spawn(cls, command: Sequence[str], environment: Mapping[str, str]) -> Self:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
        )
        return cls(requests=cast(BinaryIO, process.stdin), answers=cast(BinaryIO, process.stdout), process=process)

    @classmethod
    def connect(cls, path: Path) -> Self:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(path))
            # Both keep the connection open for as long as they are.
            return cls(requests=connection.makefile("wb"), answers=connection.makefile("rb"), process=None)

    def initialize(self) -> None:
        self.request("initialize", {"protocolVersion": PROTOCOL, "capabilities": {}, "clientInfo": CLIENT})
        self._send({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def request(self, method: str, params: Mapping[str, Any]) -> Any:
        """The result. Raises Refused."""
        answer = json.loads(self.request_bytes(method, params))
        if "error" in answer:
            raise Refused(f"{method}: {answer['error']}")
        return answer["result"]

    def request_bytes(self, method: str, params: Mapping[str, Any]) -> bytes:
        """The answer's line as it came."""
        self._number += 1
        self._send({"jsonrpc": "2.0", "id": self._number, "method": method, "params": params})
        mark = b'"id":%d,' % self._number
        for line in self.answers:
            # Ours is the only request under way, so whatever else comes is a notification.
            if mark in line[:40] and b'"method"' not in line[:80]:
                return line
        raise Refused("the server closed the connection")

    def call(self, tool: str, /, **arguments: Any) -> Any:
        """What the tool answers, parsed. Raises Refused."""
        result = self.request("tools/call", {"name": tool, "arguments": arguments})
        text = "".join(part.get("text", "") for part in result["content"])
        if result.get("isError"):
            raise Refused(f"{tool}: {text}")
        return json.loads(text)

    def _send(self, message: Mapping[str, Any]) -> None:
        self.requests.write(json.dumps(message, separators=(",", ":")).encode() + b"\n")
        self.requests.flush()

    def close(self) -> None:
        self.requests.close()
        if self.process is not None:
            self.process.wait(30)
        self.answers.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        self.close()
