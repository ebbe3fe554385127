"""What tests of threats start from: a whole app, or one with a browser in it, a site and its logins."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.browser.signing import Rig, open_rig
from tests.security.app import World, open_world


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield opened


@pytest.fixture(scope="module")
async def opened(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    """One-time codes are new every 6 s, so that two of them cost no test half a minute."""
    async with open_rig(tmp_path_factory.mktemp("rig"), period_s=6) as rig:
        yield rig


@pytest.fixture
async def rig(opened: Rig) -> Rig:
    """With a fresh browser."""
    await opened.fresh()
    return opened
