"""Starting a browser: a new one, or a stopped one again."""

from __future__ import annotations

from collections.abc import Awaitable

from pydantic import BaseModel, ConfigDict, Field

from mcp_spaces.browser.live import LiveBrowser
from mcp_spaces.browser.model import (
    BrowserOptions,
    HostPattern,
    Isolation,
    Locale,
    ProfileName,
    ResourceType,
    Timezone,
    Viewport,
)
from mcp_spaces.browser.pages.failures import in_time
from mcp_spaces.browser.record.recording import refuse_profile
from mcp_spaces.browser.record_operations import START_S
from mcp_spaces.browser.runtime_operations import BrowserView, browser_view
from mcp_spaces.browser.service import BrowserService
from mcp_spaces.browser.sizes import BOOKED, check_size
from mcp_spaces.core.context import Context
from mcp_spaces.core.effect import Effect
from mcp_spaces.core.facts import BrowserFacts, BrowserUse
from mcp_spaces.core.operation import AnyOperation, Operation
from mcp_spaces.core.patterns import names_cover
from mcp_spaces.core.place import InSpace
from mcp_spaces.core.scope import Name, Scope
from mcp_spaces.core.scope_request import ScopeRequest, within
from mcp_spaces.errors import Conflict, ExceedsCeiling, NotFound
from mcp_spaces.spaces.model import (
    Alias,
    Runtime,
    RuntimeKind,
    inherited_again,
    parts_named,
    sized,
)

DEFAULT_ALIAS = "browser"


class LaunchOptions(BaseModel):
    """What is not named stays as the browser had it, or as BrowserOptions begins."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    isolation: Isolation | None = None
    """process: a browser of its own."""
    viewport: Viewport | None = None
    locale: Locale | None = None
    timezone: Timezone | None = None
    block_hosts: tuple[HostPattern, ...] | None = Field(default=None, max_length=200)
    proxy: Name | None = None
    """One that the space mounts."""
    block_resources: tuple[ResourceType, ...] | None = Field(default=None, max_length=5)
    """image, media, font, stylesheet, script."""
    record: bool | None = None
    """Keep a trace; not with a profile."""


class LaunchInput(InSpace):
    alias: Alias | None = None
    """browser, browser-2 … by default. That of a stopped browser starts it again."""
    profile: ProfileName | None = None
    """Keeps cookies and local storage under this name."""
    options: LaunchOptions = LaunchOptions()
    """Viewport, locale, blocking, isolation."""
    scope: ScopeRequest | None = None
    """Less than the space holds."""


class LaunchOutput(BrowserView):
    page: str
    """The first one, blank."""
    driver: str
    """container; or local: this machine's own Chromium, behind weaker walls (mcp-spaces doctor)."""
    started_in_ms: float


async def launch(context: Context, given: LaunchInput) -> LaunchOutput:
    """Raises ExceedsCeiling, QuotaExceeded, Conflict (alias or profile in use, the space changed), WrongState (record
    with a profile), RuntimeUnavailable.
    Nothing half done is left."""
    browsers, began = context.use(BrowserService), context.clock.monotonic()
    await context.progress(0, 2, "starting a browser")
    runtime, live = await _started(context, browsers, given)
    if live.options.record:
        try:
            # In its turn: whoever found the browser before this call ended may be filling in a secret.
            async with live.turn(context.redactor, run_id=context.run_id):
                with in_time("start the recording", START_S):
                    await live.recording.start(context)
        except BaseException:
            await browsers.stop(runtime.id, reason="its recording did not start")
            raise
    await context.progress(2, 2, f"browser {runtime.alias} is active")
    return LaunchOutput(
        **browser_view(browsers, runtime).model_dump(),
        page=live.active,
        driver=browsers.driver.name,
        started_in_ms=round((context.clock.monotonic() - began) * 1000, 1),
    )


async def _started(context: Context, browsers: BrowserService, given: LaunchInput) -> tuple[Runtime, LiveBrowser]:
    found = browsers.named(context.space.id, given.alias or DEFAULT_ALIAS)
    if found is None or (given.alias is None and not _is_as_new(context, browsers, found, given)):
        return await _new(context, browsers, given)
    try:
        return await _again(context, browsers, found, given)
    except Conflict:
        # Another launch may have started it just now; with a name of the caller's own, that is for the caller.
        if given.alias is not None or not browsers.row(found.id).holds:
            raise
    return await _new(context, browsers, given)


