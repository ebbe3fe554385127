"""The driver port: what any way of running Chromium has to do.

`tests/browser/contract` has the same behaviours for the container driver and the local one. A driver gives
each runtime a context of its own whose every byte to the network goes to the runtime's `accept`, and to nowhere else:
what cannot be relayed is unreachable. Errors are those of `mcp_spaces.errors`:
  RuntimeUnavailable  no engine, no image, no Chromium, or it died under the call
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from mcp_spaces.browser.model import Viewport
from mcp_spaces.sandbox.port import Connection, SandboxLimits, Wall

if TYPE_CHECKING:
    from playwright.async_api import Browser, BrowserContext

Accept = Callable[[Connection], None]
"""Takes one connection of the runtime's proxy; must not block."""

StorageState = Mapping[str, Any]
"""Cookies and local storage, as Playwright reads and writes them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextSpec:
    """One runtime's context. `limits`: the most that the browser may use that it lives in. One of its own has just
    these; where runtimes share one, the driver's own limits hold as well, and the newest runtime's count."""

    runtime_id: str
    space_id: str
    accept: Accept
    limits: SandboxLimits = field(default_factory=SandboxLimits)
    own_process: bool = False
    viewport: Viewport = field(default_factory=Viewport)
    locale: str | None = None
    timezone: str | None = None
    storage: StorageState | None = None


class LiveContext(Protocol):
    """A context and the browser around it. Whatever comes out of either is untrusted."""

    @property
    def context(self) -> BrowserContext: ...

    @property
    def browser(self) -> Browser: ...

    async def another(self) -> BrowserContext:
        """A further context of the same runtime: the same way out, nothing of its storage. It goes with this one."""

    @property
    def downloads_folder(self) -> str:
        """Where this context's downloads go, as its Chromium names it."""

    def read_file(self, name: str) -> AsyncIterator[bytes]:
        """A finished download by its name in `downloads_folder`, in pieces of at most 1 MiB. Raises NotFound."""

    async def remove_file(self, name: str) -> None:
        """Idempotent."""

    async def closed(self) -> str:
        """Waits until context or browser is gone, for whatever reason, and returns the reason in words."""

    async def close(self) -> None:
        """The context, its way out and its files go. Idempotent."""


class Debugging(Protocol):
    """A second client beside Playwright, of a browser that one runtime has for itself."""

    async def send(self, message: str) -> None:
        """One message of the DevTools protocol, as JSON."""

    async def receive(self) -> str:
        """The next one from the browser. Raises RuntimeUnavailable once the browser is gone."""

    async def aclose(self) -> None: ...


class BrowserDriver(Protocol):
    name: str

    async def open(self, spec: ContextSpec) -> LiveContext:
        """A fresh context. Either all of it or nothing is left behind."""

    async def debug(self, live: LiveContext) -> Debugging:
        """Raises WrongState where the browser is shared with other runtimes."""

    async def warm(self) -> None:
        """Start what the first launch would wait for; returns when it stands. Raises RuntimeUnavailable."""

    async def reap(self) -> Sequence[str]:
        """Remove what a daemon that died left behind; returns what was removed."""

    async def walls(self) -> Sequence[Wall]:
        """For `mcp-spaces doctor`. Never raises."""

    async def aclose(self) -> None:
        """Close every context and browser."""
