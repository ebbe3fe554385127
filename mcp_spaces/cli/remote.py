"""A daemon somewhere else, over Streamable HTTP with a bearer key."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from mcp_spaces.cli.clear_text import check_server
from mcp_spaces.cli.wire import (
    PROTOCOL_VERSION,
    REQUEST_ID,
    SILENCE_S,
    UNKNOWN_TOOL,
    Answer,
    NoDaemon,
    OnProgress,
    Refusal,
    Request,
    answer_of,
    progress_of,
)

CONNECT_S = 10
ERRNO = re.compile(r"\[Errno -?\d+\] ")


class RemoteDaemon:
    """`url` is the MCP endpoint, such as https://spaces.example.org/mcp.

    Raises:
        Refusal: the key would travel in clear text.
    """

    def __init__(self, url: str, *, key: str) -> None:
        check_server(url)
        self._url = url
        self._key = key

    def call(self, request: Request, on_progress: OnProgress) -> Answer:
        try:
            return self._call(request, on_progress)
        except Refusal as refusal:
            # Keys that are not the operator's see a short list of tools, and reach the rest through one of them.
            if refusal.details.get("rpc") != UNKNOWN_TOOL or request.tool == "operation_call":
                raise
        wrapped = {"operation": request.tool.replace("_", ".", 1), "input": request.arguments}
        return self._call(Request("operation_call", wrapped, request.pin), on_progress)

    def _call(self, request: Request, on_progress: OnProgress) -> Answer:
        import httpx2

        headers = {
            "Authorization": f"Bearer {self._key}",
            "Accept": "application/json, text/event-stream",
            "Content-Type": "application/json",
            "MCP-Protocol-Version": PROTOCOL_VERSION,
            "Mcp-Method": "tools/call",
            "Mcp-Name": request.tool,
        }
        timeout = httpx2.Timeout(SILENCE_S, connect=CONNECT_S)
        try:
            # Leaving the stream before its end, as Ctrl-C does, is how this protocol cancels a call.
            with (
                httpx2.Client(timeout=timeout) as client,
                client.stream("POST", self._url, headers=headers, content=request.body()) as response,
            ):
                if response.headers.get("content-type", "").startswith("text/event-stream"):
                    return _streamed(_messages(response.iter_lines()), on_progress)
                return _whole(response.status_code, response.read())
        except httpx2.HTTPError as error:
            reason = ERRNO.sub("", str(error)) or type(error).__name__
            hint = "Check the address, and the server's log."
            if "CERTIFICATE_VERIFY_FAILED" in reason:
                hint = "For an authority of your own: export SSL_CERT_FILE=ITS_CERTIFICATE.pem"
            raise NoDaemon(f"{self._url} does not answer: {reason.rstrip('.')}.", hint=hint) from error


def _streamed(messages: Iterable[dict[str, Any]], on_progress: OnProgress) -> Answer:
    for message in messages:
        if message.get("id") == REQUEST_ID:
            return answer_of(message)
        progress_of(message, on_progress)
    raise NoDaemon("The server closed the connection before it answered.", hint="Check the server's log.")


def _messages(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """The JSON of server-sent events: `data:` lines up to an empty one."""
    parts: list[str] = []
    for line in lines:
        if line.startswith("data:"):
            parts.append(line.removeprefix("data:").removeprefix(" "))
        elif not line and parts:
            yield json.loads("\n".join(parts))
            parts = []


def _whole(status: int, body: bytes) -> Answer:
    try:
        message = json.loads(body)
    except ValueError:
        message = None
    match message:
        case {"jsonrpc": "2.0"}:
            return answer_of(message)
        case {"error": str() as code, "message": str() as text}:
            raise Refusal(text, code=code)
        case _:
            raise Refusal(f"The server answered HTTP {status}, which is no MCP.", hint="Does the URL end in /mcp?")
