"""What a method is that steps may call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from mcp_spaces.browser.steps.doing import Doing
from mcp_spaces.browser.steps.kinds import Kind
from mcp_spaces.browser.steps.model import Arguments
from mcp_spaces.core.facts import BrowserUse

Perform = Callable[[Doing, Any], Awaitable[object]]


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
