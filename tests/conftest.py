"""What all tests share. Real SQLite, real Docker, real Chromium: only ports have fakes."""

from __future__ import annotations

import pytest


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
