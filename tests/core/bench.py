"""A real pipeline over a real database, around a few operations that the tests can steer."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import anyio
from pydantic import BaseModel, Field

from mcp_spaces.core import call_operation
from mcp_spaces.core.approvals import Approvals
from mcp_spaces.core.caller import Caller, Kind, Role
from mcp_spaces.core.child_call import call_child
from mcp_spaces.core.context import Context, Services
from mcp_spaces.core.effect import Effect
from mcp_spaces.core.facts import Facts, ShellFacts
from mcp_spaces.core.ids import Clock
from mcp_spaces.core.journal import Journal
from mcp_spaces.core.operation import AnyOperation, Audience, Operation
from mcp_spaces.core.pipeline import Pipeline
from mcp_spaces.core.place import Everywhere, InSpace, RuntimePlace, SpacePlace
from mcp_spaces.core.policy import load_preset
from mcp_spaces.core.scope import EVERYTHING
from mcp_spaces.errors import NotFound, SpacesError
from mcp_spaces.state.chain import Sealer
from mcp_spaces.state.database import Database
from mcp_spaces.state.transaction import Row

SEALER = Sealer(b"k" * 32)

AGENT = Caller("pr_agent", "agent", Kind.AGENT, EVERYTHING, load_preset("standard"))
OPERATOR = Caller("pr_operator", "operator", Kind.PERSON, EVERYTHING, load_preset("permissive"), operator=True)


class SayInput(Everywhere):
    text: str = Field(max_length=1000)


class Said(BaseModel):
    text: str


class Name(BaseModel):
    name: str = Field(max_length=8, pattern=r"^[a-z]+$")


async def name(context: Context, wanted: SayInput) -> Name:
    context.redactor.learn(wanted.text, name="prod/api")
    return Name(name=wanted.text)


class ShellInput(InSpace):
    command: str


@dataclass
class Steering:
    """What a test tells the operations, and what they tell it."""

    started: anyio.Event = field(default_factory=anyio.Event)
    calls: list[str] = field(default_factory=list)
    runs_seen: list[str] = field(default_factory=list)
    secret: str | None = None
    failure: SpacesError | None = None


async def say(context: Context, wanted: SayInput) -> Said:
    steering = context.use(Steering)
    steering.calls.append(wanted.text)
    row = context.use(Database).read_one("SELECT state FROM runs WHERE id = ?", (context.run_id,))
    steering.runs_seen.append("absent" if row is None else row["state"])
    if steering.secret:
        context.redactor.learn(steering.secret, name="prod/api")
    if steering.failure is not None:
        raise steering.failure
    return Said(text=wanted.text)


async def crash(context: Context, wanted: SayInput) -> Said:
    context.redactor.learn(wanted.text, name="prod/api")
    raise RuntimeError(f"the password is hunter2, and {wanted.text!r}")


async def hang(context: Context, _: SayInput) -> Said:
    context.use(Steering).started.set()
    await anyio.sleep_forever()
    raise AssertionError


async def begin(context: Context, _: SayInput) -> Said:
    """Hangs, and when it is cancelled answers with what was done until then."""
    context.use(Steering).started.set()
    try:
        await anyio.sleep_forever()
    except anyio.get_cancelled_exc_class():
        return Said(text="half of it")
    raise AssertionError


async def run_shell(context: Context, wanted: ShellInput) -> Said:
    context.use(Steering).calls.append(wanted.command)
    return Said(text=wanted.command)


async def twice(context: Context, wanted: SayInput) -> Said:
    await call_child(context, "thing.say", {"text": wanted.text})
    context.note("halfway", {"said": wanted.text, "key": "msp_" + "a" * 26 + "_" + "B" * 43})
    await call_child(context, "thing.say", {"text": wanted.text})
    return Said(text=wanted.text)


def shell_facts(wanted: ShellInput) -> Facts:
    return ShellFacts(wanted.command)


def thing(verb: str, handler: Any, effect: Effect = Effect.OBSERVES, **more: Any) -> AnyOperation:
    return Operation(
        id=f"thing.{verb}",
        summary="A thing.",
        input=SayInput,
        output=Said,
        effect=effect,
        handler=handler,
        **more,
    )


OPERATIONS: tuple[AnyOperation, ...] = (
    call_operation.CALL,
    thing("say", say),
    thing("crash", crash),
    thing("hang", hang),
    thing("begin", begin, cancelled=lambda answer: answer.text == "half of it"),
    Operation(
        id="thing.name",
        summary="A name.",
        input=SayInput,
        output=Name,
        effect=Effect.OBSERVES,
        handler=name,
        settled=lambda answer: answer.name != "pending",
    ),
    thing("twice", twice, Effect.COMPOSES),
    thing("govern", say, Effect.GOVERNS, audience=Audience.OPERATOR),
    Operation(
        id="thing.shell",
        summary="A command.",
        input=ShellInput,
        output=Said,
        effect=Effect.EXECUTES,
        handler=run_shell,
        facts=shell_facts,
    ),
)


class OnePlace:
    """One space that everybody sees."""

    def __init__(self) -> None:
        self.place = SpacePlace("sp_1", "work", Role.OWNER, True, EVERYTHING, load_preset("standard"), 1)

    def space(self, caller: Caller, reference: str) -> SpacePlace:
        if reference not in ("sp_1", "work", "default"):
            raise NotFound("No such space.", hint="space_list shows the spaces that you can see.")
        return self.place

    def runtime(self, space: SpacePlace, reference: str | None, *, operation_id: str, active: bool) -> RuntimePlace:
        raise NotFound("No such sandbox.", hint="")


@dataclass
class Bench:
    database: Database
    pipeline: Pipeline
    approvals: Approvals
    journal: Journal
    steering: Steering
    places: OnePlace

    def run(self, run_id: str) -> Row:
        row = self.database.read_one("SELECT * FROM runs WHERE id = ?", (run_id,))
        assert row is not None
        return row

    def last_run(self) -> Row:
        row = self.database.read_one("SELECT * FROM runs ORDER BY seq DESC LIMIT 1")
        assert row is not None
        return row


@asynccontextmanager
async def open_bench(
    folder: Path,
    clock: Clock | None = None,
    *,
    more: Sequence[AnyOperation] = (),
    places: OnePlace | None = None,
) -> AsyncIterator[Bench]:
    """`more`: operations besides those that all tests have."""
    clock = clock or Clock()
    database = Database.open(folder / "state.db", sealer=SEALER)
    services, steering, places = Services(), Steering(), places or OnePlace()
    services.provide(Steering, steering)
    services.provide(Database, database)
    journal, approvals = Journal(database, clock), Approvals(database, clock)
    pipeline = Pipeline(
        (*OPERATIONS, *more),
        database=database,
        places=places,
        services=services,
        clock=clock,
        journal=journal,
        approvals=approvals,
    )
    try:
        yield Bench(database, pipeline, approvals, journal, steering, places)
    finally:
        database.close()


@contextmanager
def locked(database: Database) -> Iterator[None]:
    """By another program: nothing can be recorded."""
    with closing(sqlite3.connect(database.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


def narrowed(caller: Caller, **changes: object) -> Caller:
    return replace(caller, scope=caller.scope.model_copy(update=changes))
