"""The operations that act on what a page shows: click, fill, press, select, hover, drag, scroll, wait, dialogs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, JsonValue, model_validator

from mcp_spaces.browser.acting import GRACE_S, act, note_action, outcome, turn, until_dialog
from mcp_spaces.browser.answers import (
    TIMEOUT_MAX_S,
    TIMEOUT_S,
    ActionOutput,
    Answer,
    DialogView,
    InPage,
    OnElement,
    Ref,
    dialog_of,
)
from mcp_spaces.browser.pages.failures import in_time, translated
from mcp_spaces.browser.pages.keys import key_of
from mcp_spaces.browser.pages.own_script import run_script
from mcp_spaces.browser.pages.page import OpenPage
from mcp_spaces.browser.pages.reading import described, gone, located, present, read, within
from mcp_spaces.browser.pages.waiting import until_gone, until_shown
from mcp_spaces.browser.secrets.secret_rules import no_reference, refuse_inside, refuse_secrets
from mcp_spaces.core.context import Context
from mcp_spaces.core.effect import Effect
from mcp_spaces.core.facts import BrowserFacts, BrowserUse
from mcp_spaces.core.operation import AnyOperation, Operation
from mcp_spaces.errors import InvalidInput, WrongState

TEXT_CHARACTERS = 100_000
FORMED_CHARACTERS = 100
"""Of a text for a date, a number and their like."""
FIELDS_MAX = 50
SCRIPT_CHARACTERS = 50_000
SCRIPT_S = 30.0
Modifier = Literal["Alt", "Control", "Meta", "Shift"]
Text = Annotated[str, Field(max_length=TEXT_CHARACTERS), AfterValidator(no_reference)]


class ClickInput(OnElement):
    button: Literal["left", "middle", "right"] = "left"
    double: bool = False
    modifiers: tuple[Modifier, ...] = ()


class FillInput(InPage):
    fields: Mapping[Ref, Text | bool] = Field(min_length=1, max_length=FIELDS_MAX)
    """Text by ref; true or false for a checkbox; an option's label for a select."""
    submit: bool = False
    """Press Enter in the last one."""
    timeout_s: float = Field(default=TIMEOUT_S, gt=0, le=TIMEOUT_MAX_S)


class FillOutput(ActionOutput):
    left: tuple[str, ...] | None = None
    """Not filled in, since a dialog came up: answer it, then fill them. Nothing was submitted."""


class PressInput(InPage):
    keys: Annotated[str, Field(min_length=1, max_length=200), AfterValidator(no_reference)]
    """`Enter`, `Control+A`, or text to type key by key."""
    ref: Ref | None = None
    """To be focused first."""


class SelectInput(OnElement):
    options: tuple[Annotated[str, Field(max_length=1000)], ...] = Field(min_length=1, max_length=100)
    """Labels or values."""


class HoverInput(OnElement):
    pass


class DragInput(OnElement):
    to: Ref


class ScrollInput(InPage):
    ref: Ref | None = None
    """Into view; without it what is in the middle of the page is scrolled."""
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
    """For a prompt."""


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


async def fill(context: Context, given: FillInput) -> FillOutput:
    """Raises WrongState naming the field, with those before it filled in."""
    refuse_secrets(context, dict(given.fields))
    left, is_over = list(given.fields), False

    async def perform(opened: OpenPage) -> None:
        for ref, value in given.fields.items():
            if is_over:
                return
            left.remove(ref)
            with translated(f"fill {ref}"):
                await _fill(opened, ref, value, timeout_ms=given.timeout_s * 1000)
        if given.submit and not is_over:
            await located(opened, list(given.fields)[-1]).press("Enter", timeout=given.timeout_s * 1000)

    try:
        answer = await act(context, given, perform, what="fill")
    finally:
        # A dialog that stands in the way is answered in somebody else's turn: nothing goes on there.
        is_over = True
    return FillOutput(**answer.model_dump(), left=tuple(left) or None)


