"""A sandbox that dies while its launch is being recorded is not handed out."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import anyio
import pytest

from mcp_spaces.errors import RuntimeUnavailable
from mcp_spaces.sandbox.port import Sandbox, SandboxSpec
from tests.sandbox.app_fixture import open_room
from tests.sandbox.fake import FakeDriver

pytestmark = pytest.mark.anyio


class Dying:
    """It answers what is asked before it counts as started, and is gone after that."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sandbox, name)

    async def closed(self) -> str:
        return "it died"


class DriverOfTheDying(FakeDriver):
    dying = True

    async def launch(self, spec: SandboxSpec) -> Sandbox:
        launched = await super().launch(spec)
        return cast(Sandbox, Dying(launched)) if self.dying else launched


async def test_a_sandbox_that_dies_as_it_starts_is_an_error_and_its_alias_is_free(tmp_path: Path) -> None:
    driver = DriverOfTheDying(tmp_path / "sandboxes")
    async with open_room(tmp_path, driver=driver, launch=False) as room:
        with anyio.fail_after(30), pytest.raises(RuntimeUnavailable, match="ended as it started: it died"):
            await room.call("sandbox.launch", alias="main")
        assert (await room.call("sandbox.list")).sandboxes == ()
        driver.dying = False
        await room.call("sandbox.launch", alias="main")
        assert (await room.shell("echo alive")).stdout == "alive\n"


async def test_one_that_dies_as_it_is_started_again_keeps_its_files_for_the_next_start(tmp_path: Path) -> None:
    driver = DriverOfTheDying(tmp_path / "sandboxes")
    driver.dying = False
    async with open_room(tmp_path, driver=driver) as room:
        await room.call("sandbox.write_file", path="kept", content="still")
        await room.call("sandbox.stop", runtime="main")
        driver.dying = True
        with anyio.fail_after(30), pytest.raises(RuntimeUnavailable, match="ended as it started: it died"):
            await room.call("sandbox.launch", alias="main")
        (failed,) = (await room.call("sandbox.list")).sandboxes
        assert (failed.state, "ended as it started: it died" in failed.reason) == ("failed", True)
        driver.dying = False
        assert (await room.call("sandbox.launch", alias="main")).files_lost is None
        assert (await room.shell("cat kept")).stdout == "still"
