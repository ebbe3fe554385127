"""What sandboxes may run on, and which shell an image has."""

from __future__ import annotations

from dataclasses import dataclass

import anyio

from mcp_spaces.errors import InvalidInput, RuntimeUnavailable
from mcp_spaces.sandbox.port import Command, Sandbox

BASH, SH = "/bin/bash", "/bin/sh"
PROBE_S = 10.0
USUAL_BASH, SET_UP_BASH = 10, 11
# Not what `env` would say: sh passes on only what it takes for names, and an exported function's is none to it.
WHICH_SHELL = (
    f"test -x {BASH} || exit 1; tr '\\0' '\\n' </proc/$$/environ | grep -q -e ^BASH_ENV= -e ^BASH_FUNC_"
    f" && exit {SET_UP_BASH}; exit {USUAL_BASH}"
)


@dataclass(frozen=True, slots=True)
class Images:
    """What sandboxes may run on: `default`, and `others` that the operator named."""

    default: str
    others: tuple[str, ...] = ()

    def choose(self, asked: str | None) -> str:
        """Raises InvalidInput: nothing is pulled because an agent asked."""
        if asked is None or asked in (self.default, *self.others):
            return asked or self.default
        known = ", ".join((self.default, *self.others))
        raise InvalidInput("That image is not among the operator's.", hint=f"Images: {known}.")

    def again(self, had: str) -> str:
        """For a sandbox that ran on `had`: the default one where the operator names that no more, as after an update."""
        return had if had in (self.default, *self.others) else self.default


@dataclass(frozen=True, slots=True)
class Shell:
    """`may_be_left_out`: nothing in the image's environment changes what bash makes of a plain command."""

    path: str
    may_be_left_out: bool

    @property
    def is_bash(self) -> bool:
        return self.path == BASH


async def shell_of(sandbox: Sandbox) -> Shell:
    """Raises RuntimeUnavailable where it does not answer, and what starting it raises."""
    with anyio.move_on_after(PROBE_S):
        process = await sandbox.start(
            Command((SH, "-c", WHICH_SHELL), stdin=False), output=lambda _stream, _chunk: None
        )
        ended = await process.wait()
        is_bash = ended.exit_code in (USUAL_BASH, SET_UP_BASH)
        return Shell(BASH if is_bash else SH, may_be_left_out=ended.exit_code == USUAL_BASH)
    raise RuntimeUnavailable("The sandbox's shell does not answer.", hint="Does the image have /bin/sh?")
