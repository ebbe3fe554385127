"""One step as an operation of its own: a record, a decision, and its turn with the browser."""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable

import anyio
from pydantic import Field, JsonValue

from mcp_spaces.browser.acting import note_action, turn, until_dialog
from mcp_spaces.browser.answers import DialogView, dialog_of
from mcp_spaces.browser.live import LiveBrowser
from mcp_spaces.browser.pages.failures import in_time, translated
from mcp_spaces.browser.secrets.secret_rules import refuse_inside, refuse_secrets
from mcp_spaces.browser.steps.arguments import parsed
from mcp_spaces.browser.steps.doing import Doing
from mcp_spaces.browser.steps.handles import OWN_CONTEXT, Handle, context_of
from mcp_spaces.browser.steps.kinds import Kind
from mcp_spaces.browser.steps.method import Method
from mcp_spaces.browser.steps.model import Arguments, MethodId, Name, StepOptions
from mcp_spaces.browser.steps.page_methods import AFTER_CRASH, BY_ID, GOES, WITH_DIALOG
from mcp_spaces.browser.unreached import in_the_gateways_words
from mcp_spaces.core.answer import Answer
from mcp_spaces.core.context import Context
from mcp_spaces.core.effect import Effect
from mcp_spaces.core.facts import BrowserFacts, BrowserUse
from mcp_spaces.core.operation import AnyOperation, Operation
from mcp_spaces.core.place import InRuntime
from mcp_spaces.errors import InvalidInput, NotFound, TimedOut

RESULT_CHARACTERS = 8_000
"""Of one result in an answer, as JSON; the whole of a longer one is an artifact."""
RESULT_BYTES_MAX = 16 << 20
CLOSE_S = 10.0
GRACE_S = 1.0
"""Playwright's own timeout says more than ours, so it comes first."""


class StepInput(InRuntime):
    call: MethodId
    """browser_methods lists them."""
    ref: Name | None = None
    """A handle, or a page's id; may be left out where there is one of its kind."""
    args: tuple[JsonValue, ...] | dict[str, JsonValue] = Field(default=(), max_length=20)
    bind: Name | None = None
    """Names the result."""
    options: StepOptions = StepOptions()


class StepOutput(Answer):
    call: str
    bound: str | None = None
    """The handle that the result has now."""
    page: str | None = None
    result: JsonValue = None
    artifact: str | None = None
    """The whole of a result that is cut here."""
    dialog: DialogView | None = None
    """Open: page.acceptDialog or page.dismissDialog."""
    opened: list[str] | None = None
    """New pages; their ids are handles."""
    downloads: list[str] | None = None
    """Begun."""


def method_of(call: str) -> Method:
    """Raises NotFound."""
    found = BY_ID.get(call)
    if found is None:
        near = sorted(one for one in BY_ID if one.partition(".")[2] == call.partition(".")[2])
        hint = f"There is {', '.join(near)}." if near else "browser_methods lists what can be called."
        raise NotFound(f"Steps cannot call {call[:60]!r}.", hint=hint)
    return found


async def step(context: Context, given: StepInput, *, use: BrowserUse) -> StepOutput:
    """Raises NotFound, InvalidInput, WrongState, TimedOut, QuotaExceeded, RuntimeUnavailable."""
    method = method_of(given.call)
    if method.use is not use or given.options.dryRun:
        raise InvalidInput(f"{method.id} is not for this operation.", hint="Use browser_execute.")
    arguments = parsed(method, given.args)
    refuse_secrets(context, given.args)
    async with turn(context) as live:
        refuse_inside(live)
        handles = live.handles
        if method.on is Kind.BROWSER:
            target = Handle(Kind.BROWSER, live.live.browser)
        else:
            target = handles.named(given.ref or handles.only(method.on, ()), method.on)
        if target.opened is not None:
            await _ready(live, target, method)
            if use is BrowserUse.EVALUATE:
                await live.scripting.begin(target.opened)
        doing = Doing(context=context, live=live, handles=handles, target=target, timeout_ms=given.options.timeoutMs)
        return await _done(doing, method, arguments, given)


async def _ready(live: LiveBrowser, target: Handle, method: Method) -> None:
    opened = target.opened
    if opened is None or opened.id not in live.pages:
        raise NotFound("This page is closed.", hint="context.newPage opens another.")
    if (opened.crashed and method.id in AFTER_CRASH) or (opened.dialog is not None and method.id in WITH_DIALOG):
        return
    await live.usable(opened.id)


