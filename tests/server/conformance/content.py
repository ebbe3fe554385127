"""Tools that answer, each with another kind of content, or tell the client something meanwhile."""

from __future__ import annotations

import base64
import warnings

import anyio
import mcp_types as types
from mcp import MCPError
from mcp.shared.exceptions import MCPDeprecationWarning

from mcp_spaces.core.changes import Change, Changes
from mcp_spaces.core.context import Context
from tests.server.conformance.exchange import EXCHANGE, Blocks, Fails, NoArguments, embedded, image, text

WAV = base64.b64encode(
    b"RIFF$\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00@\x1f\x00\x00\x80>\x00\x00\x02\x00\x10\x00data"
    b"\x00\x00\x00\x00"
).decode()


async def simple_text(_: Context, __: NoArguments) -> Blocks:
    return text("This is a simple text response for testing.")


async def image_content(_: Context, __: NoArguments) -> Blocks:
    return Blocks(content=[image()])


async def audio_content(_: Context, __: NoArguments) -> Blocks:
    return Blocks(content=[{"type": "audio", "data": WAV, "mimeType": "audio/wav"}])


async def embedded_resource(_: Context, __: NoArguments) -> Blocks:
    return Blocks(content=[embedded("test://embedded-resource", "text/plain", "This is an embedded resource content.")])


async def multiple_content_types(_: Context, __: NoArguments) -> Blocks:
    return Blocks(
        content=[
            {"type": "text", "text": "Multiple content types test:"},
            image(),
            embedded("test://mixed-content-resource", "application/json", '{"test":"data","value":123}'),
        ]
    )


async def error_handling(_: Context, __: NoArguments) -> Blocks:
    raise Fails("This tool intentionally returns an error for testing", hint="")


async def with_progress(context: Context, _: NoArguments) -> Blocks:
    for done in (0, 50, 100):
        await context.progress(done, 100, f"{done} %")
        await anyio.lowlevel.checkpoint()
    return text("Progress was reported.")


async def with_logging(_: Context, __: NoArguments) -> Blocks:
    session = EXCHANGE.get().context.session
    for said in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        # Not sent to clients of 2026-07-28 that did not ask for logs.
        with warnings.catch_warnings(action="ignore", category=MCPDeprecationWarning):
            await session.send_log_message("info", said, related_request_id=EXCHANGE.get().context.request_id)
    return text("Three messages were logged.")


async def trigger_tool_change(context: Context, _: NoArguments) -> Blocks:
    context.use(Changes).announce(Change("tools"))
    return text("The tools changed.")


async def missing_capability(_: Context, __: NoArguments) -> Blocks:
    exchange = EXCHANGE.get()
    if (exchange.context.session.client_capabilities or types.ClientCapabilities()).sampling is None:
        exchange.refusal = MCPError(
            types.MISSING_REQUIRED_CLIENT_CAPABILITY,
            "The client cannot sample.",
            {"requiredCapabilities": {"sampling": {}}},
        )
        raise Fails("The client cannot sample.", hint="")
    return text("The client can sample.")