async def _fill(opened: OpenPage, ref: str, value: str | bool, *, timeout_ms: float) -> None:
    found, target = await described(opened, ref), located(opened, ref)
    if isinstance(value, bool):
        await target.set_checked(value, timeout=timeout_ms)
        return
    if found.get("role") in ("combobox", "listbox") and await target.evaluate(
        "one => one instanceof HTMLSelectElement"
    ):
        await target.select_option(value, timeout=timeout_ms)
    else:
        if found.get("formed"):
            await _refuse_unfit(opened, ref, value)
        await target.fill(value, timeout=timeout_ms)


async def _refuse_unfit(opened: OpenPage, ref: str, value: str) -> None:
    """A date, a colour and their like become empty, or another one, by what they cannot hold. Raises InvalidInput."""
    seen, inner = within(opened, ref)
    told = await read(seen.frame, "accepts", ref=inner, text=value.strip()[:FORMED_CHARACTERS])
    if not told["accepted"]:
        raise InvalidInput(f"fill {ref}: this field cannot hold that.", hint=f"Write it as {told['example']}.")


async def press(context: Context, given: PressInput) -> ActionOutput:
    refuse_secrets(context, given.keys)

    async def perform(opened: OpenPage) -> None:
        if given.ref is not None:
            await (await present(opened, given.ref)).focus(timeout=TIMEOUT_S * 1000)
        keyboard, key = opened.page.keyboard, key_of(given.keys)
        await (keyboard.type(given.keys) if key is None else keyboard.press(key))

    return await act(context, given, perform, what="press keys")


async def select(context: Context, given: SelectInput) -> ActionOutput:
    async def perform(opened: OpenPage) -> None:
        target = await present(opened, given.ref)
        await target.select_option(list(given.options), timeout=given.timeout_s * 1000)

    return await act(context, given, perform, what=f"select in {given.ref}")


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
        if given.ref is not None:
            await (await present(opened, given.ref)).scroll_into_view_if_needed(timeout=TIMEOUT_S * 1000)
        else:
            # The wheel turns what is below the mouse, and many pages scroll in an element of their own.
            size = opened.page.viewport_size or {"width": 1280, "height": 720}
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
            await (present.accept(given.text or "") if given.accept else present.dismiss())
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


def _interacts(_: object) -> BrowserFacts:
    return BrowserFacts(BrowserUse.INTERACT)


def _action(
    verb: str,
    summary: str,
    input: type[InPage],  # noqa: A002 - as Operation calls it
    handler: Callable[..., Awaitable[ActionOutput]],
    example: Mapping[str, object],
    *,
    output: type[ActionOutput] = ActionOutput,
    listed: bool = False,
) -> AnyOperation:
    return Operation(
        id=f"browser.{verb}",
        summary=summary,
        input=input,
        output=output,
        effect=Effect.INTERACTS,
        facts=_interacts,
        handler=handler,
        listed=listed,
        needs_running_space=True,
        example={"space": "default", **example},
    )


OPERATIONS: tuple[AnyOperation, ...] = (
    _action("click", "Click an element; answers with what changed.", ClickInput, click, {"ref": "e2"}, listed=True),
    _action(
        "fill", "Fill fields of a form.", FillInput, fill, {"fields": {"e3": "Ann"}}, output=FillOutput, listed=True
    ),
    _action("press", "Press keys.", PressInput, press, {"keys": "Enter"}),
    _action("select", "Choose options of a list.", SelectInput, select, {"ref": "e4", "options": ["blue"]}),
    _action("hover", "Move the mouse over an element.", HoverInput, hover, {"ref": "e2"}),
    _action("drag", "Drag an element onto another one.", DragInput, drag, {"ref": "e2", "to": "e5"}),
    _action("scroll", "Scroll a page, or an element into view.", ScrollInput, scroll, {"by": 600}),
    _action("dialog", "Answer an open dialog.", DialogInput, dialog, {"accept": True}),
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
