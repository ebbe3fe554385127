"""The second look for containers of a dead daemon: given up while it is not due, seen through once it has begun."""

from __future__ import annotations

import threading
from typing import Any, cast

import anyio
import anyio.from_thread
import anyio.lowlevel
import pytest

from mcp_spaces.sandbox.docker.container import DRIVER_LABEL
from mcp_spaces.sandbox.docker.engine import Engine, Threads
from mcp_spaces.sandbox.docker.latecomers import Latecomers
from tests.sandbox.rigs import LOG, PATIENCE_S, Later

pytestmark = pytest.mark.anyio


class SlowEngine:
    """Lists one container of ours and one of a dead daemon, when `answers` is set."""

    def __init__(self) -> None:
        self.asked = anyio.Event()
        self.answers = threading.Event()
        self.removed: list[str] = []

    def containers(self, label: str) -> list[dict[str, Any]]:
        anyio.from_thread.run_sync(self.asked.set)
        assert self.answers.wait(PATIENCE_S)
        return [{"Id": name, "Labels": {DRIVER_LABEL: name}} for name in ("ours", "dead")]

    def remove(self, container_id: str) -> None:
        self.removed.append(container_id)


def latecomers(engine: SlowEngine, later: Later) -> Latecomers:
    return Latecomers(
        engine=cast(Engine, engine), instance_id="test", driver_id="ours", thread=Threads(1), later=later, log=LOG
    )


async def test_a_look_that_has_begun_ends_before_its_driver_does() -> None:
    engine = SlowEngine()
    looking = latecomers(engine, anyio.lowlevel.checkpoint)
    looking.expect()
    with anyio.fail_after(PATIENCE_S):
        await engine.asked.wait()
        async with anyio.create_task_group() as group:
            group.start_soon(looking.aclose)
            await anyio.wait_all_tasks_blocked()
            engine.answers.set()
    assert engine.removed == ["dead"]


async def test_a_look_that_is_not_due_is_given_up() -> None:
    engine = SlowEngine()
    looking = latecomers(engine, anyio.sleep_forever)
    looking.expect()
    with anyio.fail_after(PATIENCE_S):
        await anyio.wait_all_tasks_blocked()
        await looking.aclose()
        await looking.aclose()
    assert not engine.asked.is_set()
