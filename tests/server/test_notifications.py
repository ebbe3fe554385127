"""What clients are told without asking."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import anyio
import mcp_types as types
import pytest
from mcp import MCPError
from mcp.client.subscriptions import SubscriptionLost

from mcp_spaces.core.changes import Change
from mcp_spaces.server.notifications import URIS_MAX, Subscription, events
from tests.server.doors import Transport, open_house
from tests.server.small_app import KEY, OTHER_KEY, SPACE_ID, caller

# The newest protocol has no `resources/subscribe`; clients that speak an older one do.
pytestmark = pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning")

PATIENCE_S = 20
AT_ONCE = 20
"""Fewer than the calls that one connection may make at a time."""
CONTEXT = f"space://{SPACE_ID}/context"


class Ear:
    """A client's message handler that can be waited for."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self._news = anyio.Event()

    async def __call__(self, message: Any) -> None:
        self.heard.append(message)
        self._news.set()

    async def hears(self, kind: type[Any]) -> Any:
        with anyio.fail_after(10):
            while True:
                for message in self.heard:
                    if isinstance(message, kind):
                        return message
                await self._news.wait()
                self._news = anyio.Event()


@pytest.mark.parametrize("transport", ["shim", "http"])
async def test_a_connection_of_the_handshake_era_hears_of_changes(transport: Transport) -> None:
    ear = Ear()
    async with open_house() as house, house.client(transport, "legacy", message_handler=ear) as client:
        capabilities = client.server_capabilities
        assert capabilities.tools is not None
        assert capabilities.tools.list_changed
        assert capabilities.resources is not None
        assert capabilities.resources.subscribe
        assert capabilities.resources.list_changed
        await client.subscribe_resource("space://work/context")
        if transport == "http":
            await _stream_is_open(house.app.changes.announce, ear)
        house.app.changes.announce(Change("tools"))
        house.app.changes.announce(Change("resources"))
        house.app.changes.announce(Change("context", space_id=SPACE_ID))
        await ear.hears(types.ToolListChangedNotification)
        await ear.hears(types.ResourceListChangedNotification)
        updated = await ear.hears(types.ResourceUpdatedNotification)
        assert updated.params.uri == "space://work/context"


async def _stream_is_open(announce: Any, ear: Ear) -> None:
    """Over HTTP the client opens its stream on its own, some time after it said hello."""
    with anyio.fail_after(10):
        while not ear.heard:
            announce(Change("tools"))
            await anyio.wait_all_tasks_blocked()
    ear.heard.clear()


async def test_what_is_no_longer_followed_is_no_longer_told() -> None:
    ear = Ear()
    async with open_house() as house, house.client("shim", "legacy", message_handler=ear) as client:
        await client.subscribe_resource(CONTEXT)
        await client.unsubscribe_resource(CONTEXT)
        house.app.changes.announce(Change("context", space_id=SPACE_ID))
        house.app.changes.announce(Change("tools"))
        await ear.hears(types.ToolListChangedNotification)
        assert not any(isinstance(message, types.ResourceUpdatedNotification) for message in ear.heard)


@pytest.mark.parametrize("transport", ["shim", "http"])
async def test_a_stream_of_2026_hears_of_what_it_asked_for(transport: Transport) -> None:
    async with (
        open_house() as house,
        house.client(transport, "auto") as client,
        client.listen(tools_list_changed=True, resource_subscriptions=[CONTEXT, "space://other/context"]) as stream,
    ):
        assert list(stream.honored.resource_subscriptions or []) == [CONTEXT]
        house.app.changes.announce(Change("resources"))
        house.app.changes.announce(Change("context", space_id=SPACE_ID))
        house.app.changes.announce(Change("tools"))
        heard = []
        with anyio.fail_after(10):
            async for event in stream:
                heard.append(type(event).__name__)
                if len(heard) == 2:
                    break
        assert heard == ["ResourceUpdated", "ToolsListChanged"]


@pytest.mark.parametrize("transport", ["shim", "http"])
async def test_streams_above_the_limit_are_refused(transport: Transport) -> None:
    async with (
        open_house(streams_max=1) as house,
        house.client(transport) as client,
        client.listen(tools_list_changed=True),
    ):
        with pytest.raises(MCPError, match="change streams"):
            await client.listen(tools_list_changed=True).__aenter__()


async def test_no_more_resources_are_followed_when_many_are_asked_for_at_once() -> None:
    async with open_house() as house, house.client("shim", "legacy") as client:

        async def subscribe(number: int) -> None:
            with suppress(MCPError):
                await client.subscribe_resource(f"space://work/runtimes/r{number}/context")

        for first in range(0, URIS_MAX + AT_ONCE, AT_ONCE):
            async with anyio.create_task_group() as asking:
                for number in range(first, first + AT_ONCE):
                    asking.start_soon(subscribe, number)
        (subscription,) = house.server.notifications._subscriptions
        assert len(subscription.uris) == URIS_MAX


async def test_a_subscription_to_what_cannot_be_seen_is_not_found() -> None:
    async with open_house() as house, house.client("shim", "legacy") as client:
        with pytest.raises(MCPError, match="Resource not found"):
            await client.subscribe_resource("space://other/context")


def heard_by(who: Any, change: Change) -> list[str]:
    subscription = Subscription(who, lambda _: None, {CONTEXT: SPACE_ID})
    return [type(event).__name__ for event in events(change, subscription)]


def test_a_caller_hears_only_of_what_it_may_see() -> None:
    bound = caller("bound", spaces=frozenset({SPACE_ID}))
    assert heard_by(bound, Change("context", space_id=SPACE_ID)) == ["ResourceUpdated"]
    assert heard_by(bound, Change("resources", space_id="sp_other")) == []
    assert heard_by(bound, Change("tools", principal_id="pr_other")) == []
    assert heard_by(bound, Change("tools", principal_id="pr_bound")) == ["ToolsListChanged"]
    assert heard_by(bound, Change("keys")) == []
    assert heard_by(caller("operator", operator=True), Change("tools", principal_id="pr_other")) == ["ToolsListChanged"]


async def test_k11_a_key_whose_row_was_damaged_ends_its_connections_and_no_others() -> None:
    async with (
        open_house() as house,
        house.client("http", key=OTHER_KEY) as other,
        other.listen(tools_list_changed=True) as kept,
        house.client("http", key=KEY) as client,
        client.listen(tools_list_changed=True) as lost,
    ):
        house.app.damaged.append(KEY)
        house.app.changes.announce(Change("keys"))
        with anyio.fail_after(PATIENCE_S), pytest.raises(SubscriptionLost):
            await anext(aiter(lost))
        house.app.changes.announce(Change("tools"))
        with anyio.fail_after(PATIENCE_S):
            assert type(await anext(aiter(kept))).__name__ == "ToolsListChanged"


async def test_a_revoked_key_ends_its_streams_and_no_others() -> None:
    async with (
        open_house() as house,
        house.client("http", key=OTHER_KEY) as other,
        other.listen(tools_list_changed=True) as kept,
        house.client("http", key=KEY) as client,
        client.listen(tools_list_changed=True) as lost,
    ):
        await house.app.revoke(KEY)
        with anyio.fail_after(PATIENCE_S), pytest.raises(SubscriptionLost):
            await anext(aiter(lost))
        house.app.changes.announce(Change("tools"))
        with anyio.fail_after(PATIENCE_S):
            assert type(await anext(aiter(kept))).__name__ == "ToolsListChanged"