async def _done(doing: Doing, method: Method, arguments: Arguments, given: StepInput) -> StepOutput:
    live, opened = doing.live, doing.target.opened
    began, navigations = live.downloads.count, 0 if opened is None else opened.navigations
    heading = None if opened is None else opened.heading
    try:
        with in_the_gateways_words(live, opened, method.id):
            result = await _performed(doing, method, arguments)
    except TimedOut:
        # As `act` has it: what set off a navigation is done, however long the page takes.
        if opened is None or not method.settles or opened.heading is None or opened.heading is heading:
            raise
        result = None
    if opened is not None and method.settles and opened.dialog is None and not opened.page.is_closed():
        await opened.settle(navigations=navigations)
    if opened is not None and (method.settles or method.id in GOES):
        await note_action(doing.context, live, opened, what=_shown(method, arguments))
    bound, page = None, None if opened is None else opened.id
    if isinstance(result, Handle):
        page = None if result.opened is None else result.opened.id
        bound = await _bound(doing, result, given.bind)
        result = None
    shown, artifact = await _fitted(doing, method, result)
    fresh = [one for one in live.opened if one != page and one in live.pages]
    return StepOutput(
        call=method.id,
        bound=bound,
        page=page,
        result=shown,
        artifact=artifact,
        dialog=None if opened is None or opened.page.is_closed() else dialog_of(opened),
        opened=fresh or None,
        downloads=[f"{one.id} {one.suggested[:100]}" for one in live.downloads.since(began)] or None,
    )


def _shown(method: Method, arguments: Arguments) -> str:
    """Without what was typed: the step's own record has it, redacted."""
    selector = getattr(arguments, "selector", None)
    return method.id if selector is None else f"{method.id} {selector[:200]}"


async def _performed(doing: Doing, method: Method, arguments: Arguments) -> object:
    """Raises TimedOut besides what the method does."""
    what = method.id
    with anyio.move_on_after(doing.timeout_ms / 1000 + GRACE_S):
        if doing.target.opened is None or doing.target.opened.dialog is not None:
            with translated(what):
                return await method.perform(doing, arguments)
        return await until_dialog(doing.target.opened, lambda _: method.perform(doing, arguments), what=what)
    raise TimedOut(
        f"{what}: it did not end in {doing.timeout_ms:,.0f} ms.", hint="options.timeoutMs can be 120000 at most."
    )


async def _bound(doing: Doing, made: Handle, name: str | None) -> str | None:
    """Under the name that was asked for; a page and the runtime's own context have one anyway. A further context goes
    with the last name that led to it: a program that is repeated has one of them, not one more each time."""
    if name is None:
        if made.kind is Kind.PAGE and made.opened is not None:
            return made.opened.id
        if made.thing is doing.live.live.context:
            return OWN_CONTEXT
        if made.kind is not Kind.CONTEXT:
            return None
        return doing.handles.name(made)
    before = doing.handles.bound.get(name)
    doing.handles.bind(name, made)
    left = None if before is None else context_of(before)
    if left is not None and left is not context_of(made) and doing.handles.nobody_names(left):
        with in_time("close the context before", CLOSE_S):
            await left.close()
    return name


async def _fitted(doing: Doing, method: Method, result: object) -> tuple[JsonValue, str | None]:
    """The result as JSON, and where the whole of it is when it had to be cut. Raises InvalidInput above 16 MiB."""
    value = plain(result)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if len(text) <= RESULT_CHARACTERS:
        return value, None
    content = doing.context.redactor.text(text).encode("utf-8", "replace")
    if len(content) > RESULT_BYTES_MAX:
        raise InvalidInput(
            f"{method.id} answered with {len(content):,} bytes.", hint=f"At most {RESULT_BYTES_MAX >> 20} MiB."
        )
    suffix, content_type = ("txt", "text/plain") if isinstance(value, str) else ("json", "application/json")
    if method.name == "content":
        suffix, content_type = "html", "text/html"
    kept = await doing.keep(content, name=f"{method.id}.{suffix}", content_type=content_type, path=None, namespace="")
    # Cut only after redaction: half a secret would not be recognised.
    return doing.context.redactor.text(text)[:RESULT_CHARACTERS], str(kept["artifact"])


def plain(value: object) -> JsonValue:
    """What a page's script gave, as JSON: what JSON does not know becomes text."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return value if abs(value) < 1 << 53 else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, dict):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return str(value)[:1_000]


def _handler(use: BrowserUse) -> Callable[[Context, StepInput], Awaitable[StepOutput]]:
    async def handle(context: Context, given: StepInput) -> StepOutput:
        return await step(context, given, use=use)

    return handle


def _operation(use: BrowserUse, verb: str, summary: str, effect: Effect, call: str) -> AnyOperation:
    return Operation(
        id=f"browser.{verb}",
        summary=summary,
        input=StepInput,
        output=StepOutput,
        effect=effect,
        facts=lambda _: BrowserFacts(use),
        handler=_handler(use),
        listed=False,
        needs_running_space=True,
        example={"space": "default", "call": call, **({"args": ["1 + 1"]} if use is BrowserUse.EVALUATE else {})},
    )


CHILDREN: dict[BrowserUse, AnyOperation] = {
    BrowserUse.READ: _operation(
        BrowserUse.READ, "look_step", "One step that goes or looks somewhere.", Effect.BROWSES, "page.title"
    ),
    BrowserUse.INTERACT: _operation(
        BrowserUse.INTERACT, "act_step", "One step that acts on a page.", Effect.INTERACTS, "page.dismissDialog"
    ),
    BrowserUse.EVALUATE: _operation(
        BrowserUse.EVALUATE, "script_step", "One step that runs a script in a page.", Effect.INTERACTS, "page.evaluate"
    ),
}
"""By what a method does: browser.execute calls one of these for each step."""
