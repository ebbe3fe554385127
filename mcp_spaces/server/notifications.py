"""What clients are told without asking: tools, spaces or a context changed.

Handshake-era clients hear it on their connection, those of 2026-07-28 on the `subscriptions/listen` streams that they
open. Each hears only of what its caller may see. Nothing is replayed: a notification says "read again", so several
become one while a client is slow.

The SDK has no public handle to a connection outside of a request; `_connection` is used here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio
import anyio.abc
import mcp_types as types
from mcp import MCPError
from mcp.server.subscriptions import (
    ListenHandler,
    ResourcesListChanged,
    ResourceUpdated,
    ServerEvent,
    ToolsListChanged,
)

from mcp_spaces.errors import QuotaExceeded, Unauthenticated
from mcp_spaces.server.authentication import Guard, visitor

if TYPE_CHECKING:
    from mcp.server import ServerRequestContext
    from mcp.server.connection import Connection

    from mcp_spaces.core.caller import Caller
    from mcp_spaces.core.changes import Change
    from mcp_spaces.server.port import Application
    from mcp_spaces.server.resources import Resources

URIS_MAX = 64
"""Resources that one connection or stream may follow."""
STATE_KEY = "mcp-spaces"


@dataclass(eq=False, slots=True)
class Subscription:
    """One connection or stream that wants to know. `uris` maps each followed URI to the id of its space."""

    caller: Caller
    deliver: Callable[[ServerEvent], None]
    uris: dict[str, str | None] = field(default_factory=dict)


def events(change: Change, subscription: Subscription) -> Iterator[ServerEvent]:
    """What `change` is to one subscriber."""
    if not _concerns(change, subscription.caller):
        return
    if change.kind == "tools":
        yield ToolsListChanged()
    elif change.kind == "resources":
        yield ResourcesListChanged()
    elif change.kind == "context":
        for uri, space_id in subscription.uris.items():
            if change.space_id in (None, space_id):
                yield ResourceUpdated(uri=uri)


def _concerns(change: Change, caller: Caller) -> bool:
    """Whether the caller may see what changed: the operator all, a key its spaces, a principal its own."""
    if caller.spaces is not None and change.space_id is not None:
        return change.space_id in caller.spaces
    return caller.operator or change.principal_id in (None, caller.principal_id)


class Notifications:
    def __init__(self, app: Application, resources: Resources, guard: Guard) -> None:
        self._app = app
        self._resources = resources
        self._guard = guard
        self._subscriptions: set[Subscription] = set()
        self._tasks: anyio.abc.TaskGroup | None = None
        # Streams are counted per key and connection, by their lanes.
        self._listen = ListenHandler(_Bus(self._subscriptions), max_subscriptions=1 << 30)

    async def run(self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Hand out changes until cancelled."""
        async with self._app.changes.subscribe() as changes, anyio.create_task_group() as self._tasks:
            task_status.started()
            async for change in changes:
                if change.kind == "keys":
                    self._guard.look_now()
                for subscription in list(self._subscriptions):
                    for event in events(change, subscription):
                        subscription.deliver(event)

    def close_streams(self) -> None:
        """End the open streams in the way that tells clients that it was meant."""
        self._listen.close()

    # ------------------------------------------------------------------------------------ 2026-07-28

    async def listen(
        self, context: ServerRequestContext[Any, Any], params: types.SubscriptionsListenRequestParams
    ) -> types.SubscriptionsListenResult:
        """One stream. It promises only what this caller can see; the acknowledgement says what that is."""
        who = visitor()
        with who.lane.stream(), self._guard.following(who.caller):
            uris = await self._visible(params.notifications.resource_subscriptions or [])
            wanted = params.notifications.model_copy(update={"resource_subscriptions": list(uris) or None})
            _LISTENING.set((who.caller, uris))
            return await self._listen(context, params.model_copy(update={"notifications": wanted}))
        raise Unauthenticated("The key of this stream has ended.", hint="Listen again with a valid key.")

    async def _visible(self, uris: list[str]) -> dict[str, str | None]:
        if len(uris) > URIS_MAX:
            raise _too_many_uris()
        visible: dict[str, str | None] = {}
        for uri in dict.fromkeys(uris):
            try:
                visible[uri] = await self._resources.space_of(uri)
            except MCPError:
                continue
        return visible

    # --------------------------------------------------------------------------------- handshake era

    async def initialized(
        self, context: ServerRequestContext[Any, Any], _params: types.NotificationParams | None
    ) -> None:
        self._of_connection(context)

    async def subscribe(
        self, context: ServerRequestContext[Any, Any], params: types.SubscribeRequestParams
    ) -> types.EmptyResult:
        space_id = await self._resources.space_of(params.uri)
        # Counted and kept in one breath: a client may ask for many at once.
        followed = self._of_connection(context).uris
        if params.uri not in followed and len(followed) >= URIS_MAX:
            raise _too_many_uris()
        followed[params.uri] = space_id
        return types.EmptyResult()

    async def unsubscribe(
        self, context: ServerRequestContext[Any, Any], params: types.UnsubscribeRequestParams
    ) -> types.EmptyResult:
        self._of_connection(context).uris.pop(params.uri, None)
        return types.EmptyResult()

    def _of_connection(self, context: ServerRequestContext[Any, Any]) -> Subscription:
        connection: Connection = context.session._connection
        known = connection.state.get(STATE_KEY)
        if isinstance(known, Subscription):
            return known
        if self._tasks is None:
            raise RuntimeError("notifications are served while `run` runs")
        outbox = _Outbox(connection)
        subscription = Subscription(visitor().caller, outbox.put)
        connection.state[STATE_KEY] = subscription
        self._subscriptions.add(subscription)
        self._tasks.start_soon(outbox.run)
        connection.exit_stack.callback(self._subscriptions.discard, subscription)
        connection.exit_stack.callback(outbox.scope.cancel)
        return subscription


