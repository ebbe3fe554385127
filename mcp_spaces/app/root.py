"""Where all parts are put together: settings → App."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import anyio

from mcp_spaces.app.drivers import MakeBrowserDriver, MakeDriver, browser_driver, docker_driver
from mcp_spaces.app.gateway import make_gateway
from mcp_spaces.app.state_dir import instance_id, open_state
from mcp_spaces.app.state_files import BLOBS_NAME, KEY_NAME
from mcp_spaces.app.surface import App
from mcp_spaces.browser.service import BrowserService
from mcp_spaces.browser.store import BrowserStore
from mcp_spaces.catalogue import CATALOGUE
from mcp_spaces.core.approvals import Approvals
from mcp_spaces.core.changes import Change, Changes
from mcp_spaces.core.context import Services
from mcp_spaces.core.ids import Clock
from mcp_spaces.core.journal import Journal
from mcp_spaces.core.pipeline import Pipeline
from mcp_spaces.identity.port import Principals
from mcp_spaces.identity.store import Identity
from mcp_spaces.network.access import LiveAccesses
from mcp_spaces.network.gateway import Gateway
from mcp_spaces.network.model import RuntimeRef
from mcp_spaces.network.neighbours import SpaceNeighbours
from mcp_spaces.network.port import Resolver
from mcp_spaces.network.records import RecordedLog
from mcp_spaces.runs.artifacts import ArtifactStore
from mcp_spaces.runs.audit import Audit
from mcp_spaces.runs.backups import Backups
from mcp_spaces.runs.port import Artifacts
from mcp_spaces.runs.store import RunStore
from mcp_spaces.runs.waiting import RunWaiters
from mcp_spaces.sandbox.batch.store import PausedBatches
from mcp_spaces.sandbox.images import Images
from mcp_spaces.sandbox.jobs import Jobs
from mcp_spaces.sandbox.port import LiveSandboxes
from mcp_spaces.sandbox.service import SandboxService
from mcp_spaces.settings import Settings
from mcp_spaces.spaces.lifecycle import Lifecycle
from mcp_spaces.spaces.model import Space
from mcp_spaces.spaces.port import Runtimes, Spaces
from mcp_spaces.spaces.store import RuntimeStore, SpaceStore
from mcp_spaces.spaces.views import SpaceViews
from mcp_spaces.state.database import Database
from mcp_spaces.storage.blobs import FileBlobs
from mcp_spaces.storage.links import Links
from mcp_spaces.storage.port import SpaceFiles
from mcp_spaces.storage.space_files import StoredSpaceFiles
from mcp_spaces.storage.store import FileStore
from mcp_spaces.storage.transfer import Transfers
from mcp_spaces.vault.entry_requests import EntryRequests
from mcp_spaces.vault.given_keys import taken_from
from mcp_spaces.vault.master_key import MasterKeys
from mcp_spaces.vault.master_record import Source
from mcp_spaces.vault.port import Secrets
from mcp_spaces.vault.service import Vault


@asynccontextmanager
async def open_app(
    settings: Settings,
    *,
    make_driver: MakeDriver | None = None,
    make_browser_driver: MakeBrowserDriver | None = None,
    clock: Clock | None = None,
    resolver: Resolver | None = None,
    accept_rollback: bool = False,
) -> AsyncIterator[App]:
    """Open everything, mend what a dead daemon left, and reap in the background until the end.

    Raises WrongState, Busy or DiskFull when the state cannot be opened; WrongState also for an older database than the
    last one, unless `accept_rollback`. An engine that is down is no error.
    """
    clock = clock or Clock()
    given = taken_from(os.environ)
    async with AsyncExitStack() as open_things:
        database = await open_things.enter_async_context(
            open_state(settings.state_dir, clock, accept_rollback=accept_rollback)
        )
        changes, services = Changes(), Services()
        journal, approvals = Journal(database, clock), Approvals(database, clock)
        identity = Identity(database, clock)
        await identity.ensure_defaults()
        await journal.interrupt_open_runs()

        runtimes = RuntimeStore(database)
        spaces = SpaceStore(database, runtimes)

        def announce(space_id: str) -> None:
            space = spaces.get(space_id)
            owner = None if space is None else space.owner_id
            changes.announce(Change("context", space_id, owner))

        def announce_listed(space: Space) -> None:
            owner = space.owner_id
            changes.announce(Change("context", space.id, owner), Change("resources", space.id, owner))

        blobs = FileBlobs(settings.state_dir / BLOBS_NAME)
        files, artifacts = FileStore(database, blobs, clock), ArtifactStore(database, blobs, clock)
        files.on_deleted.append(artifacts.delete_space)

        def run_of(runtime: RuntimeRef) -> str:
            if browser_run := browsers.run_of(runtime.id):
                return browser_run
            # A background job beside a call: nobody can say which of the two it was.
            alone = None if sandboxes.jobs.is_busy(runtime.id) else pipeline.active.only_run_in(runtime.id)
            return alone or sandboxes.launched_by(runtime.id)

        def learn(runtime: RuntimeRef, value: str, *, name: str) -> None:
            pipeline.active.learn(runtime.id, value, name=name)

        instance = await instance_id(database)
        preferred = None if settings.vault_key_source == "auto" else Source(settings.vault_key_source)
        masters = MasterKeys(settings.state_dir, instance_id=instance, given=given, preferred=preferred)
        vault = Vault(database, masters, clock)
        vault.on_changed.append(lambda: changes.announce(Change("secrets")))
        accesses = LiveAccesses(
            spaces=spaces,
            runtimes=runtimes,
            policy=spaces.policy,
            owner_scope=lambda owner_id: identity.get(owner_id).scope,
        )
        gateway = make_gateway(
            settings,
            database=database,
            clock=clock,
            vault=vault,
            accesses=accesses,
            approvals=approvals,
            neighbours=SpaceNeighbours(runtimes, lambda: sandboxes),
            records=RecordedLog(journal, run_of),
            learn=learn,
            resolver=resolver,
        )
        sandboxes = SandboxService(
            driver=(make_driver or docker_driver)(settings, instance),
            runtimes=runtimes,
            spaces=spaces,
            artifacts=artifacts,
            jobs=Jobs(events=journal, clock=clock),
            batches=PausedBatches(database, clock),
            images=Images(settings.sandbox_image, settings.sandbox_images),
            clock=clock,
            announce=announce,
            gateway=gateway,
        )
        browsers = BrowserService(
            driver=(make_browser_driver or browser_driver)(settings, instance),
            store=BrowserStore(database, vault, clock),
            runtimes=runtimes,
            spaces=spaces,
            gateway=gateway,
            clock=clock,
            announce=announce,
        )
        open_things.push_async_callback(browsers.aclose)
        open_things.push_async_callback(sandboxes.aclose)
        open_things.push_async_callback(gateway.aclose)
        pipeline = Pipeline(
            CATALOGUE,
            database=database,
            places=spaces,
            services=services,
            clock=clock,
            journal=journal,
            approvals=approvals,
            known_in=browsers.known_in,
        )
        lifecycle = Lifecycle(
            spaces=spaces,
            runtimes=runtimes,
            controls=[sandboxes, browsers],
            storage=files,
            active=pipeline.active,
            clock=clock,
            announce=announce,
            announce_listed=announce_listed,
        )
        links = Links(database, files, clock, public_url=settings.public_url, served=settings.serves_links)
        entries = EntryRequests(vault.keeping, journal, clock)
        waiters = RunWaiters()
        journal.on_closed.append(waiters.closed)

        services.provide(Approvals, approvals)
        services.provide(ArtifactStore, artifacts)
        services.provide(Artifacts, artifacts)
        services.provide(Audit, Audit.of(database))
        services.provide(BrowserService, browsers)
        services.provide(
            Backups,
            Backups(
                database,
                blobs,
                settings.state_dir / KEY_NAME,
                settings.state_dir / BLOBS_NAME,
                vault.keys.whereabouts,
                vault.keys.locked_by,
            ),
        )
        services.provide(Changes, changes)
        services.provide(Database, database)
        services.provide(EntryRequests, entries)
        services.provide(FileStore, files)
        services.provide(Gateway, gateway)
        services.provide(Identity, identity)
        services.provide(Journal, journal)
        services.provide(Lifecycle, lifecycle)
        services.provide(Links, links)
        services.provide(LiveSandboxes, sandboxes)
        services.provide(Principals, identity)
        services.provide(RunStore, RunStore(database, spaces))
        services.provide(RunWaiters, waiters)
        services.provide(Runtimes, runtimes)
        services.provide(SandboxService, sandboxes)
        services.provide(Secrets, vault)
        services.provide(SpaceStore, spaces)
        services.provide(SpaceViews, SpaceViews(spaces, runtimes, approvals, files))
        services.provide(Spaces, spaces)
        transfers = Transfers(files, sandboxes)
        services.provide(SpaceFiles, StoredSpaceFiles(files, transfers))
        services.provide(Transfers, transfers)
        services.provide(Vault, vault)

        await sandboxes.reconcile()
        await browsers.reconcile()
        for space_id in files.owners():
            # A kill between the last steps of a delete leaves files without a space.
            if spaces.get(space_id) is None:
                await files.delete_namespace(space_id)
        await blobs.reconcile(lambda tree: files.live(tree) | artifacts.live(tree))
        tasks = await open_things.enter_async_context(anyio.create_task_group())
        tasks.start_soon(lifecycle.reap_forever)
        tasks.start_soon(browsers.warm)
        await tasks.start(gateway.watch, changes)
        open_things.callback(tasks.cancel_scope.cancel)
        yield App(settings, pipeline, changes, identity, links, entries, services)
