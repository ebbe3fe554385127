"""A script of an agent's own in a page, and an answer that was measured there before the daemon takes it in.

A page may answer with hundreds of megabytes, and the daemon's memory is everybody's (threat D14).
"""

from __future__ import annotations

import json
import re
from functools import cache
from typing import TYPE_CHECKING

from pydantic import JsonValue

from mcp_spaces.errors import QuotaExceeded, WrongState
from mcp_spaces.resources import resource

if TYPE_CHECKING:
    from playwright.async_api import Frame, Locator, Page

RESULT_CHARACTERS_MAX = 2_000_000
"""Of what a script gives back, as JSON."""
_FUNCTION = re.compile(r"(async)?\s*function(\s|\()")


async def run_script(
    target: Page | Frame | Locator, script: str, arg: JsonValue = None, *, timeout_ms: float | None = None
) -> JsonValue:
    """An expression or a function, which gets `arg`, and before it the element of a Locator. `timeout_ms` is for
    finding that element. What JSON has no form for becomes text, or nothing.

    Raises WrongState with the script's own error; QuotaExceeded for a result of over 2,000,000 characters of JSON.
    """
    script = script.strip()
    if _FUNCTION.match(script):
        # As Playwright reads it: alone it would be a statement.
        script = f"({script})"
    given = {"script": script, "arg": arg, "max": RESULT_CHARACTERS_MAX}
    if timeout_ms is None:
        answer = await target.evaluate(_around(), given)
    else:
        answer = await target.evaluate(_around(), given, timeout=timeout_ms)  # type: ignore[call-arg] # a locator takes one
    return _read(answer if isinstance(answer, str) else "?")


def _read(answer: str) -> JsonValue:
    kind, text = answer[:1], answer[1:]
    if kind == ">":
        raise QuotaExceeded(
            f"The script's result has more than {RESULT_CHARACTERS_MAX:,} characters as JSON, the most that is taken.",
            hint="Return a part of it, or a count; browser_text reads a long page piece by piece.",
        )
    if kind == "!":
        raise WrongState(f"The script threw {text.rstrip('.')}.", hint="Mend the script; try it in parts.")
    try:
        if kind == "=":
            result: JsonValue = json.loads(text)
            return result
    except (ValueError, RecursionError):
        text = "it is nested too deeply, or the page changed it"
    raise WrongState(
        f"The script's result cannot be told as JSON: {text.rstrip('.')}.",
        hint=f"Return plain values without circles, at most {RESULT_CHARACTERS_MAX:,} characters of JSON.",
    )


@cache
def _around() -> str:
    return resource("browser/script.js").read_text("utf-8")
