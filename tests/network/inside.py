"""A real sandbox `main` in a space `net`, and what its caller does in there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mcp_spaces.core.caller import Caller
from tests.security.app import World


@dataclass
class Inside:
    world: World
    caller: Caller

    async def call(self, operation: str, **arguments: Any) -> Any:
        return await self.world.call(operation, caller=self.caller, space="net", runtime="main", **arguments)

    async def run(self, command: str, **more: Any) -> Any:
        return await self.call("sandbox.shell", command=command, **more)

    async def out(self, command: str) -> str:
        ran = await self.run(command)
        assert ran.exit_code == 0, ran
        return str(ran.stdout)

    async def write(self, path: str, content: str) -> None:
        await self.call("sandbox.write_file", path=path, content=content)

    async def mount(self, **network: Any) -> None:
        await self.world.govern("space.update", space="net", patch={"mounts": {"network": network}})

    async def log(self) -> list[tuple[str, dict[str, Any]]]:
        read = await self.world.govern("network.log", space="net", runtime="main", limit=1000)
        return [(line.type.removeprefix("network."), dict(line.body)) for line in read.lines]

    async def used(self) -> list[str]:
        """The secrets that went out, by path."""
        return [body["path"] for kind, body in await self.log() if kind == "secret"]
