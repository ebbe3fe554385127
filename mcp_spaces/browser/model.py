"""Browser runtimes as they are asked for and kept."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

ProfileName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
HostPattern = Annotated[
    str,
    StringConstraints(pattern=r"^(\*\.)?([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"),
]
ResourceType = Literal["image", "media", "font", "stylesheet", "script"]

VIEWPORT_MAX = 4096
PAGES_MAX = 16
"""Of one runtime. A page that opens more has them closed (threat D14)."""


class Isolation(StrEnum):
    CONTEXT = "context"
    """A context of its own in the space's browser: 14 MB and a twentieth of a second."""
    PROCESS = "process"
    """A browser of its own, in a container of its own."""


class Viewport(BaseModel):
    """In CSS pixels."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    width: int = Field(default=1280, ge=200, le=VIEWPORT_MAX)
    height: int = Field(default=720, ge=200, le=VIEWPORT_MAX)


class BrowserOptions(BaseModel):
    """How a browser runtime was launched; a stopped one starts with the same again."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    profile: ProfileName | None = None
    """Keeps cookies and local storage between launches. Without one nothing is kept."""
    isolation: Isolation = Isolation.CONTEXT
    viewport: Viewport = Viewport()
    locale: str | None = Field(default=None, pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3}$")
    timezone: str | None = Field(default=None, pattern=r"^[A-Za-z_]+(/[A-Za-z0-9_+-]+){0,2}$", max_length=64)
    """An IANA name, such as Europe/Berlin."""
    block_hosts: tuple[HostPattern, ...] = Field(default=(), max_length=200)
    """`host` or `*.host`: refused here although the space may reach them."""
    block_resources: tuple[ResourceType, ...] = ()
    """Kinds of resources that are not loaded."""
    record: bool = False
    """Keep a trace; never of a browser that a secret was filled in."""
