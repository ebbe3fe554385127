"""The composition root: settings → App. The only module that knows which technology stands behind which port."""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from mcp_spaces.browser.port import BrowserDriver
from mcp_spaces.browser.service import BrowserService
from mcp_spaces.browser.store import BrowserStore
from mcp_spaces.catalogue import CATALOGUE
from mcp_spaces.core.approvals import Approvals
from mcp_spaces.core.caller import Caller
from mcp_spaces.core.changes import Change, Changes
from mcp_spaces.core.context import Services
from mcp_spaces.core.ids import Clock, new_id
from mcp_spaces.core.journal import Journal
from mcp_spaces.core.operation import AnyOperation
from mcp_spaces.core.pipeline import Pipeline
from mcp_spaces.errors import WrongState
from mcp_spaces.identity.port import Principals
from mcp_spaces.identity.store import Identity
from mcp_spaces.network.access import LiveAccesses
from mcp_spaces.network.authorities import Authorities
from mcp_spaces.network.budgets import Budget, Budgets, midnight
from mcp_spaces.network.dialing import SystemDialer, SystemResolver, Upstream
from mcp_spaces.network.gateway import Gateway
from mcp_spaces.network.injection import Injection
from mcp_spaces.network.model import PrivateHosts, RuntimeRef
from mcp_spaces.network.port import Resolver
from mcp_spaces.network.ports import SpaceNeighbours
from mcp_spaces.network.proxies import Proxies
from mcp_spaces.network.records import RecordedLog, spent_since
from mcp_spaces.network.termination import Termination
from mcp_spaces.network.tls import Trust
from mcp_spaces.network.ways import Ways
from mcp_spaces.runs.artifacts import ArtifactStore
from mcp_spaces.runs.audit import Audit
from mcp_spaces.runs.backups import Backups
from mcp_spaces.runs.port import Artifacts
from mcp_spaces.runs.rollback import refuse_rollback
from mcp_spaces.runs.store import RunStore
from mcp_spaces.runs.waiting import RunWaiters
from mcp_spaces.sandbox.batch_store import PausedBatches
from mcp_spaces.sandbox.jobs import Jobs
from mcp_spaces.sandbox.port import LiveSandboxes, SandboxDriver, SandboxLimits, Tenant
from mcp_spaces.sandbox.service import Images, SandboxService
from mcp_spaces.settings import Settings
from mcp_spaces.spaces.lifecycle import Lifecycle
from mcp_spaces.spaces.model import Space
from mcp_spaces.spaces.port import Runtimes, Spaces
from mcp_spaces.spaces.store import RuntimeStore, SpaceStore
from mcp_spaces.spaces.views import SpaceViews
from mcp_spaces.state.chain import Sealer
from mcp_spaces.state.database import Database, Transaction
from mcp_spaces.storage.blobs import FileBlobs
from mcp_spaces.storage.links import LinkedFile, Links
from mcp_spaces.storage.port import SpaceFiles
from mcp_spaces.storage.space_files import StoredSpaceFiles
from mcp_spaces.storage.store import FileStore
from mcp_spaces.storage.transfer import Transfers
from mcp_spaces.vault.entry_requests import EntryRequests
from mcp_spaces.vault.master_key import MasterKeys, Source, taken_from
from mcp_spaces.vault.port import Boxes, Secrets
from mcp_spaces.vault.service import Vault

if TYPE_CHECKING:
    from mcp_spaces.browser.container import ContainerDriver
    from mcp_spaces.browser.local import LocalDriver
    from mcp_spaces.browser.playwright import PlaywrightDriver

log = logging.getLogger(__name__)

DATABASE_NAME = "state.db"
KEY_NAME = "seal.key"
BLOBS_NAME = "blobs"
KEY_BYTES = 32

MakeDriver = Callable[[Settings, str], SandboxDriver]
"""From the settings and the id of this instance, which every container of ours is labelled with."""
MakeBrowserDriver = Callable[[Settings, str], BrowserDriver]


