"""The storage and runs rooms over a real database and disk; the only fakes stand for spaces and sandboxes."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import anyio
from pydantic import BaseModel

from mcp_spaces.core.approvals import Approvals
from mcp_spaces.core.caller import Caller, Kind, Role
from mcp_spaces.core.child_call import call_child
from mcp_spaces.core.context import Context, Services
from mcp_spaces.core.effect import Effect
from mcp_spaces.core.ids import Clock
from mcp_spaces.core.journal import Journal
from mcp_spaces.core.limits import Limits
from mcp_spaces.core.operation import AnyOperation, Operation
from mcp_spaces.core.pipeline import Outcome, Pipeline
from mcp_spaces.core.place import InSpace, RuntimePlace, SpacePlace
from mcp_spaces.core.policy import load_preset
from mcp_spaces.core.scope import EVERYTHING, Scope, StorageGrant, StorageMode
from mcp_spaces.errors import Conflict, NotFound, WrongState
from mcp_spaces.runs import operations as runs
from mcp_spaces.runs.artifacts import ArtifactStore
from mcp_spaces.runs.audit import Audit
from mcp_spaces.runs.backups import Backups
from mcp_spaces.runs.port import Artifacts
from mcp_spaces.runs.store import RunStore
from mcp_spaces.runs.waiting import RunWaiters
from mcp_spaces.sandbox.port import FileContent, FileKind, FileStat, Sandbox
from mcp_spaces.spaces.model import PolicyChoice, Space, SpaceRequest, SpaceState
from mcp_spaces.spaces.port import Spaces
from mcp_spaces.state.chain import Sealer
from mcp_spaces.state.database import Database
from mcp_spaces.storage import operations as storage
from mcp_spaces.storage.blobs import FileBlobs
from mcp_spaces.storage.links import Links
from mcp_spaces.storage.store import FileStore
from mcp_spaces.storage.transfer import Transfers

SEALER = Sealer(b"k" * 32)
PATIENCE_S = 30
A, B = "sp_" + "a" * 26, "sp_" + "b" * 26
STANDARD = load_preset("standard")
AGENT_A = Caller("pr_a", "a", Kind.AGENT, EVERYTHING, STANDARD)
AGENT_B = Caller("pr_b", "b", Kind.AGENT, EVERYTHING, STANDARD)
OPERATOR = Caller("pr_operator", "operator", Kind.PERSON, EVERYTHING, load_preset("permissive"), operator=True)


@dataclass
class FakeSpaces:
    """Two spaces with an owner each. Stands for the port `Spaces` and for the pipeline's `Places`."""

    ceilings: dict[str, Scope] = field(default_factory=lambda: {A: EVERYTHING, B: EVERYTHING})
    names: Mapping[str, str] = field(default_factory=lambda: {"work": A, "other": B})
    owners: Mapping[str, str] = field(default_factory=lambda: {A: "pr_a", B: "pr_b"})

    def get(self, space_id: str) -> Space | None:
        if space_id not in self.ceilings:
            return None
        name = next(name for name, known in self.names.items() if known == space_id)
        return Space(
            id=space_id,
            owner_id=self.owners[space_id],
            state=SpaceState.RUNNING,
            requested=SpaceRequest(name=name, policy=PolicyChoice()),
            ceiling=self.ceilings[space_id],
            version=1,
            created_at=0,
            expires_at=None,
        )

    def may_see(self, caller: Caller, space_id: str) -> bool:
        if space_id not in self.ceilings or (caller.spaces is not None and space_id not in caller.spaces):
            return False
        return caller.spaces is not None or caller.operator or self.owners[space_id] == caller.principal_id

    def visible(self, caller: Caller, *, after: str = "", limit: int = 1000) -> list[Space]:
        found = [self.get(space_id) for space_id in sorted(self.ceilings) if self.may_see(caller, space_id)]
        return [space for space in found if space is not None and space.id > after][:limit]

    def resolve(self, caller: Caller, reference: str) -> Space:
        for space in self.visible(caller):
            if reference in (space.id, space.name, "default"):
                return space
        raise NotFound("No such space.", hint="space_list shows the spaces that you can see.")

    def space(self, caller: Caller, reference: str) -> SpacePlace:
        space = self.resolve(caller, reference)
        return SpacePlace(space.id, space.name, Role.OWNER, True, space.ceiling, STANDARD, 1)

    def runtime(self, space: SpacePlace, reference: str | None, *, operation_id: str, active: bool) -> RuntimePlace:
        return RuntimePlace("rt_1", "main", "sandbox", EVERYTHING)


@dataclass
class FakeSandbox:
    """A workspace in memory. `links` are paths that lead to another one; `after_first_read` is what a sandbox does
    behind the reader's back; `claimed_sizes` is what it says where it lies."""

    files: dict[str, bytes] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    after_first_read: dict[str, bytes] = field(default_factory=dict)
    claimed_sizes: dict[str, int] = field(default_factory=dict)
    holding: anyio.Event | None = None
    """Files are only written once this is set; `held` are those that wait for it."""
    held: list[str] = field(default_factory=list)

    async def read_file(self, path: str, *, offset: int = 0, limit: int) -> FileContent:
        resolved = self.links.get(path, path)
        if resolved not in self.files:
            raise NotFound(f"No file {path}.", hint="")
        content = self.files[resolved]
        self.files.update(self.after_first_read)
        size = self.claimed_sizes.get(resolved, len(content))
        version = hashlib.sha256(content).hexdigest()
        return FileContent(content[offset : offset + limit], offset, size, resolved, version)

    async def write_file(
        self, path: str, content: bytes, *, overwrite: bool, base_sha256: str | None = None
    ) -> FileStat:
        if self.holding is not None:
            self.held.append(path)
            await self.holding.wait()
        if path in self.files and not overwrite:
            raise Conflict("The file exists.", hint="")
        self.files[path] = content
        return FileStat(path, FileKind.FILE, len(content), 0, False)


