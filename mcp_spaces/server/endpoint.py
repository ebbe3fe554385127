"""The one MCP server object: both protocol eras, all transports, every caller."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import mcp_types as types
from mcp import MCPError
from mcp.server import NotificationOptions, Server
from pydantic import ValidationError

import mcp_spaces
from mcp_spaces.core.ids import new_id
from mcp_spaces.errors import SpacesError
from mcp_spaces.resources import resource
from mcp_spaces.server.authentication import Guard
from mcp_spaces.server.notifications import Notifications
from mcp_spaces.server.resources import Resources, refused
from mcp_spaces.server.tools import Tools

if TYPE_CHECKING:
    from mcp.server import ServerRequestContext
    from mcp.server.context import CallNext, HandlerResult
    from mcp.server.models import InitializationOptions

    from mcp_spaces.server.port import Application
    from mcp_spaces.settings import Settings

log = logging.getLogger(__name__)

NAME = "spaces"


class SpacesServer(Server[dict[str, Any]]):
    """Serves whoever `visited_by` says. Open it with `open_server`, which also runs its background tasks."""

    def __init__(self, app: Application, settings: Settings) -> None:
        self.settings = settings
        self.guard = Guard(app, settings.key_check_s)
        self.tools = Tools(app, settings)
        self.resources = Resources(app, settings)
        self.notifications = Notifications(app, self.resources, self.guard)
        super().__init__(
            NAME,
            version=mcp_spaces.__version__,
            title="mcp-spaces",
            instructions=instructions(),
            # No schema holds an `x-mcp-header` annotation (threat L23), so there is nothing to compare headers with.
            get_tool_input_schema=lambda _tool: None,
            on_list_tools=self.tools.list,
            on_call_tool=self.tools.call,
            on_list_resources=self.resources.list,
            on_list_resource_templates=self.resources.list_templates,
            on_read_resource=self.resources.read,
            on_subscribe_resource=self.notifications.subscribe,
            on_unsubscribe_resource=self.notifications.unsubscribe,
            on_subscriptions_listen=self.notifications.listen,
        )
        self.add_notification_handler(
            "notifications/initialized", types.NotificationParams, self.notifications.initialized
        )
        self.middleware = [contain_errors]

    def create_initialization_options(
        self,
        notification_options: NotificationOptions | None = None,
        experimental_capabilities: dict[str, dict[str, Any]] | None = None,
        extensions: dict[str, dict[str, Any]] | None = None,
    ) -> InitializationOptions:
        """The SDK's HTTP path asks without arguments, which would announce that nothing ever changes."""
        return super().create_initialization_options(
            notification_options or NotificationOptions(tools_changed=True, resources_changed=True),
            experimental_capabilities,
            extensions,
        )


@asynccontextmanager
async def open_server(app: Application, settings: Settings) -> AsyncIterator[SpacesServer]:
    """A server whose notifications and key checks run for as long as this is open."""
    server = SpacesServer(app, settings)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.guard.run)
        await tasks.start(server.notifications.run)
        try:
            yield server
        finally:
            server.notifications.close_streams()
            tasks.cancel_scope.cancel()


async def contain_errors(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
    """The SDK sends the text of an unexpected exception to handshake-era clients; it may hold anything."""
    try:
        return await call_next(ctx)
    except (MCPError, ValidationError):
        raise
    except SpacesError as error:
        raise refused(error) from None
    except Exception:
        reference = new_id("err")
        log.exception("internal error %s in %s", reference, ctx.method)
        raise MCPError(
            types.INTERNAL_ERROR,
            f"Something went wrong inside mcp-spaces ({reference}). The daemon's log has the cause.",
        ) from None


def instructions() -> str:
    """What clients put into the model's system prompt: at most 1,500 characters, key facts first."""
    return resource("context/instructions.md").read_text("utf-8")
