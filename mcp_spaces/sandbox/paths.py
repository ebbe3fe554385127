"""What the port takes for a path or a pattern, before anything is asked inside. Rejected, never repaired. What callers may
write is less: `path_grammar.py`."""

from __future__ import annotations

from mcp_spaces.errors import InvalidInput, WrongState
from mcp_spaces.sandbox.port import WORKSPACE

MAX_PATH_BYTES = 4096
MAX_NAME_BYTES = 255
MAX_NAMES = 200
MAX_PATTERN_BYTES = 1000


def workspace_path(path: str) -> bytes:
    """`path` relative to the workspace; `/workspace/…` is understood as well.

    Raises InvalidInput for what no file can be called, WrongState for what leads outside by its wording alone.
    """
    encoded = encoded_text(path, what="path", longest=MAX_PATH_BYTES)
    if path.startswith("/"):
        if path != WORKSPACE and not path.startswith(WORKSPACE + "/"):
            raise WrongState(f"{path} leads outside the workspace.", hint=f"Use a path below {WORKSPACE}.")
        encoded = encoded[len(WORKSPACE) :].lstrip(b"/")
    names = encoded.split(b"/")
    if len(names) > MAX_NAMES or max(map(len, names)) > MAX_NAME_BYTES:
        raise InvalidInput(
            f"The path has a name over {MAX_NAME_BYTES} bytes or more than {MAX_NAMES} names.", hint="Shorten it."
        )
    return encoded or b"."


def encoded_text(text: str, *, what: str, longest: int) -> bytes:
    """UTF-8 without NUL. Raises InvalidInput."""
    try:
        encoded = text.encode("utf-8")
    except UnicodeEncodeError:
        raise InvalidInput(f"The {what} is not valid Unicode.", hint="Leave out lone surrogates.") from None
    if b"\0" in encoded:
        raise InvalidInput(f"The {what} holds a NUL character.", hint="Leave it out.")
    if not encoded or len(encoded) > longest:
        raise InvalidInput(f"The {what} has to have 1 to {longest} bytes.", hint="Shorten it, or say `.`.")
    return encoded
