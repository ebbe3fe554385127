"""Starting a stopped sandbox again is judged as its first start was."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from mcp_spaces.core.ids import new_id
from mcp_spaces.core.scope_request import ScopeRequest
from mcp_spaces.errors import Conflict, InvalidInput
from mcp_spaces.sandbox.launching import one_sandbox
from mcp_spaces.sandbox.port import Sandbox, SandboxSpec
from mcp_spaces.spaces.model import Runtime, RuntimeKind, RuntimeState
from tests.sandbox.app_fixture import Room, open_room, smaller
from tests.sandbox.fake import FAKE_IMAGE, FakeDriver

pytestmark = pytest.mark.anyio
OTHER_IMAGE = "another-image"


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    """Its engine has an image that the operator did not name."""
    driver = FakeDriver(tmp_path / "sandboxes", images=(FAKE_IMAGE, OTHER_IMAGE))
    async with open_room(tmp_path, driver=driver) as opened:
        yield opened


async def test_e11_no_other_image_comes_in_with_a_second_start(room: Room) -> None:
    await room.call("sandbox.stop", runtime="main")
    with pytest.raises(InvalidInput, match="operator"):
        await room.call("sandbox.launch", alias="main", image=OTHER_IMAGE)
    assert (await room.call("sandbox.launch", alias="main")).image == FAKE_IMAGE


async def stopped_browser(room: Room, alias: str) -> Runtime:
    browser = Runtime(
        id=new_id("rt"),
        space_id=room.space.id,
        kind=RuntimeKind.BROWSER,
        alias=alias,
        state=RuntimeState.STOPPED,
        image="",
        ceiling=one_sandbox(room.space.ceiling),
        created_at=0,
    )
    await room.runtimes.add(browser, space_version=room.space.version)
    return browser


async def test_a_browsers_alias_starts_no_sandbox(room: Room) -> None:
    browser = await stopped_browser(room, "web")
    with pytest.raises(Conflict, match="browser"):
        await room.call("sandbox.launch", alias="web")
    found = room.runtimes.get(browser.id)
    assert found is not None and found.state is RuntimeState.STOPPED


async def test_a_browser_that_is_called_main_is_not_what_a_launch_without_an_alias_means(tmp_path: Path) -> None:
    async with open_room(tmp_path, driver=FakeDriver(tmp_path / "sandboxes"), launch=False) as room:
        await stopped_browser(room, "main")
        assert (await room.call("sandbox.launch")).alias == "main-2"


async def test_a_sandbox_of_which_nobody_knows_what_was_asked_keeps_what_it_had(room: Room) -> None:
    """As one of an older version: however often it is started, it does not get what the space holds besides."""
    narrow = (await room.call("sandbox.launch", alias="narrow", scope={"operations": ["sandbox.*"]})).id
    await room.call("sandbox.stop", runtime="narrow")
    await room.runtimes.change(narrow, lambda row: row.model_copy(update={"asked": None}))
    for _ in range(3):
        await room.call("sandbox.launch", alias="narrow")
        found = room.runtimes.get(narrow)
        assert found is not None and found.ceiling.operations == ("sandbox.*",)
        await room.call("sandbox.stop", runtime="narrow")


class NarrowingDriver(FakeDriver):
    """While a sandbox starts, somebody does something."""

    meanwhile: Callable[[], Awaitable[object]] | None = None

    async def launch(self, spec: SandboxSpec) -> Sandbox:
        launched = await super().launch(spec)
        if self.meanwhile is not None:
            await self.meanwhile()
        return launched


async def test_t09_a_second_start_that_is_refused_at_its_end_leaves_nothing_running(tmp_path: Path) -> None:
    driver = NarrowingDriver(tmp_path / "sandboxes")
    async with open_room(tmp_path, driver=driver) as room:
        await room.call("sandbox.write_file", path="kept", content="still")
        await room.call("sandbox.stop", runtime="main")

        async def narrow_the_space() -> None:
            request = ScopeRequest(operations=("sandbox.*",))
            await room.spaces.change(room.space.id, lambda one: smaller(one, request))

        driver.meanwhile = narrow_the_space
        with pytest.raises(Conflict, match="narrowed"):
            await room.call("sandbox.launch", alias="main")
        driver.meanwhile = None
        assert (await room.call("sandbox.launch", alias="main")).state == "active"
        assert (await room.call("sandbox.read_file", path="kept")).content == "still"
