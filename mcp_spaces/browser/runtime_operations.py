"""The operations on browsers that there are: list, get, stop, delete; and to forget a profile."""

from __future__ import annotations

import anyio

from mcp_spaces.browser.answers import PageView, page_view
from mcp_spaces.browser.model import BrowserOptions, Isolation, ProfileName
from mcp_spaces.browser.record_operations import stopped
from mcp_spaces.browser.service import BrowserService
from mcp_spaces.core.answer import Answer
from mcp_spaces.core.context import Context
from mcp_spaces.core.effect import Effect
from mcp_spaces.core.operation import AnyOperation, Operation
from mcp_spaces.core.place import InRuntime, InSpace
from mcp_spaces.errors import NotFound, SpacesError
from mcp_spaces.spaces.model import Runtime, RuntimeKind, RuntimeState

RECORDING_S = 20.0
"""How long a stop waits for the files of a recording."""


class BrowserView(Answer):
    id: str
    alias: str
    state: RuntimeState
    reason: str | None = None
    """Why it is stopped or failed."""
    profile: str | None = None
    isolation: Isolation | None = None


class ListInput(InSpace):
    pass


class ListOutput(Answer):
    browsers: tuple[BrowserView, ...]
    profiles: tuple[str, ...]
    """Of the space, in use or not."""


class BrowserInput(InRuntime):
    pass


class GetOutput(BrowserView):
    pages: tuple[PageView, ...] = ()
    """None while a secret is in one."""
    options: BrowserOptions
    signed_in: bool | None = None
    """A secret was filled in here."""


class DeleteOutput(Answer):
    deleted: str
    """Its alias."""


class ForgetInput(InSpace):
    profile: ProfileName


class ForgetOutput(Answer):
    forgotten: str


async def list_browsers(context: Context, _given: ListInput) -> ListOutput:
    browsers = context.use(BrowserService)
    rows = browsers.runtimes.of_space(context.space.id, kind=RuntimeKind.BROWSER)
    return ListOutput(
        browsers=tuple(browser_view(browsers, row) for row in rows),
        profiles=tuple(browsers.store.profiles(context.space.id)),
    )


async def get(context: Context, _given: BrowserInput) -> GetOutput:
    browsers = context.use(BrowserService)
    runtime = browsers.row(context.runtime.id)
    live = browsers.started(runtime.id) if runtime.state is RuntimeState.ACTIVE else None
    pages: tuple[PageView, ...] = ()
    if live is not None:
        # It takes no turn, so that it answers while a browser is busy or lent.
        live.teach(context.redactor)
        if not live.secret_inside:
            pages = tuple(page_view(live, one) for one in live.pages.values())
    return GetOutput(
        **browser_view(browsers, runtime).model_dump(),
        pages=pages,
        options=browsers.store.options(runtime.id),
        signed_in=None if live is None else live.tainted or None,
    )


async def stop(context: Context, _given: BrowserInput) -> BrowserView:
    """What was being recorded is kept with this run."""
    browsers = context.use(BrowserService)
    await _keep_recording(context, browsers)
    await browsers.stop(context.runtime.id, reason=f"{context.caller.name} stopped it")
    return browser_view(browsers, browsers.row(context.runtime.id))


async def delete(context: Context, _given: BrowserInput) -> DeleteOutput:
    """What was being recorded is kept with this run."""
    await _keep_recording(context, context.use(BrowserService))
    await context.use(BrowserService).delete(context.runtime.id)
    return DeleteOutput(deleted=context.runtime.alias)


async def _keep_recording(context: Context, browsers: BrowserService) -> None:
    """A browser that hangs or is gone is stopped all the same, without it."""
    runtime = browsers.runtimes.get(context.runtime.id)
    if runtime is None or runtime.state is not RuntimeState.ACTIVE:
        return
    live = browsers.started(runtime.id)
    if live.recording.active:
        try:
            with anyio.fail_after(RECORDING_S):
                await stopped(context, live)
        except (SpacesError, TimeoutError) as error:
            context.note("recording", {"lost": type(error).__name__})
            live.recording.discard()


async def forget(context: Context, given: ForgetInput) -> ForgetOutput:
    """Raises NotFound, Conflict (in use)."""
    browsers = context.use(BrowserService)
    browsers.profiles.check_free(context.space.id, given.profile)
    if given.profile not in browsers.store.profiles(context.space.id):
        raise NotFound(f"No profile {given.profile} here.", hint="browser_list names the profiles.")
    await browsers.store.forget_profile(context.space.id, given.profile)
    return ForgetOutput(forgotten=given.profile)


def browser_view(browsers: BrowserService, runtime: Runtime) -> BrowserView:
    options = browsers.store.options(runtime.id)
    return BrowserView(
        id=runtime.id,
        alias=runtime.alias,
        state=runtime.state,
        reason=runtime.reason or None,
        profile=options.profile,
        isolation=options.isolation if options.isolation is not Isolation.CONTEXT else None,
    )


OPERATIONS: tuple[AnyOperation, ...] = (
    Operation(
        id="browser.list",
        summary="List a space's browsers and profiles.",
        input=ListInput,
        output=ListOutput,
        effect=Effect.OBSERVES,
        handler=list_browsers,
        listed=False,
        idempotent=True,
        on_stopped_runtime=True,
        example={"space": "default"},
    ),
    Operation(
        id="browser.get",
        summary="Show a browser with its pages.",
        input=BrowserInput,
        output=GetOutput,
        effect=Effect.OBSERVES,
        handler=get,
        listed=False,
        idempotent=True,
        on_stopped_runtime=True,
        example={"space": "default"},
    ),
    Operation(
        id="browser.stop",
        summary="Stop a browser; its profile is kept.",
        input=BrowserInput,
        output=BrowserView,
        effect=Effect.ENDS,
        handler=stop,
        listed=False,
        idempotent=True,
        on_stopped_runtime=True,
        example={"space": "default"},
    ),
    Operation(
        id="browser.delete",
        summary="Delete a browser; its profile is kept.",
        input=BrowserInput,
        output=DeleteOutput,
        effect=Effect.ENDS,
        handler=delete,
        listed=False,
        idempotent=True,
        on_stopped_runtime=True,
        example={"space": "default"},
    ),
    Operation(
        id="browser.forget",
        summary="Delete a profile: its cookies and what sites stored.",
        input=ForgetInput,
        output=ForgetOutput,
        effect=Effect.ENDS,
        handler=forget,
        listed=False,
        on_stopped_runtime=True,
        example={"space": "default", "profile": "work"},
    ),
)
