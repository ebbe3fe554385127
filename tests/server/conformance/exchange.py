"""What every fixture answers with, and the MCP request behind the call that it serves."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import mcp_types as types
from mcp import MCPError
from mcp.server import ServerRequestContext
from pydantic import BaseModel

from mcp_spaces.core.place import Everywhere
from mcp_spaces.errors import SpacesError

PNG = base64.b64encode(
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x02\x00\x00\x00\x90wS\xde"
    b"\x00\x00\x00\x0cIDATx\x9cc\xf8\xcf\xc0\x00\x00\x03\x01\x01\x00\xc9\xfe\x92\xef\x00\x00\x00\x00IEND\xaeB`\x82"
).decode()


@dataclass
class Exchange:
    """The MCP request that a fixture serves: what the product's operations never see."""

    context: ServerRequestContext[Any, Any]
    answers: Mapping[str, Any]
    state: str | None
    required: types.InputRequiredResult | None = None
    refusal: MCPError | None = None


EXCHANGE: ContextVar[Exchange] = ContextVar("conformance_exchange")


class Blocks(BaseModel):
    content: list[dict[str, Any]]

    def blocks(self) -> list[dict[str, Any]]:
        return self.content


class NoArguments(Everywhere):
    pass


class Fails(SpacesError):
    code = "failed"


def text(said: str) -> Blocks:
    return Blocks(content=[{"type": "text", "text": said}])


def image() -> dict[str, Any]:
    return {"type": "image", "data": PNG, "mimeType": "image/png"}


def embedded(uri: str, mime_type: str, said: str) -> dict[str, Any]:
    return {"type": "resource", "resource": {"uri": uri, "mimeType": mime_type, "text": said}}
