"""How many resources a stream follows, and what is left of it when its client is gone."""

from __future__ import annotations

import anyio
import pytest
from mcp import MCPError

from mcp_spaces.server.notifications import URIS_MAX
from tests.server.doors import Era, House, open_house

# The newest protocol has no `resources/subscribe`; clients that speak an older one do.
pytestmark = pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning")


def contexts(count: int) -> list[str]:
    return [f"space://work/runtimes/r{number}/context" for number in range(count)]


async def nobody_follows(house: House) -> None:
    with anyio.fail_after(20):
        while house.server.notifications._subscriptions:
            await anyio.wait_all_tasks_blocked()


async def test_a_stream_follows_so_many_resources_and_one_more_is_refused() -> None:
    async with open_house() as house, house.client() as client:
        with pytest.raises(MCPError, match="At most 64 resources"):
            await client.listen(resource_subscriptions=contexts(URIS_MAX + 1)).__aenter__()
        async with client.listen(resource_subscriptions=contexts(URIS_MAX)) as stream:
            assert list(stream.honored.resource_subscriptions or []) == contexts(URIS_MAX)


async def test_what_is_followed_already_may_be_asked_for_again_where_there_is_no_room() -> None:
    async with open_house() as house, house.client("shim", "legacy") as client:
        for uri in contexts(URIS_MAX):
            await client.subscribe_resource(uri)
        await client.subscribe_resource(contexts(1)[0])
        with pytest.raises(MCPError, match="At most 64 resources"):
            await client.subscribe_resource(contexts(URIS_MAX + 1)[-1])
        await client.unsubscribe_resource(contexts(1)[0])
        await client.subscribe_resource(contexts(URIS_MAX + 1)[-1])


async def test_a_client_that_is_gone_is_followed_by_nobody(era: Era) -> None:
    async with open_house() as house:
        async with house.client("shim", era) as client:
            if era == "legacy":
                await client.subscribe_resource("space://work/context")
                assert len(house.server.notifications._subscriptions) == 1
            else:
                async with client.listen(tools_list_changed=True):
                    assert len(house.server.notifications._subscriptions) == 1
                await nobody_follows(house)
        await nobody_follows(house)
