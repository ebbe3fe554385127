"""Jobs and their limits, on processes that begin and end when the test says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any, cast

import anyio
import pytest

from mcp_spaces.core.active import ActiveCalls
from mcp_spaces.core.answer import ANSWER_CHARACTERS
from mcp_spaces.core.caller import Caller, Kind
from mcp_spaces.core.effect import Effect
from mcp_spaces.core.ids import Clock
from mcp_spaces.core.journal import Run
from mcp_spaces.core.policy import load_preset
from mcp_spaces.core.redaction import Redactor
from mcp_spaces.core.scope import EVERYTHING
from mcp_spaces.errors import QuotaExceeded
from mcp_spaces.sandbox.jobs import OLD_RING_BYTES, RECENT, RUNNING_LIMIT, Job, Jobs, JobState
from mcp_spaces.sandbox.port import Command, Exit, OutputSink, Sandbox, Stream

pytestmark = pytest.mark.anyio
PATIENCE_S = 10


class Running:
    """A process of no sandbox."""

    def __init__(self, output: OutputSink) -> None:
        self.output = output
        self.ended: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()

    def end(self) -> None:
        self.ended.set_result(Exit(exit_code=0, duration_ms=1.0, out_of_memory=False))

    async def wait(self) -> Exit:
        return await asyncio.shield(self.ended)

    async def kill(self) -> None:
        self.end()


class Begins:
    """Processes, once `may` is set."""

    def __init__(self) -> None:
        self.may = anyio.Event()
        self.processes: list[Running] = []

    async def start(self, command: Command, *, output: OutputSink) -> Running:
        await self.may.wait()
        self.processes.append(Running(output))
        return self.processes[-1]


class Noted:
    def __init__(self) -> None:
        self.bodies: list[Mapping[str, object]] = []

    async def emit(self, run_id: str, event_type: str, body: Mapping[str, object]) -> int:
        self.bodies.append({"type": event_type, **body})
        return len(self.bodies)


class Bench:
    def __init__(self) -> None:
        self.noted, self.sandbox = Noted(), Begins()
        self.jobs = Jobs(events=self.noted, clock=Clock())

    async def start(self, *, redactor: Redactor | None = None) -> Job:
        return await self.jobs.start(
            cast(Sandbox, self.sandbox),
            Command(["x"]),
            text="x",
            space_id="sp",
            runtime_id="rt",
            run_id="run",
            redactor=redactor or Redactor(),
        )

    async def ended(self, job: Job) -> None:
        cast(Any, job.process).end()
        with anyio.fail_after(PATIENCE_S):
            await job.ended.wait()


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    bench.sandbox.may.set()
    yield bench
    await bench.jobs.aclose()


async def test_jobs_that_are_about_to_start_count_as_running(bench: Bench) -> None:
    bench.sandbox.may = anyio.Event()
    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as group:
            for _ in range(RUNNING_LIMIT):
                group.start_soon(bench.start)
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(QuotaExceeded):
                await bench.start()
            bench.sandbox.may.set()
    assert len(bench.jobs.of_runtime("rt")) == RUNNING_LIMIT


async def test_of_jobs_that_ended_long_ago_the_end_of_the_output_is_kept(bench: Bench) -> None:
    jobs = []
    for _ in range(RECENT + 2):
        jobs.append(job := await bench.start())
        cast(Any, job.process).output(Stream.STDOUT, b"x" * 2 * OLD_RING_BYTES + b"the end")
        await bench.ended(job)
    await bench.start()
    assert [job.ring.end - job.ring.start <= OLD_RING_BYTES for job in jobs] == [True] * 2 + [False] * RECENT
    texts, _ = jobs[0].ring.since(jobs[0].ring.end - 7, ANSWER_CHARACTERS, ended=True)
    assert texts == [(Stream.STDOUT, "the end")]


async def test_a_job_whose_sandbox_ends_has_ended_once(bench: Bench) -> None:
    job = await bench.start()
    await bench.jobs.end_all("rt")
    await bench.ended(job)
    await anyio.wait_all_tasks_blocked()
    assert job.state is JobState.LOST
    assert [body["state"] for body in bench.noted.bodies] == ["lost"]


async def test_t06_a_job_ends_with_a_permission_that_ends_in_the_turn_in_which_it_began(bench: Bench) -> None:
    calls, caller = ActiveCalls(), Caller("pr_agent", "agent", Kind.AGENT, EVERYTHING, load_preset("standard"))
    job = await bench.start()
    bench.jobs.hold(job, calls, caller)
    with anyio.fail_after(PATIENCE_S):
        await calls.end_where(lambda call: call.caller is caller, reason="the key was revoked")
        await job.ended.wait()
    assert job.state is JobState.STOPPED and not calls.any_in("sp")


async def test_t06_a_job_ends_whose_call_was_ended_in_the_turn_in_which_its_process_began(bench: Bench) -> None:
    calls, caller = ActiveCalls(), Caller("pr_agent", "agent", Kind.AGENT, EVERYTHING, load_preset("standard"))
    bench.sandbox.may = anyio.Event()
    begun: list[Job] = []

    async def shell() -> None:
        run = Run("run", "sandbox.shell", caller.principal_id, None, 0.0, "sp", "rt")
        with calls.entered(run, caller, Effect.EXECUTES) as call, call.cancel_scope:
            begun.append(await bench.start())
            bench.jobs.hold(begun[0], calls, caller)

    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as group:
            group.start_soon(shell)
            await anyio.wait_all_tasks_blocked()
            bench.sandbox.may.set()
            # The call is under way, and the job is not yet.
            assert calls.cancel_where(lambda call: call.caller is caller, reason="the key was revoked") == 1
        await begun[0].ended.wait()
    assert begun[0].state is JobState.STOPPED


async def test_what_looked_like_the_beginning_of_a_secret_is_told_at_the_end(bench: Bench) -> None:
    redactor = Redactor()
    redactor.learn("correct horse battery", name="prod/x")
    job = await bench.start(redactor=redactor)
    cast(Any, job.process).output(Stream.STDOUT, b"it is correct horse")
    await bench.ended(job)
    texts, _ = job.ring.since(0, ANSWER_CHARACTERS, ended=True)
    assert "".join(text for _, text in texts) == "it is correct horse"
