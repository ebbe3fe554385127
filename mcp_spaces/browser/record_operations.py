"""The operations that record a browser."""

from __future__ import annotations

from mcp_spaces.browser.acting import turn
from mcp_spaces.browser.live import LiveBrowser
from mcp_spaces.browser.pages.failures import in_time
from mcp_spaces.core.answer import Answer
from mcp_spaces.core.context import Context
from mcp_spaces.core.effect import Effect
from mcp_spaces.core.facts import BrowserFacts, BrowserUse
from mcp_spaces.core.operation import AnyOperation, Operation
from mcp_spaces.core.place import InRuntime
from mcp_spaces.errors import TimedOut

START_S = 15.0
END_S = 20.0
"""How long a recording may take to be written."""


class RecordInput(InRuntime):
    pass


class RecordStarted(Answer):
    recording: bool


class RecordedFile(Answer):
    artifact: str
    name: str
    """trace.zip is for Playwright's trace viewer, film.avi for a player."""
    size_bytes: int


class RecordStopped(Answer):
    files: tuple[RecordedFile, ...]


async def start(context: Context, _given: RecordInput) -> RecordStarted:
    """Raises WrongState: recording already, a secret was filled in, or there is a profile; TimedOut: a page hangs."""
    async with turn(context) as live:
        try:
            with in_time("start the recording", START_S):
                await live.recording.start(context)
        except TimedOut:
            live.recording.discard()
            raise
    context.note("recording", {"began": True})
    return RecordStarted(recording=True)


async def stop(context: Context, _given: RecordInput) -> RecordStopped:
    """Raises WrongState, TimedOut: what was recorded is lost then."""
    async with turn(context) as live:
        with in_time("end the recording", END_S):
            return await stopped(context, live)


async def stopped(context: Context, live: LiveBrowser) -> RecordStopped:
    """End the recording, its files with this call's run. Raises WrongState."""
    files = tuple(
        RecordedFile(artifact=one.id, name=one.name, size_bytes=one.size_bytes)
        for one in await live.recording.stop(context)
    )
    context.note("recording", {"files": [one.model_dump() for one in files]})
    return RecordStopped(files=files)


OPERATIONS: tuple[AnyOperation, ...] = (
    Operation(
        id="browser.record_start",
        summary="Record a browser: trace, film, pictures of actions.",
        input=RecordInput,
        output=RecordStarted,
        effect=Effect.BROWSES,
        facts=lambda _: BrowserFacts(BrowserUse.READ),
        handler=start,
        listed=False,
        needs_running_space=True,
        example={"space": "default"},
    ),
    Operation(
        id="browser.record_stop",
        summary="End a recording; its files are artifacts of this run.",
        input=RecordInput,
        output=RecordStopped,
        effect=Effect.ENDS,
        facts=lambda _: BrowserFacts(BrowserUse.READ),
        handler=stop,
        listed=False,
        needs_running_space=True,
        example={"space": "default"},
    ),
)
