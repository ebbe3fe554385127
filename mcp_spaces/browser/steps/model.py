"""What a step is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints

from mcp_spaces.core.spelling import Spelled

TIMEOUT_MS = 30_000
TIMEOUT_MAX_MS = 120_000

Name = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,63}$"),
    Spelled("1 to 64 letters, digits, _ and -, beginning with a letter"),
]
"""Of a handle."""
MethodId = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z]{1,20}\.[a-zA-Z]{1,40}$"),
    Spelled("a method of browser_methods, such as page.goto"),
]


class StepOptions(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    timeoutMs: int = Field(default=TIMEOUT_MS, ge=1, le=TIMEOUT_MAX_MS)  # noqa: N815 - as Playwright's JavaScript does
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