def _is_as_new(context: Context, browsers: BrowserService, found: Runtime, given: LaunchInput) -> bool:
    """Whether a stopped one, which keeps its disk of the space, would be as a new one that is launched like this."""
    options = _options(BrowserOptions(), given)
    return (
        found.kind is RuntimeKind.BROWSER
        and not found.holds
        and given.scope is None
        and found.asked == ()
        and browsers.store.options(found.id) == options
        and found.ceiling.limits == one_browser(context.scope, options.isolation).limits
    )


async def _new(context: Context, browsers: BrowserService, given: LaunchInput) -> tuple[Runtime, LiveBrowser]:
    options = _options(BrowserOptions(), given)
    inherited = one_browser(context.scope, options.isolation)
    wanted = inherited if given.scope is None else given.scope.over(inherited)
    ceiling = within(context.scope, wanted, whose="the space", who="its owner (space_update)")
    check_size(options.isolation, ceiling.limits, context.space.ceiling.limits)
    check_proxy(context, browsers, options)

    def start(alias: str) -> Awaitable[tuple[Runtime, LiveBrowser]]:
        runtime = browsers.fresh(context.space.id, alias, ceiling=ceiling, asked=parts_named(given.scope))
        return browsers.start_new(runtime, options, space_version=context.space.version, run_id=context.run_id)

    if given.alias is not None:
        return await start(given.alias)
    return await browsers.first_free(context.space.id, DEFAULT_ALIAS, start)


async def _again(
    context: Context, browsers: BrowserService, found: Runtime, given: LaunchInput
) -> tuple[Runtime, LiveBrowser]:
    """As its launches asked for, unless the call says otherwise; of all else what the space holds by now."""
    if found.kind is not RuntimeKind.BROWSER:
        raise Conflict(f"The alias {found.alias!r} is a sandbox's.", hint="Choose another alias.")
    before = browsers.store.options(found.id)
    options = _options(before, given)
    inherited = inherited_again(context.scope, found)
    if options.isolation is not before.isolation:
        # A browser of its own is another size than a share in one.
        sizes = one_browser(context.scope, options.isolation).limits
        inherited = inherited.model_copy(update={"limits": sizes})
    wanted = inherited if given.scope is None else given.scope.over(inherited)
    ceiling = within(context.scope, wanted, whose="the space", who="its owner (space_update)")
    check_size(options.isolation, ceiling.limits, context.space.ceiling.limits)
    check_proxy(context, browsers, options)
    asked = None if found.asked is None else parts_named(given.scope, before=found.asked)
    return await browsers.start_again(
        found.id,
        lambda row: row.model_copy(update={"ceiling": ceiling, "asked": asked}),
        options,
        run_id=context.run_id,
    )


def one_browser(ceiling: Scope, isolation: Isolation) -> Scope:
    """What a browser gets that asks for nothing. Raises ExceedsCeiling."""
    return sized(ceiling, BOOKED[isolation], kind=RuntimeKind.BROWSER)


def check_proxy(context: Context, browsers: BrowserService, options: BrowserOptions) -> None:
    """Raises ExceedsCeiling, NotFound."""
    if options.proxy is None:
        return
    if not names_cover(context.scope.proxy, options.proxy):
        raise ExceedsCeiling(
            f"The space does not mount the proxy {options.proxy}.",
            hint="A person can mount it: mounts.proxy.",
            key=f"proxy.{options.proxy}",
        )
    if options.proxy not in browsers.gateway.proxies:
        raise NotFound(f"No proxy {options.proxy}.", hint="The operator names proxies in MCP_SPACES_NETWORK_PROXIES.")


def _options(before: BrowserOptions, given: LaunchInput) -> BrowserOptions:
    asked = {name: value for name in LaunchOptions.model_fields if (value := getattr(given.options, name)) is not None}
    if given.profile is not None:
        asked["profile"] = given.profile
    options = before.model_copy(update=asked)
    if options.record:
        refuse_profile(options)
    return options


OPERATIONS: tuple[AnyOperation, ...] = (
    Operation(
        id="browser.launch",
        summary="Start a browser.",
        input=LaunchInput,
        output=LaunchOutput,
        effect=Effect.STARTS,
        facts=lambda _: BrowserFacts(BrowserUse.READ),
        handler=launch,
        needs_running_space=True,
        example={"space": "default"},
    ),
)
