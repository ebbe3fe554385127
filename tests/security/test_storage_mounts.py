"""S16: what no grant mounts is not there, whatever is asked of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mcp_spaces.errors import NotFound
from tests.storage.bench import AGENT_B, A, B, Bench, granted, open_bench

pytestmark = pytest.mark.anyio
CALLS: dict[str, dict[str, Any]] = {
    "storage.read": {"path": "a"},
    "storage.stat": {"path": "a"},
    "storage.browse": {},
    "storage.delete": {"path": "a"},
    "storage.upload": {"path": "b", "content": "x"},
    "storage.copy": {"path": "a", "to": "mine"},
    "storage.link": {"path": "a"},
    "storage.stage": {"path": "a", "to": "a"},
}


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with open_bench(tmp_path) as opened:
        opened.spaces.ceilings = {A: granted(own="rw", exports="rw"), B: granted(own="rw")}
        await opened.upload("a", "shared", namespace="exports")
        yield opened


@pytest.mark.parametrize("operation", CALLS)
async def test_s16_a_namespace_that_is_not_mounted_is_none(bench: Bench, operation: str) -> None:
    said = []
    for namespace in ("exports", "never-made"):
        with pytest.raises(NotFound) as caught:
            await bench.call(operation, AGENT_B, namespace=namespace, **CALLS[operation])
        said.append((caught.value.message, caught.value.hint))
    assert said[0] == said[1]
    assert (await bench.answer("storage.read", namespace="exports", path="a"))["content"] == "shared"