_LISTENING: ContextVar[tuple[Caller, Mapping[str, str | None]]] = ContextVar("mcp_spaces_listening")


class _Bus:
    """The SDK's stream handler registers its listener here; the context of the request says whose it is."""

    def __init__(self, subscriptions: set[Subscription]) -> None:
        self._subscriptions = subscriptions

    async def publish(self, event: ServerEvent) -> None:
        raise NotImplementedError("changes are published by the app")

    def subscribe(self, listener: Callable[[ServerEvent], None]) -> Callable[[], None]:
        caller, uris = _LISTENING.get()
        subscription = Subscription(caller, listener, dict(uris))
        self._subscriptions.add(subscription)
        return lambda: self._subscriptions.discard(subscription)


class _Outbox:
    """What one connection is still to be told. Slow clients hold up nobody, and equal news are sent once."""

    def __init__(self, connection: Connection) -> None:
        self.scope = anyio.CancelScope()
        self._connection = connection
        self._waiting: dict[ServerEvent, None] = {}
        self._wake = anyio.Event()

    def put(self, event: ServerEvent) -> None:
        self._waiting[event] = None
        self._wake.set()

    async def run(self) -> None:
        with self.scope:
            while True:
                await self._wake.wait()
                self._wake = anyio.Event()
                while self._waiting:
                    event = next(iter(self._waiting))
                    del self._waiting[event]
                    await self._send(event)

    async def _send(self, event: ServerEvent) -> None:
        match event:
            case ToolsListChanged():
                await self._connection.send_tool_list_changed()
            case ResourcesListChanged():
                await self._connection.send_resource_list_changed()
            case ResourceUpdated(uri):
                await self._connection.send_resource_updated(uri)
            case _:
                raise AssertionError(f"nothing publishes {event!r}")


def _too_many_uris() -> QuotaExceeded:
    return QuotaExceeded(f"At most {URIS_MAX} resources can be followed here.", hint="Unsubscribe from some first.")
