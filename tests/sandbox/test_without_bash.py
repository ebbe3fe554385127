"""An image with a plain sh: policy reads commands as bash does, so what the two read differently is refused there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from mcp_spaces.errors import Denied
from mcp_spaces.sandbox.port import Command, OutputSink, Process, Sandbox, SandboxSpec
from tests.sandbox.app_fixture import Room, open_room
from tests.sandbox.fake import FakeDriver

pytestmark = pytest.mark.anyio


class WithoutBash:
    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sandbox, name)

    async def start(self, command: Command, *, output: OutputSink) -> Process:
        argv = [part.replace("/bin/bash", "/nowhere/bash") for part in command.argv]
        return await self._sandbox.start(replace(command, argv=argv), output=output)


class DriverWithoutBash(FakeDriver):
    async def launch(self, spec: SandboxSpec) -> Sandbox:
        return cast(Sandbox, WithoutBash(await super().launch(spec)))


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    async with open_room(tmp_path, driver=DriverWithoutBash(tmp_path / "sandboxes")) as opened:
        yield opened


async def test_what_sh_reads_as_bash_does_runs(room: Room) -> None:
    ran = await room.shell("test -e nothing || echo 'no bash' | cat")
    assert (ran.exit_code, ran.stdout) == (0, "no bash\n")


@pytest.mark.parametrize("command", ["[[ -e nothing ]]; echo $?", "echo $'rm\\x20-rf'", "((1)); echo $?"])
async def test_what_only_bash_reads_so_is_refused(room: Room, command: str) -> None:
    with pytest.raises(Denied) as caught:
        await room.shell(command)
    assert caught.value.rule == "shell.syntax"
    with pytest.raises(Denied):
        await room.shell(command, background=True)
