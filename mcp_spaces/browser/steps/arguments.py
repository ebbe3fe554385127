"""What methods take: read and checked before anything is done, and published as JSON Schemas."""

# ruff: noqa: N815 - names as Playwright's JavaScript writes them

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal, cast

from pydantic import AfterValidator, Field, JsonValue, ValidationError, create_model

from mcp_spaces.browser.entering import TEXT_CHARACTERS
from mcp_spaces.browser.handling import SCRIPT_CHARACTERS, Modifier
from mcp_spaces.browser.model import Viewport
from mcp_spaces.browser.paging import WebAddress
from mcp_spaces.browser.secrets.secret_rules import no_reference
from mcp_spaces.browser.steps.method import Method
from mcp_spaces.browser.steps.model import Arguments
from mcp_spaces.core.json_schema import schema_of
from mcp_spaces.core.scope import OWN_NAMESPACE
from mcp_spaces.errors import InvalidInput

SELECTOR_CHARACTERS = 5_000
_OURS = re.compile(r"\bspaces\s*=|internal:", re.IGNORECASE)


def foreign_selector(selector: str) -> str:
    """The page script's own engine takes commands, and `internal:` could hide one."""
    if _OURS.search(selector):
        raise ValueError("selectors with spaces= or internal: are not for steps; use CSS, text=, role= or ref=e12")
    return selector


Selector = Annotated[str, Field(min_length=1, max_length=SELECTOR_CHARACTERS), AfterValidator(foreign_selector)]
"""CSS, `text=`, `role=`, `xpath=`, or `ref=e12` from a snapshot."""
Text = Annotated[str, Field(max_length=TEXT_CHARACTERS), AfterValidator(no_reference)]
Short = Annotated[str, Field(min_length=1, max_length=1_000), AfterValidator(no_reference)]
Script = Annotated[str, Field(min_length=1, max_length=SCRIPT_CHARACTERS), AfterValidator(no_reference)]
LoadState = Literal["load", "domcontentloaded", "networkidle"]
WaitUntil = Literal["load", "domcontentloaded", "networkidle", "commit"]
Path = Annotated[str, Field(min_length=1, max_length=1_024)]


class OnSelector(Arguments):
    POSITIONAL: ClassVar[Sequence[str]] = ("selector",)
    selector: Selector


class Goto(Arguments):
    POSITIONAL: ClassVar[Sequence[str]] = ("url",)
    url: WebAddress
    waitUntil: WaitUntil = "load"


class Reload(Arguments):
    waitUntil: WaitUntil = "load"


class Click(Arguments):
    button: Literal["left", "middle", "right"] = "left"
    modifiers: tuple[Modifier, ...] = ()


class Fill(Arguments):
    POSITIONAL: ClassVar[Sequence[str]] = ("value",)
    value: Text


class Press(Arguments):
    POSITIONAL: ClassVar[Sequence[str]] = ("key",)
    key: Short


class Type(Arguments):
    POSITIONAL: ClassVar[Sequence[str]] = ("text",)
    text: Text
    delay: float = Field(default=0, ge=0, le=1_000)


class SelectOption(Arguments):
    POSITIONAL: ClassVar[Sequence[str]] = ("values",)
    values: Short | Annotated[tuple[Short, ...], Field(min_length=1, max_length=100)]


class DragTo(Arguments):
    POSITIONAL: ClassVar[Sequence[str]] = ("target",)
    target: Selector


class DragAndDrop(Arguments):
    POSITIONAL: ClassVar[Sequence[str]] = ("source", "target")
    source: Selector
    target: Selector


class Attribute(Arguments):
    POSITIONAL: ClassVar[Sequence[str]] = ("name",)
    name: Annotated[str, Field(pattern=r"^[^\s\"'<>/=\x00-\x1f]{1,200}$")]


class WaitFor(Arguments):
    state: Literal["attached", "detached", "visible", "hidden"] = "visible"


class WaitForUrl(Arguments):
    POSITIONAL: ClassVar[Sequence[str]] = ("url",)
    url: Short
    waitUntil: WaitUntil = "load"


class WaitForLoadState(Arguments):
    POSITIONAL: ClassVar[Sequence[str]] = ("state",)
    state: LoadState = "load"


class Screenshot(Arguments):
    type: Literal["png", "jpeg"] = "png"
    path: Path | None = None
    namespace: str = Field(default=OWN_NAMESPACE, max_length=63)


class PageScreenshot(Screenshot):
    fullPage: bool = False


