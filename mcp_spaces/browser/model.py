"""Browser runtimes as they are asked for and kept."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from mcp_spaces.core.scope import Name
from mcp_spaces.core.spelling import NAME

ProfileName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$"), NAME]
_HOST = re.compile(r"(\*\.)?([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_LOCALE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3}")
_TIMEZONE = re.compile(r"[A-Za-z_]{1,20}(/[A-Za-z0-9_+-]{1,20}){0,2}")
RESOURCES = ("image", "media", "font", "stylesheet", "script")


def _like(pattern: re.Pattern[str], words: str) -> AfterValidator:
    def check(value: str) -> str:
        if pattern.fullmatch(value) is None:
            raise ValueError(words)
        return value

    return AfterValidator(check)


def _resource(value: str) -> str:
    if value not in RESOURCES:
        raise ValueError(f"one of {', '.join(RESOURCES)}")
    return value


# Checked in code, not in the schema: models read the schema with every request.
HostPattern = Annotated[str, _like(_HOST, "a host looks like example.com or *.example.com")]
Locale = Annotated[str, _like(_LOCALE, "a locale looks like de-DE")]
Timezone = Annotated[str, _like(_TIMEZONE, "a time zone looks like Europe/Berlin")]
ResourceType = Annotated[str, AfterValidator(_resource)]

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
    locale: Locale | None = None
    timezone: Timezone | None = None
    """An IANA name, such as Europe/Berlin."""
    block_hosts: tuple[HostPattern, ...] = Field(default=(), max_length=200)
    """`host` or `*.host`: refused here although the space may reach them."""
    proxy: Name | None = None
    """One that the space mounts: connections go on through it."""
    block_resources: tuple[ResourceType, ...] = ()
    """Kinds of resources that are not loaded: image, media, font, stylesheet, script."""
    record: bool = False
    """Keep a trace; never of a browser that a secret was filled in."""
