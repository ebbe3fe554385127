"""The agent's words for why something was not done, and the errors that callers get. Texts are ours, never its."""

from __future__ import annotations

from collections.abc import Callable

from mcp_spaces.errors import (
    Conflict,
    DiskFull,
    InvalidInput,
    NotFound,
    OutOfMemory,
    QuotaExceeded,
    RuntimeUnavailable,
    SpacesError,
    WrongState,
)
from mcp_spaces.sandbox.port import WORKSPACE
from mcp_spaces.sandbox.stream.protocol import Violation

_LIST = "sandbox_list_files and sandbox_glob show what is there."
_REGULAR = "Only regular files can be read and written; use a shell command for anything else."
_TOO_MANY = "Stop jobs that still run: job_stop. Else sandbox_stop and sandbox_launch with its alias: files are kept."
_INSIDE = f"Use a path below {WORKSPACE}."

REFUSALS: dict[bytes, tuple[Callable[..., SpacesError], str, str]] = {
    b"absent": (NotFound, "There is no {path}.", _LIST),
    b"not_folder": (WrongState, "Not a folder, or a part of the path is none: {path}.", _LIST),
    b"folder": (WrongState, "{path} is a folder.", "sandbox_list_files shows what is in it; tar makes one file of it; sandbox_delete_file with recursive deletes it."),
    b"not_regular": (WrongState, "{path} is not a regular file.", _REGULAR),
    b"outside": (WrongState, "{path} leads outside the workspace.", _INSIDE),
    b"link": (WrongState, "A symbolic link is on the way to {path}.", "Writing and deleting never follow links; name the real path."),
    b"link_loop": (WrongState, "Too many symbolic links on the way to {path}.", _LIST),
    b"root": (WrongState, "The workspace itself cannot be deleted.", "Delete what is in it, or the runtime."),
    b"not_empty": (Conflict, "{path} was filled while it was being deleted.", "Try again once nothing writes there."),
    b"exists": (Conflict, "{path} exists already.", "Pass overwrite to replace it."),
    b"changed": (Conflict, "{path} is not what it was.", "Read it again and apply the change to what is there now."),
    b"forbidden": (WrongState, "The sandbox's user may not do that with {path}.", "Change its mode with a shell command first."),
    b"too_long": (InvalidInput, "A name in the path is too long: {path}.", "A name may have 255 bytes."),
    b"too_deep": (InvalidInput, "The path has too many folders: {path}.", "At most 200 folders may be on the way."),
    b"expression": (InvalidInput, "The regular expression does not compile.", "Use Python's `re` syntax; a bracket, as in foo\\(, and other marks that are meant as they are take a backslash."),
    b"pattern": (InvalidInput, "The pattern cannot be understood.", "Use *, ?, [abc] and ** as a whole name."),
    b"full": (DiskFull, "The workspace is full.", "Delete files there, or start a runtime with a larger disk."),
    b"no_process": (QuotaExceeded, "The sandbox's limit of processes or open files is reached.", _TOO_MANY),
    b"no_memory": (OutOfMemory, "The sandbox has no memory left for that.", _TOO_MANY),
    b"nobody": (WrongState, "Nothing listens on that port in the sandbox.", "Start the server there; it has to listen on 127.0.0.1."),
    b"quota": (QuotaExceeded, "The sandbox has as many proxy ports as there may be.", "Stop a browser of this space; it frees one."),
    b"stopped": (RuntimeUnavailable, "The operation was stopped.", "Try again."),
    b"io": (RuntimeUnavailable, "The sandbox's file system failed at {path}.", "The disk that holds it may have been full. Once it has room, sandbox_stop and sandbox_launch mount it anew."),
}  # fmt: skip


def error_of(word: bytes, *, path: str) -> SpacesError:
    """`path` may be empty where no file is asked for. Raises Violation for a word that the agent does not have."""
    found = REFUSALS.get(word)
    if found is None:
        raise Violation("an unknown refusal")
    kind, message, hint = found
    return kind(message.format(path=path), hint=hint)
