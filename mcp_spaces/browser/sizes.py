"""How large browsers are: what a runtime is booked with, the least that works, and what a Chromium may use.

A runtime with a process of its own has in its container exactly what it is booked with. Runtimes that share a browser
are booked one by one, and their browser may use what the operator's setting and the space's ceiling both permit.
"""

from __future__ import annotations

from mcp_spaces.browser.model import Isolation
from mcp_spaces.core.limits import Limits
from mcp_spaces.errors import ExceedsCeiling, InvalidInput
from mcp_spaces.sandbox.port import SandboxLimits
from mcp_spaces.spaces.model import SIZES

MIB = 1 << 20
BOOKED = {
    Isolation.CONTEXT: Limits(cpu_cores=0.5, memory_bytes=512 * MIB, disk_bytes=256 * MIB, pids=128),
    Isolation.PROCESS: Limits(cpu_cores=1, memory_bytes=1024 * MIB, disk_bytes=1024 * MIB, pids=512),
}
"""What one runtime counts for in its space, when nothing else is asked."""
LEAST = {
    Isolation.CONTEXT: Limits(cpu_cores=0.05, memory_bytes=64 * MIB, disk_bytes=8 * MIB, pids=8),
    # Measured: below 192 MiB it is killed on a page of 20,000 paragraphs; it has 80 processes and threads with two pages.
    Isolation.PROCESS: Limits(cpu_cores=0.1, memory_bytes=256 * MIB, disk_bytes=64 * MIB, pids=128),
}
"""Of a runtime's share in a browser, and of a whole browser, whoever uses it."""


def check_size(isolation: Isolation, booked: Limits, space: Limits) -> None:
    """Raises ExceedsCeiling where no browser fits into the space, InvalidInput where this one's share is too small."""
    if name := _lacking(space, LEAST[Isolation.PROCESS]):
        raise ExceedsCeiling(
            f"A browser needs {_said(LEAST[Isolation.PROCESS], name)}; the space holds {_said(space, name)}.",
            hint="A person has to widen the space's limits.",
            key=f"limits.{name}",
        )
    if name := _lacking(booked, LEAST[isolation]):
        what = "A browser of its own" if isolation is Isolation.PROCESS else "A browser"
        raise InvalidInput(
            f"{what} needs {_said(LEAST[isolation], name)}, not {_said(booked, name)}.",
            hint=f"Ask for more (scope.limits.{name}), or leave it out.",
        )


def browser_limits(isolation: Isolation, booked: Limits, space: Limits) -> SandboxLimits:
    """For the Chromium that a runtime lives in."""
    held = booked if isolation is Isolation.PROCESS else space
    return SandboxLimits(**{name: getattr(held, name) for name in SIZES})


def _lacking(held: Limits, least: Limits) -> str:
    return next((name for name in SIZES if getattr(held, name) < getattr(least, name)), "")


def _said(limits: Limits, name: str) -> str:
    amount, words = getattr(limits, name), name.replace("_", " ")
    return (
        f"{amount / MIB:g} MiB of {words.removesuffix(' bytes')}" if name.endswith("_bytes") else f"{amount:g} {words}"
    )
