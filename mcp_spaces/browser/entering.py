"""The operations that enter something into a page: fill, press, select."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from mcp_spaces.browser.acting import act, interaction
from mcp_spaces.browser.answers import TIMEOUT_MAX_S, TIMEOUT_S, ActionOutput, InPage, OnElement, Ref
from mcp_spaces.browser.pages.failures import translated
from mcp_spaces.browser.pages.keys import key_of
from mcp_spaces.browser.pages.page import OpenPage
from mcp_spaces.browser.pages.reading import described, located, present, read, within
from mcp_spaces.browser.secrets.secret_rules import no_reference, refuse_secrets
from mcp_spaces.core.context import Context
from mcp_spaces.core.operation import AnyOperation
from mcp_spaces.errors import InvalidInput, SpacesError

TEXT_CHARACTERS = 100_000
FORMED_CHARACTERS = 100
"""Of a text for a date, a number and their like."""
FIELDS_MAX = 50


def _filled(value: object) -> object:
    """A number is the text that it is written as."""
    if isinstance(value, bool):
        return value
    text = str(value) if isinstance(value, int | float) else value
    if not isinstance(text, str):
        raise ValueError("give text, or true or false (browser_select chooses several)")
    if len(text) > TEXT_CHARACTERS:
        raise ValueError(f"that is more than {TEXT_CHARACTERS:,} characters")
    return no_reference(text)


Filling = Annotated[Annotated[str, Field(max_length=TEXT_CHARACTERS)] | bool, BeforeValidator(_filled)]


class FillInput(InPage):
    fields: Mapping[Ref, Filling] = Field(min_length=1, max_length=FIELDS_MAX)
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
    except SpacesError as error:
        done = [one for one in given.fields if one not in left][:-1]
        if done:
            error.hint = f"{error.hint} Filled in already: {', '.join(done)}."
        raise
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


OPERATIONS: tuple[AnyOperation, ...] = (
    interaction(
        "fill", "Fill fields of a form.", FillInput, fill, {"fields": {"e3": "Ann"}}, output=FillOutput, listed=True
    ),
    interaction("press", "Press keys.", PressInput, press, {"keys": "Enter"}),
    interaction("select", "Choose options of a list.", SelectInput, select, {"ref": "e4", "options": ["blue"]}),
)
