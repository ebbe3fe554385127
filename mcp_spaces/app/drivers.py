"""Which driver runs sandboxes and which runs browsers, by the settings."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from mcp_spaces.app.state_files import BROWSERS_NAME
from mcp_spaces.browser.port import BrowserDriver
from mcp_spaces.network.dialing import Upstream
from mcp_spaces.sandbox.port import SandboxDriver, SandboxLimits, Tenant
from mcp_spaces.settings import Settings

if TYPE_CHECKING:
    from mcp_spaces.browser.driver.container import ContainerDriver
    from mcp_spaces.browser.driver.local import LocalDriver
    from mcp_spaces.browser.driver.playwright import PlaywrightDriver

MakeDriver = Callable[[Settings, str], SandboxDriver]
"""From the settings and the id of this instance, which every container of ours is labelled with."""
MakeBrowserDriver = Callable[[Settings, str], BrowserDriver]


def docker_driver(settings: Settings, instance: str) -> SandboxDriver:
    # docker-py takes 0.2 s to import, and tests with another driver do without it.
    from mcp_spaces.sandbox.docker.driver import DockerDriver

    return DockerDriver(
        instance_id=instance,
        state_dir=settings.state_dir,
        image=settings.sandbox_image,
        pool_size=settings.sandbox_pool_size,
        docker_url=settings.docker_host,
        log=logging.getLogger("mcp_spaces.sandbox"),
    )


def browser_driver(settings: Settings, instance: str) -> BrowserDriver:
    """As `browser_driver` says. Whoever wants to see a browser gets this machine's: a container has no screen."""
    from mcp_spaces.browser.driver.choice import ChosenDriver
    from mcp_spaces.browser.driver.playwright import PlaywrightDriver

    folder = settings.state_dir / BROWSERS_NAME
    folder.mkdir(mode=0o700, exist_ok=True)
    playwright = PlaywrightDriver()
    if settings.browser_driver == "container":
        return contained_browsers(settings, instance, playwright, folder)
    local = local_browsers(settings, playwright, folder)
    if settings.browser_driver == "local" or settings.browser_headed:
        return local
    return ChosenDriver(contained_browsers(settings, instance, playwright, folder), local)


def contained_browsers(
    settings: Settings, instance: str, playwright: PlaywrightDriver, folder: Path
) -> ContainerDriver:
    """Containers of its own instance: what the sandboxes' driver reaps is none of these, and the other way round."""
    from mcp_spaces.browser.driver.container import ContainerDriver
    from mcp_spaces.sandbox.docker.driver import DockerDriver

    containers = DockerDriver(
        instance_id=f"{instance}-browsers",
        state_dir=folder,
        image=settings.browser_image,
        pool_size=0,
        docker_url=settings.docker_host,
        tenant=Tenant.BROWSER,
        log=logging.getLogger("mcp_spaces.browser"),
    )
    return ContainerDriver(
        sandboxes=containers,
        playwright=playwright,
        image=settings.browser_image,
        folder=folder,
        limits=browser_limits(settings),
        pool_size=settings.browser_pool_size,
        trusted=settings.browser_trusted_keys,
    )


def local_browsers(settings: Settings, playwright: PlaywrightDriver, folder: Path) -> LocalDriver:
    from mcp_spaces.browser.driver.local import LocalDriver

    return LocalDriver(
        playwright=playwright,
        folder=folder,
        connect=Upstream,
        limits=browser_limits(settings),
        executable=settings.browser_executable,
        headed=settings.browser_headed,
        pool_size=settings.browser_pool_size,
        trusted=settings.browser_trusted_keys,
    )


def browser_limits(settings: Settings) -> SandboxLimits:
    return SandboxLimits(cpu_cores=2, memory_bytes=settings.browser_memory_bytes, disk_bytes=2 << 30, pids=1024)
