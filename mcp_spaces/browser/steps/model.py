"""What a step is, and what a method that steps may call is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints

from mcp_spaces.core.facts import BrowserUse

if TYPE_CHECKING:
    from mcp_spaces.browser.steps.doing import Doing

TIMEOUT_MS = 30_000
TIMEOUT_MAX_MS = 120_000

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,63}$")]
"""Of a handle."""
MethodId = Annotated[str, StringConstraints(pattern=r"^[a-z]{1,20}\.[a-zA-Z]{1,40}$")]


class Kind(StrEnum):
    """What a method is called on, and what a handle names."""

    BROWSER = "browser"
    CONTEXT = "context"
    PAGE = "page"
    FRAME = "frame"
    LOCATOR = "locator"
    DOWNLOAD = "download"


class StepOptions(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    timeoutMs: int = Field(default=TIMEOUT_MS, ge=1, le=TIMEOUT_MAX_MS)  # noqa: N815 - as appendix D writes it
    dryRun: bool = False  # noqa: N815
    """Only check the step and ask policy."""


class Step(BaseModel):
    """One call. `args` are positional, with options in an object at their end, or all of them by name."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    call: MethodId
    """`page.goto`; browser_methods lists them."""
    ref: Name | None = None
    """The handle; may be left out where there is one of its kind."""
    args: tuple[JsonValue, ...] | Mapping[str, JsonValue] = Field(default=(), max_length=20)
    bind: Name | None = None
    """Names the result."""
    options: StepOptions = StepOptions()


class Arguments(BaseModel):
    """Of one method. POSITIONAL names those that may stand in a list, in their order; the others are options."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    POSITIONAL: ClassVar[Sequence[str]] = ()


Perform = Callable[["Doing", Any], Awaitable[object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One thing that a step may call. `returns`: a kind of handle, or what the result is in words."""

    on: Kind
    name: str
    summary: str
    perform: Perform
    arguments: type[Arguments] = Arguments
    returns: Kind | str = "nothing"
    use: BrowserUse = BrowserUse.READ
    settles: bool = False
    """Sets something off that is waited for, half a second at most."""

    @property
    def id(self) -> str:
        return f"{self.on}.{self.name}"