class Pdf(Arguments):
    path: Path | None = None
    namespace: str = Field(default=OWN_NAMESPACE, max_length=63)
    landscape: bool = False


class Evaluate(Arguments):
    POSITIONAL: ClassVar[Sequence[str]] = ("expression", "arg")
    expression: Script
    arg: JsonValue = None


class ByRole(Arguments):
    POSITIONAL: ClassVar[Sequence[str]] = ("role",)
    role: Annotated[str, Field(pattern=r"^[a-z]{2,30}$")]
    name: Short | None = None
    exact: bool = False
    checked: bool | None = None
    disabled: bool | None = None
    expanded: bool | None = None
    level: int | None = Field(default=None, ge=1, le=10)


class ByText(Arguments):
    POSITIONAL: ClassVar[Sequence[str]] = ("text",)
    text: Short
    exact: bool = False


class ByTestId(Arguments):
    POSITIONAL: ClassVar[Sequence[str]] = ("testId",)
    testId: Short


class FindFrame(Arguments):
    name: Short | None = None
    url: Short | None = None
    index: int | None = Field(default=None, ge=0, le=1_000)


class SetViewportSize(Arguments):
    POSITIONAL: ClassVar[Sequence[str]] = ("size",)
    size: Viewport


class Nth(Arguments):
    POSITIONAL: ClassVar[Sequence[str]] = ("index",)
    index: int = Field(ge=-10_000, le=10_000)


class Filter(Arguments):
    hasText: Short | None = None
    hasNotText: Short | None = None
    visible: bool | None = None


class AcceptDialog(Arguments):
    POSITIONAL: ClassVar[Sequence[str]] = ("text",)
    text: Annotated[str, Field(max_length=10_000), AfterValidator(no_reference)] | None = None


class SaveAs(Arguments):
    POSITIONAL: ClassVar[Sequence[str]] = ("path",)
    path: Path
    namespace: str = Field(default=OWN_NAMESPACE, max_length=63)
    overwrite: bool = False


def with_selector(model: type[Arguments]) -> type[Arguments]:
    """The same with a selector before it: `locator.fill(value)` is `page.fill(selector, value)`."""
    bases = (OnSelector,) if model is Arguments else (model, OnSelector)
    made = cast(type[Arguments], create_model(model.__name__, __base__=bases))
    made.POSITIONAL = ("selector", *model.POSITIONAL)
    return made


def parsed(method: Method, given: Sequence[JsonValue] | Mapping[str, JsonValue]) -> Arguments:
    """Raises InvalidInput with the method's signature."""
    named = given if isinstance(given, Mapping) else _named(method, given)
    try:
        return method.arguments.model_validate(dict(named))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "args"
        said = str(first["msg"]).removeprefix("Value error, ")
        raise InvalidInput(f"{method.id}: {where[:100]}: {said}", hint=f"It is {signature(method)}.") from None


def _named(method: Method, given: Sequence[JsonValue]) -> Mapping[str, JsonValue]:
    positional = method.arguments.POSITIONAL
    named: dict[str, JsonValue] = dict(zip(positional, given, strict=False))
    rest = list(given[len(positional) :])
    short = len(given) <= len(positional)
    last = given[-1] if given and short else None
    if isinstance(last, Mapping) and not _takes_object(method, positional[len(given) - 1]):
        # Options where optional arguments before them were left out: `waitForLoadState({...})`.
        del named[positional[len(given) - 1]]
        rest = [dict(last)]
    if not rest:
        return named
    options = rest[0]
    if len(rest) > 1 or not isinstance(options, Mapping) or set(options) & set(named):
        raise InvalidInput(f"{method.id} does not take these arguments.", hint=f"It is {signature(method)}.")
    return {**named, **options}


def _takes_object(method: Method, name: str) -> bool:
    schema = schema_of(method.arguments)["properties"][name]
    return "type" not in schema and "anyOf" not in schema or schema.get("type") == "object"


def signature(method: Method) -> str:
    """`page.fill(selector, value)`, options in braces, what may be left out with a question mark."""
    fields = method.arguments.model_fields
    positional = [f"{one}{'' if fields[one].is_required() else '?'}" for one in method.arguments.POSITIONAL]
    options = [one for one in fields if one not in method.arguments.POSITIONAL]
    shown = positional + ([f"{{{', '.join(f'{one}?' for one in options)}}}"] if options else [])
    return f"{method.id}({', '.join(shown)})"
