"""The local driver: Chromium on this machine, for people who want to see it or have no engine.

As root each browser has a network of its own and another user, as in a container. Otherwise it runs as the daemon's
user in the machine's network: what holds then is that every context's proxy takes a password, and `walls` says so.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from anyio.to_thread import run_sync

from mcp_spaces.browser.driver import chromium, own_sandbox
from mcp_spaces.browser.driver.doors import Connect
from mcp_spaces.browser.driver.hosts import LINGER_S, Hosts
from mcp_spaces.browser.driver.local_host import LocalHost, Walls, end_processes, fresh_folder, remove_folder
from mcp_spaces.browser.driver.playwright import PlaywrightDriver
from mcp_spaces.errors import RuntimeUnavailable
from mcp_spaces.sandbox.port import SandboxLimits, Wall

UID = 61_777
"""No account's: of the range that systemd hands out for the time that a service runs."""


class LocalDriver(Hosts):
    name = "local"

    def __init__(
        self,
        *,
        playwright: PlaywrightDriver,
        folder: Path,
        connect: Connect,
        limits: SandboxLimits,
        executable: Path | None = None,
        headed: bool = False,
        pool_size: int = 1,
        trusted: Sequence[str] = (),
        linger_s: float = LINGER_S,
        walls: Walls | None = None,
    ) -> None:
        """`executable`: unset, the first one found. `walls`: unset, as many as this user may build."""
        super().__init__(playwright=playwright, folder=folder, limits=limits, pool_size=pool_size, linger_s=linger_s)
        self._profiles = folder / "local"
        self._connect = connect
        self._executable = executable
        self._headed = headed
        self._arguments = chromium.arguments(profile="{folder}/profile", trusted=trusted, headed=headed)
        is_root = os.geteuid() == 0
        self._walls = walls or Walls(jailed=is_root, uid=UID if is_root else None)

    async def _make(self, limits: SandboxLimits) -> LocalHost:
        self._profiles.mkdir(mode=0o700, exist_ok=True)
        return LocalHost(
            fresh_folder(self._profiles),
            program=self._program(),
            arguments=self._arguments,
            walls=self._walls,
            limits=limits,
            connect=self._connect,
        )

    def _program(self) -> Path:
        """Raises RuntimeUnavailable."""
        if self._executable is not None:
            if os.access(self._executable, os.X_OK):
                return self._executable
            raise RuntimeUnavailable(f"{self._executable} is no program.", hint="Set browser_executable to a Chromium.")
        found = chromium.find(headed=self._headed)
        if found is None:
            raise RuntimeUnavailable("There is no Chromium on this machine.", hint=f"Run: {self._mend}")
        return found

    @property
    def _mend(self) -> str:
        return chromium.install_command(headed=self._headed)

    async def _reap(self) -> Sequence[str]:
        """Processes first, then folders."""
        held = {host.folder.name for host in self._held if isinstance(host, LocalHost)}
        return await run_sync(self._sweep, held)

    def _sweep(self, held: set[str]) -> list[str]:
        left = [one for one in self._profiles.glob("*") if one.name not in held]
        if left:
            end_processes([str(one) for one in left])
        for folder in left:
            remove_folder(folder)
        return [one.name for one in left]

    async def walls(self) -> Sequence[Wall]:
        try:
            found = Wall("browser program", True, str(self._program()))
        except RuntimeUnavailable as error:
            found = Wall("browser program", False, error.message, error.hint.removeprefix("Run: "))
        uid = os.geteuid() if self._walls.uid is None else self._walls.uid
        sandboxed = await run_sync(own_sandbox.can_be_built, uid)
        jailed, own = self._walls.jailed, self._walls.uid is not None
        others = "run the daemon as root, or use the container driver"
        return [
            found,
            Wall(
                "browser network",
                jailed,
                "a network of its own, whose only way out is the gateway"
                if jailed
                else "this machine's: only Chromium's settings lead it to the gateway, by proxies that take a password",
                "" if jailed else others,
            ),
            Wall(
                "browser user",
                own,
                f"user {self._walls.uid}, which owns nothing else" if own else "the daemon's own user",
                "" if own else others,
            ),
            Wall(
                "browser sandbox",
                sandboxed,
                "Chromium's own is on" if sandboxed else f"Chromium does not start: {own_sandbox.MISSING}",
                "" if sandboxed else own_sandbox.mend(found.found),
            ),
            Wall(
                "browser limits",
                False,
                f"memory is looked at each second ({self._limits.memory_bytes >> 20} MiB); cores, processes and disk are not limited",
                "use the container driver",
            ),
        ]
