"""Raw lines over a daemon's sockets, and what it answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio

from mcp_spaces import places
from mcp_spaces.catalogue import CATALOGUE
from tests.security.app import PATIENCE_S

LISTED = {operation.id for operation in CATALOGUE if operation.listed}
ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}


class DaemonGoneError(Exception):
    """It closed the connection before it answered."""


@dataclass(frozen=True)
class Said:
    """An answer as it came over the wire; `code` is an error's."""

    content: dict[str, Any]
    run_id: str | None
    code: str | None
    details: dict[str, Any]


class Line:
    """One raw connection to a daemon: 2026-07-28 needs no handshake."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """The whole answer of one request. Raises DaemonGoneError."""
        message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {"_meta": ENVELOPE, **params}}
        try:
            self._writer.write(json.dumps(message).encode() + b"\n")
            await self._writer.drain()
            with anyio.fail_after(PATIENCE_S):
                line = await self._reader.readline()
        except OSError:
            raise DaemonGoneError from None
        if not line.endswith(b"\n"):
            raise DaemonGoneError
        answer: dict[str, Any] = json.loads(line)
        return answer

    async def call(self, operation_id: str, *, once: str | None = None, **arguments: Any) -> Said:
        """As a tool of its own where it is one, else through `operation_call`. Raises DaemonGoneError."""
        if operation_id not in LISTED:
            operation_id, arguments = "operation.call", {"operation": operation_id, "input": arguments}
        tool = operation_id.replace(".", "_")
        meta = {**ENVELOPE, **({"mcp-spaces/idempotency-key": once} if once else {})}
        answer = await self.ask("tools/call", name=tool, arguments=arguments, _meta=meta)
        assert "result" in answer, answer
        result = answer["result"]
        told = result.get("_meta", {})
        error = told.get("mcp-spaces/error", {})
        return Said(
            result.get("structuredContent") or {},
            told.get("mcp-spaces/run", {}).get("id"),
            error.get("code"),
            error.get("details") or {},
        )


@asynccontextmanager
async def line_to(state: Path, *, operator: bool = False, key: str | None = None) -> AsyncIterator[Line]:
    path = places.operator_socket(str(state)) if operator else places.agent_socket(str(state))
    try:
        reader, writer = await asyncio.open_unix_connection(path, limit=1 << 24)
    except OSError:
        raise DaemonGoneError from None
    if key is not None:
        writer.write(json.dumps({"mcp-spaces": 1, "key": key}).encode() + b"\n")
    try:
        yield Line(reader, writer)
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
