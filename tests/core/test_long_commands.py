"""While one caller's long command is read as bash does, all others are served."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import anyio.from_thread
import anyio.lowlevel
import pytest

from mcp_spaces.core import pipeline
from mcp_spaces.core.effect import Effect
from mcp_spaces.core.facts import ShellFacts
from mcp_spaces.core.policy import Decision, Policy
from mcp_spaces.core.policy.long_commands import LONG_CHARACTERS, judged
from mcp_spaces.core.policy.remembered import decide_again
from mcp_spaces.errors import Denied
from tests.core.bench import AGENT, Bench, open_bench

pytestmark = pytest.mark.anyio

LONG = "true;" * (LONG_CHARACTERS // 5 + 1)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with open_bench(tmp_path) as opened:
        yield opened


async def test_the_event_loop_goes_on_while_a_long_command_is_judged() -> None:
    served = threading.Event()

    async def others() -> None:
        served.set()

    async with anyio.create_task_group() as group:
        group.start_soon(others)
        assert await judged(ShellFacts(LONG), lambda: served.wait(timeout=30))


async def test_two_long_commands_are_judged_one_after_the_other() -> None:
    under_way: list[str] = []
    beside: list[int] = []

    def judge() -> None:
        under_way.append("a judge")
        anyio.from_thread.run(anyio.lowlevel.checkpoint)
        beside.append(len(under_way))
        under_way.pop()

    async with anyio.create_task_group() as group:
        for _ in range(8):
            group.start_soon(judged, ShellFacts(LONG), judge)
    assert beside == [1] * 8


@pytest.mark.parametrize(("command", "beside"), [(LONG, True), ("true", False)])
async def test_the_pipeline_judges_long_commands_beside_the_loop_and_others_at_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, command: str, beside: bool
) -> None:
    threads: list[int] = []

    def noted(policy: Policy, *, operation_id: str, effect: Effect, facts: ShellFacts) -> Decision:
        threads.append(threading.get_ident())
        return decide_again(policy, operation_id=operation_id, effect=effect, facts=facts)

    monkeypatch.setattr(pipeline, "decide_again", noted)
    await bench.pipeline.call(AGENT, "thing.shell", {"command": command})
    assert [thread != threading.get_ident() for thread in threads] == [beside]


async def test_a_long_command_that_is_forbidden_is_denied_all_the_same(bench: Bench) -> None:
    with pytest.raises(Denied):
        await bench.pipeline.call(AGENT, "thing.shell", {"command": LONG + "sudo ls"})
    assert bench.last_run()["state"] == "denied"
