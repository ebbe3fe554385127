"""The grammar of paths that callers may write: below the workspace by their wording alone, before anything opens them.

Stricter than the port's own (`paths.py`), which takes all that a file can be called. What a path leads to in the end is
judged where it is opened, inside the sandbox; see `port.py`.
"""

from __future__ import annotations

import unicodedata
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, WithJsonSchema

from mcp_spaces.sandbox.port import WORKSPACE

MAXIMUM_BYTES = 1024
WORKSPACE_ITSELF = "."


def canonical_path(path: str) -> str:
    """`path` relative to the workspace, without `.` and empty parts; `/workspace/…` is accepted too.

    Raises ValueError, saying what is wrong with it, and never repeating it.
    """
    below = encodable(path)
    if len(below.encode()) > MAXIMUM_BYTES:
        raise ValueError(f"a path has at most {MAXIMUM_BYTES} bytes in UTF-8")
    if any(unicodedata.category(character) == "Cc" for character in below):
        raise ValueError("a path holds no NUL or other control character")
    if below.startswith("/"):
        if below != WORKSPACE and not below.startswith(WORKSPACE + "/"):
            raise ValueError(f"paths are relative to the workspace, or start with {WORKSPACE}/")
        below = below.removeprefix(WORKSPACE)
    parts = [part for part in below.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise ValueError("`..` is not allowed: name the file from the workspace down")
    if not path:
        raise ValueError("a path is not empty; the workspace itself is `.`")
    return "/".join(parts) or WORKSPACE_ITSELF


def encodable(text: str) -> str:
    """Raises ValueError for a lone surrogate, which no file name or command holds."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("text holds no lone surrogates") from None
    return text


def _a_file(path: str) -> str:
    if path == WORKSPACE_ITSELF:
        raise ValueError("the workspace itself is a folder: name a file in it")
    return path


def _no_folder(path: object) -> object:
    if isinstance(path, str) and path.endswith("/"):
        raise ValueError("a path that ends with / is a folder: name the file in it")
    return path


# Callers learn the grammar from the error: a description at every path would fill the tool list.
FolderPath = Annotated[str, AfterValidator(canonical_path), WithJsonSchema({"type": "string"})]
FilePath = Annotated[FolderPath, AfterValidator(_a_file)]
NewFilePath = Annotated[FilePath, BeforeValidator(_no_folder)]
