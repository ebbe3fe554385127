"""The real pipeline over a real database, around a handful of operations: what the server's tests serve."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import anyio
from pydantic import BaseModel, Field

from mcp_spaces.core.approvals import Approvals
from mcp_spaces.core.caller import Caller, Kind
from mcp_spaces.core.changes import Change, Changes
from mcp_spaces.core.context import Context, Services
from mcp_spaces.core.effect import Effect
from mcp_spaces.core.ids import Clock, new_id
from mcp_spaces.core.journal import Journal
from mcp_spaces.core.operation import AnyOperation, Audience, Operation
from mcp_spaces.core.pipeline import Pipeline
from mcp_spaces.core.place import Everywhere, RuntimePlace, SpacePlace
from mcp_spaces.core.policy.presets import load_preset
from mcp_spaces.core.scope import EVERYTHING
from mcp_spaces.errors import Denied, NotFound, Unauthenticated, WrongState
from mcp_spaces.state.chain import Sealer
from mcp_spaces.state.database import Database

SPACE_ID = "sp_" + "a" * 26
RUN_ID = "run_" + "b" * 26
KEY = "msp_test_0123456789abcdef"
OTHER_KEY = "msp_test_fedcba9876543210"
LINK_TOKEN = "link-0123456789abcdef"
AWKWARD = "a\x1b]52;c;\x07 \u202e\x9b31m \x7f ✓"
"""A file name that would reach for the terminal (threat S19)."""


class EchoInput(Everywhere):
    text: str = Field(max_length=100_000)
    """What to say."""
    times: int = Field(default=1, ge=1, le=9)
    """How often."""
    mood: Literal["calm", "loud"] | None = None


class Said(BaseModel):
    text: str
    mood: str | None = None
    anything: Any = None


class NoInput(Everywhere):
    pass


class LargeInput(Everywhere):
    characters: int = 0
    items: int = 0


class Large(BaseModel):
    text: str
    items: list[str]


class UriInput(Everywhere):
    space: str = "default"
    runtime: str | None = None
    topic: str = "all"
    detail: str = "compact"


class PageInput(Everywhere):
    cursor: str = ""


class RunInput(Everywhere):
    run: str


class FileInput(Everywhere):
    namespace: str
    path: str
    limit: int = 0
    encoding: str = "utf-8"


class AnyOutput(BaseModel, extra="allow"):
    pass


@dataclass
class Bench:
    """What the test and the operations tell each other."""

    waiting: anyio.Event = field(default_factory=anyio.Event)
    go_on: anyio.Event = field(default_factory=anyio.Event)
    cancelled: anyio.Event = field(default_factory=anyio.Event)
    calls: list[str] = field(default_factory=list)


async def echo(context: Context, wanted: EchoInput) -> Said:
    context.use(Bench).calls.append("echo")
    return Said(text=wanted.text * wanted.times, mood=wanted.mood)


async def wait(context: Context, _: NoInput) -> Said:
    bench = context.use(Bench)
    bench.waiting.set()
    try:
        await bench.go_on.wait()
    except BaseException:
        bench.cancelled.set()
        raise
    return Said(text="waited")


async def report(context: Context, _: NoInput) -> Said:
    for step in (1, 2, 2, 3):
        await context.progress(step, 3, f"step {step}\x1b[31m")
    return Said(text="reported")


async def large(_: Context, wanted: LargeInput) -> Large:
    return Large(text="x" * wanted.characters, items=[f"item {one}" for one in range(wanted.items)])


async def crash(_: Context, __: NoInput) -> Said:
    raise RuntimeError("the database password is hunter2")


async def refuse(_: Context, __: NoInput) -> Said:
    raise Denied("No \x1b[2Jshell here.", hint="Read files instead.", rule="shell.commands")


async def awkward(_: Context, __: NoInput) -> Said:
    return Said(text=AWKWARD, anything={"nothing": None, AWKWARD: 1})


async def list_spaces(_: Context, wanted: PageInput) -> AnyOutput:
    if wanted.cursor:
        return AnyOutput.model_validate({"spaces": []})
    return AnyOutput.model_validate({"spaces": [{"id": SPACE_ID, "name": "work"}], "next_cursor": "2"})


async def get_context(_: Context, wanted: UriInput) -> AnyOutput:
    if wanted.space not in (SPACE_ID, "work", "default"):
        raise NotFound("No such space.", hint="space_list shows yours.")
    return AnyOutput.model_validate({"space": {"id": SPACE_ID}, "topic": wanted.topic, "runtime": wanted.runtime})


async def get_run(_: Context, wanted: RunInput) -> AnyOutput:
    if wanted.run != RUN_ID:
        raise NotFound("No such run.", hint="run_list shows yours.")
    return AnyOutput.model_validate({"id": wanted.run})


async def read_file(_: Context, wanted: FileInput) -> AnyOutput:
    files: Mapping[str, Mapping[str, object]] = {
        "notes/today.md": {"content": "IyBUb2RheQ==", "encoding": "base64", "content_type": "text/markdown"},
        "a b.png": {"content": "iVBORw==", "encoding": "base64", "content_type": "image/png"},
    }
    if wanted.path not in files:
        raise NotFound("No such file.", hint="storage_browse lists them.")
    return AnyOutput.model_validate(files[wanted.path])


def observing(id: str, handler: Any, input: type[Any], output: type[Any] = Said, **more: Any) -> AnyOperation:  # noqa: A002
    return Operation(
        id=id, summary=f"{id}.", input=input, output=output, effect=Effect.OBSERVES, handler=handler, **more
    )


OPERATIONS: tuple[AnyOperation, ...] = (
    observing("thing.echo", echo, EchoInput, idempotent=True, example={"text": "hello"}),
    observing("thing.wait", wait, NoInput),
    observing("thing.report", report, NoInput),
    observing("thing.large", large, LargeInput, Large),
    observing("thing.crash", crash, NoInput),
    observing("thing.refuse", refuse, NoInput),
    observing("thing.awkward", awkward, NoInput),
    observing("thing.unlisted", echo, EchoInput, listed=False),
    observing("thing.govern", echo, EchoInput, audience=Audience.OPERATOR),
    observing("space.list", list_spaces, PageInput, AnyOutput),
    observing("context.get", get_context, UriInput, AnyOutput),
    observing("run.get", get_run, RunInput, AnyOutput),
    observing("storage.read", read_file, FileInput, AnyOutput),
)


class NoPlaces:
    def space(self, caller: Caller, reference: str) -> SpacePlace:
        raise NotFound("There are no spaces here.", hint="")

    def runtime(self, space: SpacePlace, reference: str | None, *, operation_id: str, active: bool) -> RuntimePlace:
        raise NotFound("There are no runtimes here.", hint="")


@dataclass(frozen=True)
class File:
    file_name: str
    content_type: str
    size_bytes: int
    chunks: AsyncIterator[bytes]


def caller(name: str, *, operator: bool = False, key_id: str | None = None, **more: Any) -> Caller:
    return Caller(
        principal_id=f"pr_{name}",
        name=name,
        kind=Kind.PERSON if operator else Kind.AGENT,
        scope=more.pop("scope", EVERYTHING),
        policy=load_preset("permissive"),
        operator=operator,
        key_id=key_id,
        **more,
    )


class NoEntries:
    """Nobody is asked for a secret."""

    address: Callable[[], Awaitable[str]] | None = None

    def shown(self, token: str) -> Any:
        raise NotFound("This page is over, or never was.", hint="Ask again.")

    async def enter(self, token: str, given: Mapping[str, str]) -> Any:
        return self.shown(token)

    async def refuse(self, token: str) -> None:
        self.shown(token)

    async def wait_while_open(self) -> None:
        """None is."""


@dataclass
class SmallApp:
    pipeline: Pipeline
    bench: Bench
    entries: NoEntries = field(default_factory=NoEntries)
    changes: Changes = field(default_factory=Changes)
    keys: dict[str, Caller] = field(default_factory=dict)
    agent: Caller = field(default_factory=lambda: caller("agent"))
    redeemed: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    """Keys whose rows were changed outside of mcp-spaces."""

    def permitted(self, who: Caller) -> tuple[AnyOperation, ...]:
        return self.pipeline.permitted(who)

    def local_agent(self) -> Caller:
        return self.agent

    def operator(self) -> Caller:
        return caller("operator", operator=True)

    async def authenticate(self, key: str) -> Caller:
        if key not in self.keys:
            raise Unauthenticated("This key is not valid.", hint="Ask the operator for one.")
        return self.keys[key]

    def current(self, who: Caller) -> Caller:
        if who.key_id is not None and who not in self.keys.values():
            raise Unauthenticated("The key is no longer valid.", hint="Ask the operator for a new one.")
        return who

    async def still_valid(self, who: Caller) -> bool:
        if any(self.keys[key] == who for key in self.damaged):
            raise WrongState("A stored row of keys is damaged; it grants nothing.", hint="Restore a backup.")
        return who.key_id is None or who in self.keys.values()

    async def revoke(self, key: str) -> None:
        """As the real operation does: running calls end at once, streams and connections by the change."""
        gone = self.keys.pop(key)
        self.pipeline.active.cancel_where(lambda call: call.caller.key_id == gone.key_id, reason="the key was revoked")
        self.changes.announce(Change("keys"))

    async def redeem_link(self, token: str) -> File:
        if token != LINK_TOKEN or self.redeemed:
            raise NotFound("No such link.", hint="Links work once.")
        self.redeemed.append(token)

        async def chunks() -> AsyncIterator[bytes]:
            yield b"<script>"
            yield b"alert(1)</script>"

        return File('r"é.html', "text/html", 25, chunks())


@asynccontextmanager
async def small_app(folder: Path, operations: Iterable[AnyOperation] = OPERATIONS) -> AsyncIterator[SmallApp]:
    database = Database.open(folder / "state.db", sealer=Sealer(b"k" * 32))
    bench = Bench()
    services = Services()
    services.provide(Bench, bench)
    try:
        clock = Clock()
        pipeline = Pipeline(
            operations,
            database=database,
            places=NoPlaces(),
            services=services,
            clock=clock,
            journal=Journal(database, clock),
            approvals=Approvals(database, clock),
        )
        app = SmallApp(pipeline, bench)
        services.provide(Changes, app.changes)
        app.keys = {KEY: caller("key", key_id=new_id("key")), OTHER_KEY: caller("other", key_id=new_id("key"))}
        yield app
    finally:
        database.close()
