"""Names for what steps made: they live as long as the runtime."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from mcp_spaces.browser.open_browser import OpenBrowser
from mcp_spaces.browser.pages.page import OpenPage
from mcp_spaces.browser.steps.kinds import Kind
from mcp_spaces.browser.steps.paused import PausedSteps
from mcp_spaces.errors import InvalidInput, NotFound, QuotaExceeded

HANDLES_MAX = 200
"""Of one runtime."""
OWN_CONTEXT = "context"
"""The handle of the runtime's own context; it is always there."""


@dataclass(frozen=True, slots=True)
class Handle:
    """`thing` is what Playwright has for it; `opened` the page around it, where there is one."""

    kind: Kind
    thing: Any
    opened: OpenPage | None = None


def context_of(handle: Handle) -> Any:
    """Playwright's context that it is, or is in; None for downloads and the like."""
    if handle.kind is Kind.CONTEXT:
        return handle.thing
    return None if handle.opened is None else handle.opened.page.context


@dataclass(slots=True)
class Handles:
    """Of one runtime. `own_given`: the runtime's own context was handed out by browser.newContext."""

    live: OpenBrowser
    bound: dict[str, Handle] = field(default_factory=dict)
    own_given: bool = False
    named_by_us: set[str] = field(default_factory=set)
    paused: PausedSteps = field(default_factory=PausedSteps)
    taken_downloads: set[str] = field(default_factory=set)
    """By guid: waitForDownload gives each out once."""

    def bind(self, name: str, handle: Handle) -> None:
        """Raises QuotaExceeded, InvalidInput (a name that is the runtime's)."""
        if name in (OWN_CONTEXT, Kind.BROWSER.value) and handle.thing is not self.live.live.context:
            raise InvalidInput(f"{name!r} is always the runtime's own.", hint="Bind another name.")
        self.sweep()
        if name not in self.bound and len(self.bound) >= HANDLES_MAX:
            raise QuotaExceeded(
                f"A browser has at most {HANDLES_MAX} handles.", hint="Bind to a name that is there already."
            )
        self.bound[name] = handle
        self.named_by_us.discard(name)

    def name(self, handle: Handle) -> str:
        """Bind a context that nobody named, as context2, context3 … Raises QuotaExceeded."""
        name = next(f"context{number}" for number in range(2, HANDLES_MAX + 3) if f"context{number}" not in self.bound)
        self.bind(name, handle)
        self.named_by_us.add(name)
        return name

    def nobody_names(self, context: Any) -> bool:
        """Whether no name that a caller gave leads to a further context any more, or to a page of it."""
        return context in self.live.further and not any(
            context_of(one) is context for name, one in self.bound.items() if name not in self.named_by_us
        )

    def drop(self, name: str) -> None:
        self.bound.pop(name, None)

    def sweep(self) -> None:
        """Forget handles of pages and frames that are gone."""
        for name, one in list(self.bound.items()):
            if self._is_gone(one):
                del self.bound[name]

    def named(self, name: str, kind: Kind) -> Handle:
        """Raises NotFound, InvalidInput (another kind)."""
        handle = self.bound.get(name) or self._given(name)
        if handle is None or self._is_gone(handle):
            raise NotFound(f"No {kind} {name!r}.", hint=self._hint(kind))
        if handle.kind is not kind:
            raise InvalidInput(f"{name!r} is a {handle.kind}, not a {kind}.", hint=self._hint(kind))
        return handle

    def only(self, kind: Kind, made: Iterable[str]) -> str:
        """The name of the one of its kind: that this call made, else that there is. Raises InvalidInput."""
        self.sweep()
        for names in (list(made), list(self._names(kind)), list(self._unbound(kind))):
            found = {id(self.named(name, kind).thing): name for name in names if self._is(name, kind)}
            if len(found) == 1:
                return next(iter(found.values()))
            if found:
                break
        raise InvalidInput(f"The step needs a ref: which {kind}?", hint=self._hint(kind))

    def _is(self, name: str, kind: Kind) -> bool:
        handle = self.bound.get(name) or self._given(name)
        return handle is not None and handle.kind is kind and not self._is_gone(handle)

    def _given(self, name: str) -> Handle | None:
        """What needs no binding: the runtime's context and, by its id, each page."""
        if name == OWN_CONTEXT:
            return Handle(Kind.CONTEXT, self.live.live.context)
        opened = self.live.pages.get(name)
        return None if opened is None else Handle(Kind.PAGE, opened.page, opened)

    def _names(self, kind: Kind) -> Iterator[str]:
        yield from (name for name, one in self.bound.items() if one.kind is kind)
        if kind is Kind.CONTEXT:
            yield OWN_CONTEXT

    def _unbound(self, kind: Kind) -> Iterator[str]:
        if kind is Kind.PAGE:
            yield from self.live.pages

    def _hint(self, kind: Kind) -> str:
        names = [*self._names(kind), *self._unbound(kind)]
        return f"There are: {', '.join(names[:20])}." if names else f"A step before has to bind a {kind}."

    def _is_gone(self, handle: Handle) -> bool:
        if handle.kind is Kind.CONTEXT:
            return handle.thing is not self.live.live.context and handle.thing not in self.live.further
        if handle.opened is not None and handle.opened.page.is_closed():
            return True
        return handle.kind is Kind.FRAME and bool(handle.thing.is_detached())
