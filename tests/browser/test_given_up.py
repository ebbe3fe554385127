"""What happens while a browser is launched, such as that its caller goes away, leaves nothing half done; no browser is
needed to see that."""

from __future__ import annotations

import socket
from contextlib import suppress
from pathlib import Path

import anyio
import pytest

from mcp_spaces.browser.driver.devtools import SOCKET_SUFFIX, DevToolsPipe
from mcp_spaces.browser.model import BrowserOptions
from mcp_spaces.browser.port import StorageState
from mcp_spaces.browser.service import BrowserService
from mcp_spaces.core.ids import new_id
from mcp_spaces.spaces.model import Runtime, RuntimeKind, RuntimeState, Space
from mcp_spaces.spaces.port import Runtimes, Spaces
from tests.browser.rigs import PATIENCE_S, short_folder
from tests.security.app import World, open_world
from tests.turns import cancelled_at, cancelled_everywhere, meanwhile

pytestmark = pytest.mark.anyio


async def a_space(world: World) -> Space:
    space = world.use(Spaces).get(await world.space("work"))
    assert space is not None
    return space


def a_browser(space: Space, state: RuntimeState) -> Runtime:
    return Runtime(
        id=new_id("rt"),
        space_id=space.id,
        kind=RuntimeKind.BROWSER,
        alias="web",
        state=state,
        image="",
        ceiling=space.ceiling,
        created_at=0,
    )


async def settled(world: World) -> None:
    """Every change that was asked for so far is made."""
    await world.database.write(lambda _: None)


async def test_a_launch_that_is_given_up_while_it_is_stored_leaves_no_browser(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        space = await a_space(world)
        with anyio.CancelScope() as gone:
            gone.cancel()
            await world.use(BrowserService).start_new(
                a_browser(space, RuntimeState.STARTING), BrowserOptions(), space_version=space.version, run_id="run_x"
            )
        await settled(world)
        assert world.use(Runtimes).of_space(space.id) == []


async def test_a_second_launch_that_is_given_up_while_it_is_stored_says_so(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        space = await a_space(world)
        runtime = a_browser(space, RuntimeState.STOPPED)
        await world.use(Runtimes).add(runtime, space_version=space.version)
        with anyio.CancelScope() as gone:
            gone.cancel()
            await world.use(BrowserService).start_again(runtime.id, lambda row: row, BrowserOptions(), run_id="run_x")
        await settled(world)
        (row,) = world.use(Runtimes).of_space(space.id)
        assert (row.state, row.reason) == (RuntimeState.FAILED, "its start was cancelled")


async def test_a_socket_for_playwright_whose_opening_is_given_up_can_be_closed() -> None:
    async def attempt(suspension: int) -> bool:
        pipe = DevToolsPipe(_nowhere)
        with short_folder() as folder:
            more = await cancelled_at(suspension, pipe.serve(folder))
            left = [socket.socket(socket.AF_UNIX) for _ in folder.glob(f"*{SOCKET_SUFFIX}")]
            for client, path in zip(left, folder.glob(f"*{SOCKET_SUFFIX}"), strict=True):
                client.connect(str(path))
            await pipe.aclose()
            for client in left:
                client.settimeout(PATIENCE_S)
                # Whoever waits at a socket that is closed is let go.
                with client, suppress(ConnectionResetError):
                    assert client.recv(1) == b""
            assert list(folder.iterdir()) == []
        return more

    await cancelled_everywhere(attempt)


async def _nowhere(_content: bytes) -> None:
    """There is no browser."""


async def test_a_browser_s_profile_is_still_there_for_who_opens_it_while_the_vault_is_rotated(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        space, store, asked = await world.space("one"), world.use(BrowserService).store, list[StorageState | None]()
        state: StorageState = {"cookies": [], "origins": []}
        await store.keep_profile(space, "work", state)

        async def ask() -> None:
            asked.append(await store.profile(space, "work"))

        async def attempt(suspension: int) -> bool:
            asked.clear()
            async with anyio.create_task_group() as group:
                await meanwhile(suspension, world.govern("vault.rotate"), lambda: group.start_soon(ask))
            assert asked in ([state], [])
            return bool(asked)

        await cancelled_everywhere(attempt)