@dataclass(frozen=True, slots=True)
class App:
    """What the surfaces need. Opened by `open_app`."""

    settings: Settings
    pipeline: Pipeline
    changes: Changes
    identity: Identity
    links: Links
    entries: EntryRequests
    services: Services

    def permitted(self, caller: Caller) -> tuple[AnyOperation, ...]:
        return self.pipeline.permitted(caller)

    def local_agent(self) -> Caller:
        return self.identity.local_agent()

    def operator(self) -> Caller:
        return self.identity.operator()

    def current(self, caller: Caller) -> Caller:
        """The same caller with today's scope: what was granted or taken meanwhile counts."""
        return self.identity.current(caller)

    async def authenticate(self, key: str) -> Caller:
        return self.identity.authenticate(key)

    async def still_valid(self, caller: Caller) -> bool:
        return self.identity.still_valid(caller)

    async def redeem_link(self, token: str) -> LinkedFile:
        return await self.links.redeem(token)


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
        database = Database.open(settings.state_dir / DATABASE_NAME, sealer=Sealer(sealing_key(settings.state_dir)))
        open_things.callback(database.close)
        await refuse_rollback(database, clock, accepted=accept_rollback)
        audit = Audit.of(database)
        report = await audit.verify_tail()
        if not report.intact:
            log.critical("the audit log was changed outside of mcp-spaces: %s", report.meaning)

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
        accesses = LiveAccesses(
            spaces=spaces,
            runtimes=runtimes,
            policy=spaces.policy,
            owner_scope=lambda owner_id: identity.get(owner_id).scope,
        )
        records, private_hosts = RecordedLog(journal, run_of), PrivateHosts.parse(settings.network_private_hosts)
        ways = Ways(
            injection=Injection(
                secrets=vault,
                accesses=accesses,
                approvals=approvals,
                records=records,
                learn=learn,
            ),
            accesses=accesses,
            private=private_hosts,
            trust=Trust(settings.network_authorities),
        )
        gateway = Gateway(
            accesses=accesses,
            neighbours=SpaceNeighbours(runtimes, lambda: sandboxes),
            records=records,
            resolver=resolver or SystemResolver(),
            dialer=SystemDialer(),
            private_hosts=private_hosts,
            proxies=Proxies.parse(settings.network_proxies),
            budgets=Budgets(network_budget(settings), clock, spent=spent_since(database, midnight(clock))),
            clock=clock,
            ways=ways,
            termination=Termination(
                authorities=Authorities(database, vault, clock), accesses=accesses, ways=ways, private=private_hosts
            ),
        )
        driver = (make_driver or docker_driver)(settings, instance)
        sandboxes = SandboxService(
            driver=driver,
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
        boxes: Boxes = vault
        browsers = BrowserService(
            driver=(make_browser_driver or browser_driver)(settings, instance),
            store=BrowserStore(database, boxes, clock),
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
        services.provide(Audit, audit)
        services.provide(BrowserService, browsers)
        services.provide(
            Backups,
            Backups(
                database, blobs, settings.state_dir / KEY_NAME, settings.state_dir / BLOBS_NAME, vault.keys.whereabouts
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


def network_budget(settings: Settings) -> Budget:
    return Budget(
        connections=settings.network_connections_max,
        requests_per_day=settings.network_requests_per_day,
        up_bytes_per_day=settings.network_up_bytes_per_day,
        down_bytes_per_day=settings.network_down_bytes_per_day,
        idle_s=settings.network_idle_s,
        total_s=settings.network_total_s,
    )


def docker_driver(settings: Settings, instance: str) -> SandboxDriver:
    # docker-py takes 0.2 s to import, and tests with another driver do without it.
    from mcp_spaces.sandbox.docker import DockerDriver

    return DockerDriver(
        instance_id=instance,
        state_dir=settings.state_dir,
        image=settings.sandbox_image,
        pool_size=settings.sandbox_pool_size,
        docker_url=settings.docker_host,
        log=logging.getLogger("mcp_spaces.sandbox"),
    )


def browser_driver(settings: Settings, instance: str) -> BrowserDriver:
    """As `browser_driver` says. Whoever wants to see a browser gets this machine's: a container has no screen."""
    from mcp_spaces.browser.choice import ChosenDriver
    from mcp_spaces.browser.playwright import PlaywrightDriver

    folder = settings.state_dir / "browsers"
    folder.mkdir(mode=0o700, exist_ok=True)
    playwright = PlaywrightDriver()
    if settings.browser_driver == "container":
        return contained_browsers(settings, instance, playwright, folder)
    local = local_browsers(settings, playwright, folder)
    if settings.browser_driver == "local" or settings.browser_headed:
        return local
    return ChosenDriver(contained_browsers(settings, instance, playwright, folder), local)


def contained_browsers(
    settings: Settings, instance: str, playwright: PlaywrightDriver, folder: Path
) -> ContainerDriver:
    """Containers of its own instance: what the sandboxes' driver reaps is none of these, and the other way round."""
    from mcp_spaces.browser.container import ContainerDriver
    from mcp_spaces.sandbox.docker import DockerDriver

    containers = DockerDriver(
        instance_id=f"{instance}-browsers",
        state_dir=folder,
        image=settings.browser_image,
        pool_size=0,
        docker_url=settings.docker_host,
        tenant=Tenant.BROWSER,
        log=logging.getLogger("mcp_spaces.browser"),
    )
    return ContainerDriver(
        sandboxes=containers,
        playwright=playwright,
        image=settings.browser_image,
        folder=folder,
        limits=browser_limits(settings),
        pool_size=settings.browser_pool_size,
        trusted=settings.browser_trusted_keys,
    )


def local_browsers(settings: Settings, playwright: PlaywrightDriver, folder: Path) -> LocalDriver:
    from mcp_spaces.browser.local import LocalDriver

    return LocalDriver(
        playwright=playwright,
        folder=folder,
        connect=Upstream,
        limits=browser_limits(settings),
        executable=settings.browser_executable,
        headed=settings.browser_headed,
        pool_size=settings.browser_pool_size,
        trusted=settings.browser_trusted_keys,
    )


def browser_limits(settings: Settings) -> SandboxLimits:
    return SandboxLimits(cpu_cores=2, memory_bytes=settings.browser_memory_bytes, disk_bytes=2 << 30, pids=1024)


async def instance_id(database: Database) -> str:
    """The id of this state directory, made with it: containers of another one are never touched."""

    def change(tx: Transaction) -> str:
        tx.execute("INSERT OR IGNORE INTO settings (name, value) VALUES ('instance_id', ?)", (new_id("in"),))
        row = tx.one("SELECT value FROM settings WHERE name = 'instance_id'")
        return str(row["value"]) if row is not None else ""

    return await database.write(change)


def sealing_key(state_dir: Path) -> bytes:
    """The key for the audit chain and for rows that grant something: beside the database, 0600, made once.

    Raises WrongState when it is damaged, readable by others, or gone although there is a database.
    """
    path = state_dir / KEY_NAME
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return _new_key(path)
    with os.fdopen(descriptor, "rb") as file:
        if os.fstat(file.fileno()).st_mode & 0o077:
            raise WrongState(f"{path} can be read by others.", hint=f"Run: chmod 600 {path}")
        key = file.read()
    if len(key) != KEY_BYTES:
        raise WrongState(f"{path} is damaged.", hint="Restore it from where you keep it apart from the backups.")
    return key


def _new_key(path: Path) -> bytes:
    if (path.parent / DATABASE_NAME).exists():
        raise WrongState(f"{path} is gone, so nothing in the database can be trusted.", hint="Restore the file.")
    key = secrets.token_bytes(KEY_BYTES)
    partial = path.with_name(path.name + ".partial")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(key)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)
    return key
