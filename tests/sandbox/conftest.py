"""What most tests of a sandbox begin with: a Docker driver of its own instance and a sandbox of it, or a room on the fake."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mcp_spaces.sandbox.docker.driver import DockerDriver
from mcp_spaces.sandbox.port import Sandbox
from tests.sandbox.app_fixture import Room, open_room
from tests.sandbox.rigs import docker_driver, sandbox_of


@pytest.fixture
async def driver(tmp_path: Path) -> AsyncIterator[DockerDriver]:
    async with docker_driver(tmp_path) as driver:
        yield driver


@pytest.fixture
async def sandbox(driver: DockerDriver) -> AsyncIterator[Sandbox]:
    async with sandbox_of(driver) as launched:
        yield launched


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    """With a sandbox `main` of the fake driver."""
    async with open_room(tmp_path) as opened:
        yield opened
