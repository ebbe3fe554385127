"""The sandbox room's operations with everything real around them: pipeline, database, spaces, artifacts.

The driver is what a test gives; without one it is the fake.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcp_spaces.core.approvals import Approvals
from mcp_spaces.core.caller import Caller
from mcp_spaces.core.context import Progress, Services, no_progress
from mcp_spaces.core.ids import Clock, new_id
from mcp_spaces.core.journal import Journal
from mcp_spaces.core.pipeline import Pipeline
from mcp_spaces.core.policy import load_preset
from mcp_spaces.core.scope import Scope, narrow
from mcp_spaces.core.scope_request import ScopeRequest
from mcp_spaces.identity.model import AGENT_SCOPE
from mcp_spaces.identity.store import Identity
from mcp_spaces.runs.artifacts import ArtifactStore
from mcp_spaces.sandbox.batch.store import PausedBatches
from mcp_spaces.sandbox.jobs import Jobs
from mcp_spaces.sandbox.operations import OPERATIONS
from mcp_spaces.sandbox.port import LiveSandboxes, SandboxDriver
from mcp_spaces.sandbox.service import Images, SandboxService
from mcp_spaces.spaces.model import DEFAULT_LIMITS, OWN_STORAGE, PolicyChoice, Space, SpaceRequest, SpaceState
from mcp_spaces.spaces.store import RuntimeStore, SpaceStore
from mcp_spaces.state.chain import Sealer
from mcp_spaces.state.database import Database
from mcp_spaces.storage.blobs import FileBlobs
from tests.sandbox.fake import FAKE_IMAGE, FakeDriver

SEALER = Sealer(b"k" * 32)
SPACE_SCOPE = Scope(operations=("*",), storage=OWN_STORAGE, limits=DEFAULT_LIMITS)


@dataclass
class Room:
    """One agent with its space, and short ways to call."""

    pipeline: Pipeline
    database: Database
    service: SandboxService
    spaces: SpaceStore
    runtimes: RuntimeStore
    approvals: Approvals
    artifacts: ArtifactStore
    identity: Identity
    agent: Caller
    space: Space
    folder: Path

    async def call(
        self, operation_id: str, *, caller: Caller | None = None, progress: Progress = no_progress, **arguments: Any
    ) -> Any:
        outcome = await self.pipeline.call(
            caller or self.agent, operation_id, {"space": self.space.id, **arguments}, progress=progress
        )
        return outcome.output

    async def shell(self, command: str, **arguments: Any) -> Any:
        return await self.call("sandbox.shell", command=command, **arguments)

    async def batch(self, *operations: object, **arguments: Any) -> Any:
        return await self.call("sandbox.run_operations", operations=list(operations), **arguments)

    async def decide(self, approval_id: str, *, grant: bool) -> None:
        await self.approvals.decide(approval_id, grant=grant, decided_by="pr_operator", run_id="run_operator")

    async def another_space(self, name: str, *, preset: Any = "standard") -> Space:
        return await add_space(self.spaces, self.agent, name, preset=preset)

    def runs(self, operation_id: str) -> list[Mapping[str, Any]]:
        rows = self.database.read("SELECT * FROM runs WHERE operation = ? ORDER BY seq", (operation_id,))
        return [dict(row) for row in rows]

    def events(self, run_id: str) -> list[tuple[str, dict[str, Any]]]:
        rows = self.database.read("SELECT type, body FROM events WHERE run_id = ? ORDER BY seq", (run_id,))
        return [(row["type"], json.loads(row["body"])) for row in rows]


async def add_space(
    spaces: SpaceStore, owner: Caller, name: str, *, preset: Any = "standard", ceiling: Scope = SPACE_SCOPE
) -> Space:
    request = SpaceRequest(name=name, policy=PolicyChoice(preset=preset))
    space = Space(
        id=new_id("sp"),
        owner_id=owner.principal_id,
        state=SpaceState.RUNNING,
        requested=request,
        ceiling=ceiling,
        version=1,
        created_at=0,
        expires_at=None,
    )
    await spaces.add(space, most=100)
    return space


@asynccontextmanager
async def open_room(
    folder: Path,
    *,
    driver: SandboxDriver | None = None,
    image: str = FAKE_IMAGE,
    preset: Any = "standard",
    launch: bool = True,
) -> AsyncIterator[Room]:
    """Opening a folder again is a restart of the daemon: the same database, another service."""
    clock = Clock()
    database = Database.open(folder / "state.db", sealer=SEALER)
    identity = Identity(database, clock)
    await identity.ensure_defaults()
    runtimes = RuntimeStore(database)
    spaces = SpaceStore(database, runtimes)
    artifacts = ArtifactStore(database, FileBlobs(folder / "blobs"), clock)
    journal, approvals, services = Journal(database, clock), Approvals(database, clock), Services()
    await journal.interrupt_open_runs()
    service = SandboxService(
        driver=driver or FakeDriver(folder / "workspaces"),
        runtimes=runtimes,
        spaces=spaces,
        artifacts=artifacts,
        jobs=Jobs(events=journal, clock=clock),
        batches=PausedBatches(database, clock),
        images=Images(image),
        clock=clock,
        announce=lambda _space_id: None,
    )
    services.provide(SandboxService, service)
    services.provide(LiveSandboxes, service)
    pipeline = Pipeline(
        OPERATIONS,
        database=database,
        places=spaces,
        services=services,
        clock=clock,
        journal=journal,
        approvals=approvals,
    )
    agent = identity.local_agent()
    known = spaces.visible(agent)
    space = known[0] if known else await add_space(spaces, agent, "work", preset=preset)
    room = Room(
        pipeline, database, service, spaces, runtimes, approvals, artifacts, identity, agent, space, folder
    )  # fmt: skip
    try:
        await service.reconcile()
        if launch:
            await room.call("sandbox.launch", alias="main")
        yield room
    finally:
        await service.aclose()
        database.close()


def smaller(space: Space, request: ScopeRequest) -> Space:
    """The space as a narrowing update leaves it."""
    return space.model_copy(
        update={"ceiling": narrow(space.ceiling, request.over(space.ceiling)), "version": space.version + 1}
    )


def narrowed(caller: Caller, operations: tuple[str, ...]) -> Caller:
    scope = AGENT_SCOPE.model_copy(update={"operations": operations})
    return Caller(caller.principal_id, caller.name, caller.kind, scope, load_preset("standard"))
