"""What can be done with an element: of a locator, or of the first one that a selector finds in a page or frame."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic import JsonValue

from mcp_spaces.browser.looking import PIXELS_MAX
from mcp_spaces.browser.pages.own_script import run_script
from mcp_spaces.browser.pages.pictures import picture_of
from mcp_spaces.browser.steps import arguments as takes
from mcp_spaces.browser.steps.doing import Doing
from mcp_spaces.browser.steps.handles import Handle
from mcp_spaces.browser.steps.kinds import Kind
from mcp_spaces.browser.steps.method import Method
from mcp_spaces.browser.steps.model import Arguments
from mcp_spaces.core.facts import BrowserUse
from mcp_spaces.errors import QuotaExceeded, WrongState

if TYPE_CHECKING:
    from playwright.async_api import Locator

INTERACT, EVALUATE = BrowserUse.INTERACT, BrowserUse.EVALUATE
LIST_MAX = 1_000
"""Texts of `allInnerTexts`."""


def _handle(doing: Doing, locator: Locator) -> Handle:
    return Handle(Kind.LOCATOR, locator, doing.opened)


async def _click(doing: Doing, given: takes.Click) -> None:
    await doing.element(given).click(
        button=given.button, modifiers=list(given.modifiers) or None, timeout=doing.timeout_ms
    )


async def _dblclick(doing: Doing, given: takes.Click) -> None:
    await doing.element(given).dblclick(
        button=given.button, modifiers=list(given.modifiers) or None, timeout=doing.timeout_ms
    )


async def _fill(doing: Doing, given: takes.Fill) -> None:
    await doing.element(given).fill(given.value, timeout=doing.timeout_ms)


async def _press(doing: Doing, given: takes.Press) -> None:
    await doing.element(given).press(given.key, timeout=doing.timeout_ms)


async def _type(doing: Doing, given: takes.Type) -> None:
    await doing.element(given).press_sequentially(given.text, delay=given.delay, timeout=doing.timeout_ms)


async def _select(doing: Doing, given: takes.SelectOption) -> JsonValue:
    wanted = [given.values] if isinstance(given.values, str) else list(given.values)
    return list(await doing.element(given).select_option(wanted, timeout=doing.timeout_ms))


async def _check(doing: Doing, given: Arguments) -> None:
    await doing.element(given).check(timeout=doing.timeout_ms)


async def _uncheck(doing: Doing, given: Arguments) -> None:
    await doing.element(given).uncheck(timeout=doing.timeout_ms)


async def _hover(doing: Doing, given: Arguments) -> None:
    await doing.element(given).hover(timeout=doing.timeout_ms)


async def _inner_text(doing: Doing, given: Arguments) -> str:
    return await doing.element(given).inner_text(timeout=doing.timeout_ms)


async def _text_content(doing: Doing, given: Arguments) -> str | None:
    return await doing.element(given).text_content(timeout=doing.timeout_ms)


async def _attribute(doing: Doing, given: takes.Attribute) -> JsonValue:
    answer = await doing.ask(doing.element(given), "attribute", attribute=given.name)
    value: JsonValue = answer.get("value")
    return value


async def _input_value(doing: Doing, given: Arguments) -> JsonValue:
    """Raises WrongState for a field that hides what is in it (threat L04)."""
    answer = await doing.ask(doing.element(given), "value")
    if answer.get("secret"):
        raise WrongState("This field hides its value.", hint="browser_snapshot says whether it is filled.")
    value: JsonValue = answer.get("value")
    return value


async def _is_visible(doing: Doing, given: Arguments) -> bool:
    return await doing.element(given).is_visible()


async def _is_checked(doing: Doing, given: Arguments) -> bool:
    return await doing.element(given).is_checked(timeout=doing.timeout_ms)


async def _is_enabled(doing: Doing, given: Arguments) -> bool:
    return await doing.element(given).is_enabled(timeout=doing.timeout_ms)


async def picture(doing: Doing, target: Any, given: takes.Screenshot, *, width: float, height: float) -> JsonValue:
    """Of a page or an element, fields that hide their value covered. Raises QuotaExceeded for too many pixels (threat D14)."""
    if width * height > PIXELS_MAX:
        raise QuotaExceeded(f"It would have {width * height:,.0f} pixels.", hint=f"At most {PIXELS_MAX:,}.")
    full_page = getattr(given, "fullPage", False)
    content = await picture_of(target, doing.page, given.type, timeout_ms=doing.timeout_ms, full_page=full_page)
    return await doing.keep(
        content,
        name=f"{doing.opened.id}.{given.type}",
        content_type=f"image/{given.type}",
        path=given.path,
        namespace=given.namespace,
    )


async def _screenshot(doing: Doing, given: takes.Screenshot) -> JsonValue:
    target: Locator = doing.target.thing
    box = await target.bounding_box(timeout=doing.timeout_ms)
    width, height = (0.0, 0.0) if box is None else (box["width"], box["height"])
    return await picture(doing, target, given, width=width, height=height)


async def _wait_for(doing: Doing, given: takes.WaitFor) -> None:
    await doing.element(given).wait_for(state=given.state, timeout=doing.timeout_ms)


async def _evaluate(doing: Doing, given: takes.Evaluate) -> object:
    return await run_script(doing.target.thing, given.expression, given.arg)


async def _count(doing: Doing, _given: Arguments) -> int:
    count: int = await doing.target.thing.count()
    return count


async def _all_texts(doing: Doing, _given: Arguments) -> JsonValue:
    texts: list[str] = await doing.target.thing.all_inner_texts()
    return [*texts[:LIST_MAX]]


async def _first(doing: Doing, _given: Arguments) -> Handle:
    return _handle(doing, doing.target.thing.first)


async def _last(doing: Doing, _given: Arguments) -> Handle:
    return _handle(doing, doing.target.thing.last)


async def _nth(doing: Doing, given: takes.Nth) -> Handle:
    return _handle(doing, doing.target.thing.nth(given.index))


async def _filter(doing: Doing, given: takes.Filter) -> Handle:
    target: Locator = doing.target.thing
    found = target.filter(has_text=given.hasText, has_not_text=given.hasNotText, visible=given.visible)
    return _handle(doing, found)


async def _drag_to(doing: Doing, given: takes.DragTo) -> None:
    await doing.element(given).drag_to(doing.page.locator(given.target).first, timeout=doing.timeout_ms)


async def _locator(doing: Doing, given: takes.OnSelector) -> Handle:
    return _handle(doing, doing.find(given.selector))


async def _by_role(doing: Doing, given: takes.ByRole) -> Handle:
    options = {
        name: value
        for name in ("checked", "disabled", "expanded", "level")
        if (value := getattr(given, name)) is not None
    }
    found = doing.target.thing.get_by_role(given.role, name=given.name, exact=given.exact, **options)
    return _handle(doing, found)


async def _by_text(doing: Doing, given: takes.ByText) -> Handle:
    return _handle(doing, doing.target.thing.get_by_text(given.text, exact=given.exact))


async def _by_label(doing: Doing, given: takes.ByText) -> Handle:
    return _handle(doing, doing.target.thing.get_by_label(given.text, exact=given.exact))


async def _by_placeholder(doing: Doing, given: takes.ByText) -> Handle:
    return _handle(doing, doing.target.thing.get_by_placeholder(given.text, exact=given.exact))


async def _by_test_id(doing: Doing, given: takes.ByTestId) -> Handle:
    return _handle(doing, doing.target.thing.get_by_test_id(given.testId))


L = Kind.LOCATOR

_ELEMENT: tuple[Method, ...] = (
    Method(on=L, name="click", arguments=takes.Click, use=INTERACT, settles=True, perform=_click, summary="Click."),
    Method(on=L, name="dblclick", arguments=takes.Click, use=INTERACT, settles=True, perform=_dblclick, summary="Click twice."),
    Method(on=L, name="fill", arguments=takes.Fill, use=INTERACT, settles=True, perform=_fill, summary="Set a field's value."),
    Method(on=L, name="press", arguments=takes.Press, use=INTERACT, settles=True, perform=_press, summary="Press a key or a combination."),
    Method(on=L, name="type", arguments=takes.Type, use=INTERACT, settles=True, perform=_type, summary="Type key by key; delay in ms."),
    Method(on=L, name="selectOption", arguments=takes.SelectOption, use=INTERACT, settles=True, returns="JSON", perform=_select, summary="Choose by value or label."),
    Method(on=L, name="check", use=INTERACT, settles=True, perform=_check, summary="Tick a checkbox or radio button."),
    Method(on=L, name="uncheck", use=INTERACT, settles=True, perform=_uncheck, summary="Untick a checkbox."),
    Method(on=L, name="hover", use=INTERACT, settles=True, perform=_hover, summary="Move the mouse over it."),
    Method(on=L, name="innerText", returns="text", perform=_inner_text, summary="Its text as shown."),
    Method(on=L, name="textContent", returns="text", perform=_text_content, summary="Its text, hidden parts too."),
    Method(on=L, name="getAttribute", arguments=takes.Attribute, returns="text", perform=_attribute, summary="An attribute; null without it."),
    Method(on=L, name="inputValue", returns="text", perform=_input_value, summary="A field's value; of a password refused."),
    Method(on=L, name="isVisible", returns="boolean", perform=_is_visible, summary="Whether it is shown now."),
    Method(on=L, name="isChecked", returns="boolean", perform=_is_checked, summary="Whether it is ticked."),
    Method(on=L, name="isEnabled", returns="boolean", perform=_is_enabled, summary="Whether it is not disabled."),
)  # fmt: skip
"""Of a locator; of a page or frame with a selector."""

_FINDERS: tuple[Method, ...] = (
    Method(on=L, name="locator", arguments=takes.OnSelector, returns=L, perform=_locator, summary="Elements by selector."),
    Method(on=L, name="getByRole", arguments=takes.ByRole, returns=L, perform=_by_role, summary="Elements by ARIA role and name."),
    Method(on=L, name="getByText", arguments=takes.ByText, returns=L, perform=_by_text, summary="Elements by text."),
    Method(on=L, name="getByLabel", arguments=takes.ByText, returns=L, perform=_by_label, summary="Fields by label."),
    Method(on=L, name="getByPlaceholder", arguments=takes.ByText, returns=L, perform=_by_placeholder, summary="Fields by placeholder."),
    Method(on=L, name="getByTestId", arguments=takes.ByTestId, returns=L, perform=_by_test_id, summary="Elements by data-testid."),
)  # fmt: skip
"""The same of pages, frames and locators."""

LOCATOR_METHODS: tuple[Method, ...] = (
    *_ELEMENT,
    *_FINDERS,
    Method(on=L, name="count", returns="number", perform=_count, summary="How many there are."),
    Method(on=L, name="nth", arguments=takes.Nth, returns=L, perform=_nth, summary="One of them, from 0."),
    Method(on=L, name="first", returns=L, perform=_first, summary="The first of them."),
    Method(on=L, name="last", returns=L, perform=_last, summary="The last of them."),
    Method(on=L, name="filter", arguments=takes.Filter, returns=L, perform=_filter, summary="Those with or without a text."),
    Method(on=L, name="allInnerTexts", returns="JSON", perform=_all_texts, summary=f"The texts of all, at most {LIST_MAX:,}."),
    Method(on=L, name="dragTo", arguments=takes.DragTo, use=INTERACT, settles=True, perform=_drag_to, summary="Drag it onto another element."),
    Method(on=L, name="screenshot", arguments=takes.Screenshot, returns="artifact", perform=_screenshot, summary="A picture, as an artifact or under a path in storage."),
    Method(on=L, name="waitFor", arguments=takes.WaitFor, perform=_wait_for, summary="Wait for a state."),
    Method(on=L, name="evaluate", arguments=takes.Evaluate, use=EVALUATE, returns="JSON", settles=True, perform=_evaluate, summary="A function of the element, run in the page."),
)  # fmt: skip


def on_selector(kind: Kind) -> tuple[Method, ...]:
    """The element methods of a page or frame, and its finders."""
    direct = tuple(replace(one, on=kind, arguments=takes.with_selector(one.arguments)) for one in _ELEMENT)
    return (*direct, *(replace(one, on=kind) for one in _FINDERS))