class FakeLive:
    def __init__(self, sandbox: FakeSandbox) -> None:
        self.sandbox = sandbox

    def live(self, runtime_id: str) -> Sandbox:
        if runtime_id != "rt_1":
            raise WrongState("The runtime is stopped.", hint="")
        # It has the two methods that storage calls.
        return cast(Sandbox, self.sandbox)


class Hung(BaseModel):
    text: str = ""


@dataclass
class Gate:
    """Holds `thing.hang` until the test opens it."""

    started: anyio.Event = field(default_factory=anyio.Event)
    opened: anyio.Event = field(default_factory=anyio.Event)


async def hang(context: Context, _: InSpace) -> Hung:
    gate = context.use(Gate)
    gate.started.set()
    await gate.opened.wait()
    return Hung()


async def compose(context: Context, _: InSpace) -> Hung:
    await call_child(context, "storage.upload", {"path": "child.txt", "content": "x", "overwrite": True})
    await call_child(context, "storage.stat", {"path": "child.txt"})
    return Hung()


THINGS: tuple[AnyOperation, ...] = (
    Operation(id="thing.hang", summary="Waits.", input=InSpace, output=Hung, effect=Effect.OBSERVES, handler=hang),
    Operation(id="thing.compose", summary="Two.", input=InSpace, output=Hung, effect=Effect.COMPOSES, handler=compose),
)


@dataclass
class FakeTime:
    """`advance` instead of waiting."""

    at: float = 1_700_000_000.0

    def now(self) -> float:
        return self.at

    def advance(self, seconds: float) -> None:
        self.at += seconds


@dataclass
class Bench:
    folder: Path
    database: Database
    pipeline: Pipeline
    journal: Journal
    spaces: FakeSpaces
    sandbox: FakeSandbox
    blobs: FileBlobs
    files: FileStore
    links: Links
    artifacts: ArtifactStore
    runs: RunStore
    waiters: RunWaiters
    gate: Gate
    time: FakeTime

    async def call(self, operation: str, caller: Caller = AGENT_A, /, **arguments: Any) -> Outcome:
        return await self.pipeline.call(caller, operation, arguments)

    async def answer(self, operation: str, caller: Caller = AGENT_A, /, **arguments: Any) -> dict[str, Any]:
        outcome = await self.call(operation, caller, **arguments)
        return outcome.output.model_dump(mode="json")

    async def upload(self, path: str, content: str = "x", caller: Caller = AGENT_A, **more: object) -> dict[str, Any]:
        return await self.answer("storage.upload", caller, path=path, content=content, **more)

    def contents(self, tree: str | None = None) -> list[Path]:
        """The blobs on the disk."""
        return sorted((self.folder / "blobs").glob(f"{tree or '*'}/??/*"))

    def temporary(self) -> list[Path]:
        return list((self.folder / "blobs" / ".incoming").iterdir())


@asynccontextmanager
async def open_bench(folder: Path) -> AsyncIterator[Bench]:
    time = FakeTime()
    clock = Clock(now=time.now)
    database = Database.open(folder / "state.db", sealer=SEALER)
    spaces, sandbox, gate, services = FakeSpaces(), FakeSandbox(), Gate(), Services()
    blobs = FileBlobs(folder / "blobs")
    files = FileStore(database, blobs, clock)
    links = Links(database, files, clock, public_url="https://spaces.example")
    artifacts, store, waiters = ArtifactStore(database, blobs, clock), RunStore(database, spaces), RunWaiters()
    files.on_deleted.append(artifacts.delete_space)
    journal = Journal(database, clock)
    journal.on_closed.append(waiters.closed)
    services.provide(Database, database)
    services.provide(Spaces, spaces)
    services.provide(FileStore, files)
    services.provide(Links, links)
    services.provide(Transfers, Transfers(files, FakeLive(sandbox)))
    services.provide(ArtifactStore, artifacts)
    services.provide(Artifacts, artifacts)
    services.provide(RunStore, store)
    services.provide(RunWaiters, waiters)
    services.provide(Audit, Audit.of(database))
    services.provide(Backups, Backups(database, blobs, folder / "seal.key", folder / "blobs"))
    services.provide(Gate, gate)
    pipeline = Pipeline(
        (*storage.OPERATIONS, *runs.OPERATIONS, *THINGS),
        database=database,
        places=spaces,
        services=services,
        clock=clock,
        journal=journal,
        approvals=Approvals(database, clock),
    )
    try:
        yield Bench(
            folder, database, pipeline, journal, spaces, sandbox, blobs, files, links, artifacts, store, waiters, gate,
            time,
        )  # fmt: skip
    finally:
        database.close()


def granted(*, limits: Limits | None = None, **storage_modes: str) -> Scope:
    """A ceiling with these namespaces: `own="rw"`, `shared="ro:reports"`."""
    grants = {}
    for name, mode in storage_modes.items():
        kind, _, prefix = mode.partition(":")
        grants[name] = StorageGrant(mode=StorageMode(kind), prefix=prefix)
    return EVERYTHING.model_copy(update={"storage": grants, "limits": limits or EVERYTHING.limits})


def bound_to(caller: Caller, *spaces: str) -> Caller:
    return replace(caller, spaces=frozenset(spaces))


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
