"""The operations that lend a browser to somebody's own DevTools client, and take it back."""

from __future__ import annotations

import anyio
import anyio.lowlevel
from pydantic import Field

from mcp_spaces.browser.acting import turn
from mcp_spaces.browser.lease import HANDSHAKE_S, Lease
from mcp_spaces.browser.live import LiveBrowser
from mcp_spaces.browser.model import Isolation
from mcp_spaces.browser.pages.failures import in_time
from mcp_spaces.browser.pages.sessions import session_of
from mcp_spaces.browser.secrets.secret_rules import refuse_inside
from mcp_spaces.browser.service import BrowserService
from mcp_spaces.core.active import ActiveCalls
from mcp_spaces.core.answer import Answer
from mcp_spaces.core.context import Context
from mcp_spaces.core.effect import Effect
from mcp_spaces.core.facts import BrowserFacts, BrowserUse
from mcp_spaces.core.ids import new_id
from mcp_spaces.core.journal import Journal, Run
from mcp_spaces.core.operation import AnyOperation, Operation
from mcp_spaces.core.place import InRuntime
from mcp_spaces.core.tasks import shielded
from mcp_spaces.errors import NotFound, RuntimeUnavailable, WrongState
from mcp_spaces.storage.model import iso

CONNECT = "browser.connect"
TTL_S = 300.0
TTL_MAX_S = 3600.0


class ConnectInput(InRuntime):
    ttl_s: float = Field(default=TTL_S, ge=1, le=TTL_MAX_S)
    """The connection ends after so many seconds."""


class ConnectOutput(Answer):
    url: str
    """For one connection from this machine: Playwright's connect_over_cdp, puppeteer.connect. Shown once."""
    expires_at: str


class DisconnectInput(InRuntime):
    pass


class DisconnectOutput(Answer):
    ended: bool
    """False: nobody had it."""


async def connect(context: Context, given: ConnectInput) -> ConnectOutput:
    """Raises WrongState: leased already, shared with other runtimes, or a secret was or may be in it."""
    browsers = context.use(BrowserService)
    async with turn(context) as live:
        refuse_inside(live)
        _refuse_signed_in(live)
        if live.options.isolation is not Isolation.PROCESS:
            raise WrongState(
                "Other runtimes share this browser.",
                hint="Launch one with options.isolation=process and connect to that.",
            )
        opened = await live.page(None)
        async with session_of(opened.page.context, opened.page) as session:
            with in_time("lend the browser", HANDSHAKE_S):
                target = await session.send("Target.getTargetInfo")
        journal, run_id = context.use(Journal), context.run_id

        async def ended(reason: str) -> None:
            live.lease, live.leased_until = None, None
            await journal.emit(run_id, "leaseEnded", {"reason": reason, "used": lease.connected})

        # What is attached to the browser, and listens, is the lease's to end: until there is one, nobody goes away.
        with anyio.CancelScope(shield=True):
            lease = Lease(
                await browsers.driver.debug(live.live),
                context_id=target["targetInfo"]["browserContextId"],
                ttl_s=given.ttl_s,
                on_end=ended,
            )
            context.redactor.learn(lease.token, name="lease")
            expires_at = context.clock.now() + given.ttl_s
            url = await lease.open(live.live.closed())
            live.scripting.ran(opened.page.context)
            live.lease, live.leased_until = lease, expires_at
            _hold(context, lease)
        try:
            await anyio.lowlevel.checkpoint_if_cancelled()
        except BaseException:
            await shielded(lease.end("whoever asked for it has left"))
            raise
        context.note("leased", {"expires_at": expires_at})
        return ConnectOutput(url=url, expires_at=iso(expires_at))


def _hold(context: Context, lease: Lease) -> None:
    """It lasts no longer than the permission that it was given under."""
    now, run_id = context.clock.now(), new_id("lease")
    run = Run(run_id, CONNECT, context.caller.principal_id, context.run_id, now, context.space.id, context.runtime.id)
    lease.held = context.use(ActiveCalls).hold(
        run, context.caller, Effect.INTERACTS, context.redactor, now=now, over=lease.ended, end=lease.end
    )


async def disconnect(context: Context, _given: DisconnectInput) -> DisconnectOutput:
    """Nobody is connected any more when this returns. Idempotent."""
    try:
        live = context.use(BrowserService).started(context.runtime.id)
    except (NotFound, RuntimeUnavailable, WrongState):
        # A lease ends with its browser.
        return DisconnectOutput(ended=False)
    if live.lease is None:
        return DisconnectOutput(ended=False)
    await live.lease.end(f"{context.caller.name} took it back")
    return DisconnectOutput(ended=True)


def _refuse_signed_in(live: LiveBrowser) -> None:
    """Over DevTools every cookie can be read, and a session is worth as much as the password (threat L20)."""
    if live.tainted:
        raise WrongState(
            "A secret was filled in here: its session could be copied.",
            hint="Launch another browser and connect to that.",
        )
    if live.options.profile is not None:
        raise WrongState(
            "A profile may hold sessions that could be copied.",
            hint="Launch one without a profile and connect to that.",
        )


OPERATIONS: tuple[AnyOperation, ...] = (
    Operation(
        id=CONNECT,
        summary="Lend a browser to your own Playwright or puppeteer.",
        input=ConnectInput,
        output=ConnectOutput,
        effect=Effect.INTERACTS,
        facts=lambda _: BrowserFacts(BrowserUse.CONNECT),
        handler=connect,
        listed=False,
        needs_running_space=True,
        shows_keys=True,
        example={"space": "default", "ttl_s": 300},
    ),
    Operation(
        id="browser.disconnect",
        summary="Take a lent browser back.",
        input=DisconnectInput,
        output=DisconnectOutput,
        effect=Effect.ENDS,
        handler=disconnect,
        listed=False,
        idempotent=True,
        on_stopped_runtime=True,
        example={"space": "default"},
    ),
)
