"""Playwright's errors, translated once: what an agent can act on, without Playwright's log and without values."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import anyio

from mcp_spaces.errors import DiskFull, InvalidInput, RuntimeUnavailable, SpacesError, TimedOut, WrongState

GONE = (
    "Target page, context or browser has been closed",
    "Target closed",
    "Browser has been closed",
    "Connection closed",
)
HANGS = "browser_navigate leads a page elsewhere that hangs."
_INTERCEPTS = re.compile(r"^[ -]*(<[^>\n]{1,200}>).*intercepts pointer events", re.MULTILINE)
_NO_ROOM = re.compile(r"(Tracing|Download)\.\w+: ENOSPC: ")
"""From what writes files of ours. A page may say such words, too."""
_NET = re.compile(r"net::(ERR_[A-Z_]+)")
NO_TUNNEL = "ERR_TUNNEL_CONNECTION_FAILED"
STATES = ("not visible", "not enabled", "not stable", "not editable", "outside of the viewport", "detached")


class NoTunnel(RuntimeUnavailable):
    """The gateway has said why, and Chromium keeps it to itself: see `unreached`."""


@contextmanager
def translated(what: str) -> Iterator[None]:
    """`what` was tried, such as "click e12". Raises SpacesError instead of Playwright's Error.

    The cause is dropped: Playwright's texts hold arguments, and an argument may be a secret (threat L08).
    """
    from playwright.async_api import Error

    try:
        yield
    except Error as error:
        translation = translate(error.message, what=what)
    else:
        return
    raise translation from None


@contextmanager
def in_time(what: str, seconds: float) -> Iterator[None]:
    """As `translated`, for what Playwright itself knows no end of: a page whose scripts never rest answers nothing,
    and whoever waits for it holds the browser's turn. Raises TimedOut as well."""
    with translated(what), anyio.move_on_after(seconds) as limit:
        yield
    if limit.cancelled_caught:
        raise TimedOut(f"{what}: it did not end in {seconds:g} s.", hint=HANGS)


def translate(text: str, *, what: str) -> SpacesError:
    first = text.partition("\n")[0]
    if any(one in text for one in GONE):
        return RuntimeUnavailable(
            f"{what}: the page or its browser was closed.", hint="See browser_pages, browser_list."
        )
    if "Page crashed" in text or "Target crashed" in text:
        return RuntimeUnavailable(f"{what}: the page crashed.", hint="Navigate it again, or open another page.")
    if _NO_ROOM.match(text):
        return DiskFull(f"{what}: the disk is full, and nothing was kept.", hint="Free space on the state disk.")
    if found := _NET.search(text):
        kind = NoTunnel if found[1] == NO_TUNNEL else RuntimeUnavailable
        return kind(f"{what}: {net_words(found[0])}.", hint=_net_hint(found[1]))
    if found := _INTERCEPTS.search(text):
        return WrongState(f"{what}: {found[1]} is in the way.", hint="Close or click what covers it; take a snapshot.")
    if found_words := next((words for words in _WORDS if words[0] in text), None):
        _, message, hint = found_words
        return WrongState(f"{what}: {message}.", hint=hint)
    if "Timeout" in first and "exceeded" in first:
        state = next((one for one in STATES if one in text), None)
        if state is not None:
            return WrongState(f"{what}: the element is {state}.", hint="Take a snapshot; scroll or wait for it.")
        return TimedOut(
            f"{what}: it did not happen in time.",
            hint="browser_snapshot shows what is there; wait for it, or give more time (timeout_s; in a step timeoutMs).",
        )
    if "not a valid selector" in text or "Unexpected token" in first or "Unsupported token" in first:
        return InvalidInput(f"{what}: the selector cannot be read.", hint="Use a ref from browser_snapshot.")
    if "Element is not" in text or "not an <" in text:
        return WrongState(f"{what}: {_plain(first)}", hint="Take a snapshot: it may be another kind of element.")
    return WrongState(f"{what}: {_plain(first)}", hint="Take a snapshot to see what is there.")


_WORDS = (
    ("did not find some options", "the list has no such option", "browser_snapshot with its ref shows all of them."),
    ("option being selected is not enabled", "that option is disabled", "Choose another, or see what enables it."),
    ('Input of type "checkbox"', "it is a checkbox", "Give true or false for it."),
    ('Input of type "radio"', "it is a radio button", "Give true for the one that you choose."),
    ('Input of type "file"', "it is a file field", "browser_upload gives it files of storage."),
    ("is not a <select>", "it is no native list", "Click it, then click the option that it shows."),
    ("Element is not an <input>", "it is no text field", "Give a field in it, or click it and see what that shows."),
    (
        'event "filechooser"',
        "a click on it opens no choice of files",
        "Give the ref of a file field, or of what a person clicks to choose files.",
    ),
    ("Unknown key:", "there is no such key", "Keys are named Enter, Escape, ArrowDown, Control+A."),
    ("Non-multiple file input", "it takes one file only", "Name one path."),
)
"""Of Playwright's words, what an agent is told instead."""
_NET_WORDS = {
    NO_TUNNEL: "the gateway refused the connection, or the site does not answer",
    "ERR_PROXY_CONNECTION_FAILED": "the browser has no way out: the daemon may be restarting",
    "ERR_NAME_NOT_RESOLVED": "there is no such host",
    "ERR_CERT_AUTHORITY_INVALID": "the site's certificate is not trusted",
    "ERR_CERT_COMMON_NAME_INVALID": "the site's certificate is for another name",
    "ERR_CERT_DATE_INVALID": "the site's certificate is out of date",
    "ERR_EMPTY_RESPONSE": "the site sent nothing",
    "ERR_CONNECTION_RESET": "the connection broke off",
    "ERR_CONTENT_LENGTH_MISMATCH": "less came than the site said",
    "ERR_INCOMPLETE_CHUNKED_ENCODING": "the answer ended before its end",
    "ERR_TOO_MANY_REDIRECTS": "the site redirects in a circle",
    "ERR_ABORTED": "it was broken off (a download, a new navigation, or an answer without content)",
}


def net_words(failure: str) -> str:
    """Chromium's reason for a failed request, `net::ERR_…`, in words."""
    code = failure.removeprefix("net::")[:100]
    return _NET_WORDS.get(code, code)


def _net_hint(code: str) -> str:
    if code in (NO_TUNNEL, "ERR_EMPTY_RESPONSE"):
        return "run_get of this run shows the gateway's decision; a person can widen the space's network mount."
    if code == "ERR_CERT_AUTHORITY_INVALID":
        return "Is it the right site? A person can trust its key: MCP_SPACES_BROWSER_TRUSTED_KEYS."
    return "Check the URL."


def _plain(line: str) -> str:
    """Playwright's own sentence, without the name of its method, and bounded."""
    return re.sub(r"^(?:[A-Za-z_.]+: )+", "", line)[:200].rstrip(".") + "."
