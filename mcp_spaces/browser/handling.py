"""The operations that act on what a page shows: click, hover, drag, scroll, wait, dialogs, and scripts."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, JsonValue, model_validator

from mcp_spaces.browser.acting import GRACE_S, act, interaction, note_action, outcome, turn, until_dialog
from mcp_spaces.browser.answers import (
    TIMEOUT_MAX_S,
    TIMEOUT_S,
    ActionOutput,
    DialogView,
    InPage,
    OnElement,
    Ref,
    dialog_of,
)
from mcp_spaces.browser.pages.extent import seen_of
from mcp_spaces.browser.pages.failures import in_time
from mcp_spaces.browser.pages.own_script import run_script
from mcp_spaces.browser.pages.page import OpenPage
from mcp_spaces.browser.pages.reading import gone, located, present, read, within
from mcp_spaces.browser.pages.waiting import until_gone, until_shown
from mcp_spaces.browser.secrets.secret_rules import no_reference, refuse_inside, refuse_secrets
from mcp_spaces.core.answer import Answer
from mcp_spaces.core.context import Context
from mcp_spaces.core.effect import Effect
from mcp_spaces.core.facts import BrowserFacts, BrowserUse
from mcp_spaces.core.operation import AnyOperation, Operation
from mcp_spaces.errors import InvalidInput, WrongState

SCRIPT_CHARACTERS = 50_000
SCRIPT_S = 30.0
Modifier = Literal["Alt", "Control", "Meta", "Shift"]


class ClickInput(OnElement):
    button: Literal["left", "middle", "right"] = "left"
    double: bool = False
    modifiers: tuple[Modifier, ...] = ()


class HoverInput(OnElement):
    pass


class DragInput(OnElement):
    to: Ref


class ScrollInput(InPage):
    ref: Ref | None = None
    """Into view; with `by`, what it is in is scrolled. Without it, what is in the middle of the page."""
    by: int = Field(default=600, ge=-100_000, le=100_000)
    """CSS pixels, down."""


class WaitInput(InPage):
    text: str | None = Field(default=None, min_length=1, max_length=1000)
    """Until this is shown."""
    gone: str | None = Field(default=None, min_length=1, max_length=1000)
    """Until this is not."""
    url: str | None = Field(default=None, min_length=1, max_length=1000)
    """Until the URL matches; * and ** are wildcards."""
    timeout_s: float = Field(default=10, gt=0, le=TIMEOUT_MAX_S)

    @model_validator(mode="after")
    def _one(self) -> WaitInput:
        if sum(one is not None for one in (self.text, self.gone, self.url)) != 1:
            raise ValueError("name one of text, gone and url")
        return self


class DialogInput(InPage):
    accept: bool
    text: Annotated[str, Field(max_length=10_000), AfterValidator(no_reference)] | None = None
    """For a prompt; left out: what it proposes."""


class EvaluateInput(InPage):
    script: Annotated[str, Field(min_length=1, max_length=SCRIPT_CHARACTERS), AfterValidator(no_reference)]
    """An expression, or a function; with a ref the function gets the element."""
    ref: Ref | None = None
    timeout_s: float = Field(default=SCRIPT_S, gt=0, le=TIMEOUT_MAX_S)


class EvaluateOutput(Answer):
    result: JsonValue = None
    dialog: DialogView | None = None
    """Open: the script goes on once browser_dialog answers it, and its result is lost."""


async def click(context: Context, given: ClickInput) -> ActionOutput:
    async def perform(opened: OpenPage) -> None:
        target, modifiers = located(opened, given.ref), list(given.modifiers) or None
        # Playwright watches an element for two frames to see that it stands still; what is seen to do so need not wait.
        ready, timeout = await _is_ready(opened, given.ref), given.timeout_s * 1000
        if given.double:
            await target.dblclick(button=given.button, modifiers=modifiers, timeout=timeout, force=ready)
        else:
            await target.click(button=given.button, modifiers=modifiers, timeout=timeout, force=ready)

    return await act(context, given, perform, what=f"click {given.ref}")


async def _is_ready(opened: OpenPage, ref: str) -> bool:
    """Raises NotFound."""
    seen, inner = within(opened, ref)
    told = await read(seen.frame, "clickable", ref=inner)
    if not told["here"] or told["document"] != seen.document:
        raise gone(ref)
    opened.fetching = bool(told["fetches"])
    return bool(told["ready"])


async def hover(context: Context, given: HoverInput) -> ActionOutput:
    async def perform(opened: OpenPage) -> None:
        await (await present(opened, given.ref)).hover(timeout=given.timeout_s * 1000)

    return await act(context, given, perform, what=f"hover {given.ref}")


async def drag(context: Context, given: DragInput) -> ActionOutput:
    async def perform(opened: OpenPage) -> None:
        target, to = await present(opened, given.ref), await present(opened, given.to)
        await target.drag_to(to, timeout=given.timeout_s * 1000)

    return await act(context, given, perform, what=f"drag {given.ref} to {given.to}")


async def scroll(context: Context, given: ScrollInput) -> ActionOutput:
    async def perform(opened: OpenPage) -> None:
        # The wheel turns what is below the mouse, and many pages scroll in an element of their own.
        if given.ref is not None:
            target = await present(opened, given.ref)
            await target.scroll_into_view_if_needed(timeout=TIMEOUT_S * 1000)
            if "by" not in given.model_fields_set:
                return
            await target.hover(timeout=TIMEOUT_S * 1000, force=True)
        else:
            size = seen_of(opened.page)
            await opened.page.mouse.move(size["width"] / 2, size["height"] / 2)
        await opened.page.mouse.wheel(0, given.by)

    return await act(context, given, perform, what="scroll")


async def wait_for(context: Context, given: WaitInput) -> ActionOutput:
    """Raises TimedOut."""
    timeout = given.timeout_s * 1000

    async def perform(opened: OpenPage) -> None:
        if given.url is not None:
            await opened.page.wait_for_url(given.url, timeout=timeout)
        elif given.text is not None:
            await until_shown(opened.page, given.text, timeout_ms=timeout)
        else:
            await until_gone(opened.page, given.gone or "", timeout_ms=timeout)

    return await act(context, given, perform, what="wait", leads_away=False)


async def dialog(context: Context, given: DialogInput) -> ActionOutput:
    """Answer the open dialog. Raises WrongState when there is none."""
    refuse_secrets(context, given.text or "")
    async with turn(context) as live:
        opened = await live.page(given.page)
        present = opened.dialog
        if present is None:
            raise WrongState("No dialog is open.", hint="Act first; the answer says when a dialog came up.")
        if given.text is not None and present.type != "prompt":
            raise InvalidInput("Only a prompt takes text.", hint="Leave text out.")
        before, navigations = opened.page.url, opened.navigations
        opened.dialog = None
        with in_time("answer the dialog", TIMEOUT_S + GRACE_S):
            # As for a person who types nothing: a prompt gives what it proposes.
            text = present.default_value if given.text is None else given.text
            await (present.accept(text) if given.accept else present.dismiss())
        settled = await opened.settle(navigations=navigations)
        await note_action(context, live, opened, what="accept the dialog" if given.accept else "dismiss the dialog")
        return await outcome(live, opened, before=before, settled=settled)


async def evaluate(context: Context, given: EvaluateInput) -> EvaluateOutput:
    """Raises WrongState beside a document that a secret was in, TimedOut, and what `run_script` does."""
    refuse_secrets(context, given.script)
    async with turn(context) as live:
        opened = await live.usable(given.page)
        refuse_inside(live)
        await live.scripting.begin(opened)

        async def perform(opened: OpenPage) -> object:
            if given.ref is not None:
                return await run_script(await present(opened, given.ref), given.script, timeout_ms=TIMEOUT_S * 1000)
            return await run_script(opened.page, given.script)

        with in_time("evaluate", given.timeout_s):
            result = await until_dialog(opened, perform, what="evaluate")
        await note_action(context, live, opened, what="run a script")
        return EvaluateOutput(result=result, dialog=dialog_of(opened))


OPERATIONS: tuple[AnyOperation, ...] = (
    interaction("click", "Click an element; answers with what changed.", ClickInput, click, {"ref": "e2"}, listed=True),
    interaction("hover", "Move the mouse over an element.", HoverInput, hover, {"ref": "e2"}),
    interaction("drag", "Drag an element onto another one.", DragInput, drag, {"ref": "e2", "to": "e5"}),
    interaction("scroll", "Scroll a page, or an element into view.", ScrollInput, scroll, {"by": 600}),
    interaction("dialog", "Answer an open dialog.", DialogInput, dialog, {"accept": True}),
    Operation(
        id="browser.wait_for",
        summary="Wait until a text is shown or gone, or for a URL.",
        input=WaitInput,
        output=ActionOutput,
        effect=Effect.READS,
        facts=lambda _: BrowserFacts(BrowserUse.READ),
        handler=wait_for,
        idempotent=True,
        needs_running_space=True,
        example={"space": "default", "text": "Welcome"},
    ),
    Operation(
        id="browser.evaluate",
        summary="Run a script in a page.",
        input=EvaluateInput,
        output=EvaluateOutput,
        effect=Effect.INTERACTS,
        facts=lambda _: BrowserFacts(BrowserUse.EVALUATE),
        handler=evaluate,
        listed=False,
        needs_running_space=True,
        example={"space": "default", "script": "document.title"},
    ),
)
