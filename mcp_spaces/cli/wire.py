"""MCP as the commands speak it: one `tools/call` of protocol 2026-07-28, which needs no handshake.

Written out instead of using the SDK, whose import alone takes longer than any command here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

import mcp_spaces

PROTOCOL_VERSION = "2026-07-28"
REQUEST_ID = 1
PIN = "mcp-spaces/pin"
UNKNOWN_TOOL = -32602
UNAUTHENTICATED = -32001
CONNECTION_CLOSED = -32000
"""What the SDK answers to the calls that are at work when its server ends."""
SILENCE_S = 120
"""A daemon reports progress every 10 s; one that says nothing for so long hangs."""

OnProgress = Callable[[float, float | None, str], None]
"""`(done, total or None, message)`; the message is untrusted text."""


@dataclass(frozen=True)
class Answer:
    """What an operation answered: an object, or prose where it has no structure. `run_id` names the record."""

    content: Mapping[str, Any] | str
    run_id: str | None = None


class Refusal(Exception):
    """The answer is an error. `code` as in `mcp_spaces.errors`."""

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        code: str = "internal",
        retryable: bool = False,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code
        self.retryable = retryable
        self.details = dict(details or {})


class NoDaemon(Exception):
    """Nobody listens. `hint` says what to do."""

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


@dataclass(frozen=True)
class Request:
    """One call of one tool; `pin` is what the operator typed."""

    tool: str
    arguments: Mapping[str, Any]
    pin: str | None = None

    def body(self) -> bytes:
        """One line. Raises Refusal: a command line that is not UTF-8 holds lone surrogates."""
        beside = {} if self.pin is None else {PIN: self.pin}
        try:
            return request("tools/call", beside, name=self.tool, arguments=self.arguments)
        except UnicodeEncodeError:
            raise Refusal("The command line holds text that is not UTF-8.", code="invalid_input") from None


def request(method: str, beside: Mapping[str, str] = MappingProxyType({}), **params: Any) -> bytes:
    """A JSON-RPC request with what this protocol wants to know about the client each time, and what stands `beside`
    it in `_meta`."""
    meta = {
        **beside,
        "io.modelcontextprotocol/protocolVersion": PROTOCOL_VERSION,
        "io.modelcontextprotocol/clientInfo": {"name": "mcp-spaces", "version": mcp_spaces.__version__},
        "io.modelcontextprotocol/clientCapabilities": {},
        "progressToken": REQUEST_ID,
    }
    message = {"jsonrpc": "2.0", "id": REQUEST_ID, "method": method, "params": {**params, "_meta": meta}}
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()


class Server(Protocol):
    """Who answers: the local daemon, or a remote one."""

    def call(self, request: Request, on_progress: OnProgress) -> Answer:
        """Raises Refusal or NoDaemon. KeyboardInterrupt: the call was cancelled at the server, too."""


def progress_of(message: Mapping[str, Any], on_progress: OnProgress) -> None:
    """Tell of a progress notification; any other message is passed over."""
    match message:
        case {"method": "notifications/progress", "params": {"progress": int() | float() as done, **more}}:
            total = more.get("total")
            on_progress(done, total if isinstance(total, int | float) else None, str(more.get("message") or ""))
        case _:
            pass


def answer_of(message: Mapping[str, Any]) -> Answer:
    """The answer in a JSON-RPC response. Raises Refusal for an error in either shape, NoDaemon where it stopped."""
    match message:
        case {"error": {"code": code}} if code == CONNECTION_CLOSED:
            raise NoDaemon("The daemon stopped before it answered.", hint="How far it came: mcp-spaces runs")
        case {"error": {"code": code, "message": str() as text}}:
            raise Refusal(
                text, code="unauthenticated" if code == UNAUTHENTICATED else "protocol", details={"rpc": code}
            )
        case {"result": {"isError": True} as result}:
            raise _refusal(result)
        case {"result": {"structuredContent": dict() as content} as result}:
            return Answer(content, _run_id(result))
        case {"result": dict() as result}:
            return Answer(_text(result), _run_id(result))
        case _:
            raise Refusal("The daemon answered something that is no MCP.", hint="Update mcp-spaces.", code="protocol")


def _refusal(result: Mapping[str, Any]) -> Refusal:
    match result.get("_meta"):
        case {"mcp-spaces/error": {"code": str() as code, "message": str() as message, **more}}:
            return Refusal(
                message,
                hint=str(more.get("hint", "")),
                code=code,
                retryable=more.get("retryable") is True,
                details=details if isinstance(details := more.get("details"), dict) else None,
            )
        case _:
            return Refusal(_text(result))


def _text(result: Mapping[str, Any]) -> str:
    blocks = [block for block in result.get("content", ()) if isinstance(block, dict)]
    return "\n".join(str(block["text"]) if "text" in block else f"[{block.get('type')}]" for block in blocks)


def _run_id(result: Mapping[str, Any]) -> str | None:
    match result.get("_meta"):
        case {"mcp-spaces/run": {"id": str() as run_id}}:
            return run_id
        case _:
            return None
