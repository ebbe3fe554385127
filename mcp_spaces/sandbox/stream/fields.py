"""What stands in the fields of frames: an order for a command, and what the agent says of files."""

from __future__ import annotations

from mcp_spaces.errors import InvalidInput
from mcp_spaces.sandbox.agent import wire
from mcp_spaces.sandbox.paths import workspace_path
from mcp_spaces.sandbox.port import Command, FileKind, FileStat, SearchMatch
from mcp_spaces.sandbox.stream.protocol import Violation, text, whole

MAX_COMMAND_BYTES = wire.MAX_PAYLOAD - 1024


def run_fields(command: Command) -> list[bytes]:
    """The order for one command. Raises InvalidInput for what no process can be started with."""
    if not command.argv:
        raise InvalidInput("The command is empty.", hint="Name a program.")
    size = command.terminal
    argv = [_argument(part) for part in command.argv]
    pairs = []
    for key, value in command.env.items():
        if not key or "=" in key:
            raise InvalidInput(f"Not the name of an environment variable: {key!r}.", hint="Leave out '='.")
        pairs.append(_argument(f"{key}={value}"))
    fields = [
        b"run",
        workspace_path(command.cwd),
        wire.whole(size.rows if size else 0),
        wire.whole(size.columns if size else 0),
        wire.whole(int(command.is_fed)),
        wire.whole(len(argv)),
        *argv,
        *pairs,
    ]
    if not argv[0] or sum(map(len, fields)) + 4 * len(fields) > MAX_COMMAND_BYTES:
        raise InvalidInput(
            f"The command has no program, or is longer than {MAX_COMMAND_BYTES} bytes.", hint="Pass a file or stdin."
        )
    if size is not None and not (1 <= size.rows <= 1000 and 1 <= size.columns <= 1000):
        raise InvalidInput("A terminal has 1 to 1000 rows and columns.", hint="Pass 24 and 80.")
    return fields


def _argument(part: str) -> bytes:
    try:
        encoded = part.encode("utf-8")
    except UnicodeEncodeError:
        raise InvalidInput("The command is not valid Unicode.", hint="Leave out lone surrogates.") from None
    if b"\0" in encoded:
        raise InvalidInput("The command holds a NUL character.", hint="Leave it out.")
    return encoded


def stat_of(fields: list[bytes]) -> FileStat:
    """Raises Violation."""
    if len(fields) != 5:
        raise Violation("a wrong number of fields")
    path, kind, size, modified, executable = fields
    try:
        file_kind = FileKind(kind.decode("ascii"))
    except ValueError:
        raise Violation("an unknown kind of file") from None
    return FileStat(
        path=text(path, longest=64 * 1024),
        kind=file_kind,
        size_bytes=whole(size),
        modified_at=whole(modified, low=-(1 << 62)) / 1e6,
        executable=bool(whole(executable, high=1)),
    )


def match_of(fields: list[bytes]) -> SearchMatch:
    """Raises Violation."""
    if len(fields) != 3:
        raise Violation("a wrong number of fields")
    return SearchMatch(path=text(fields[0], longest=64 * 1024), line=whole(fields[1]), text=text(fields[2]))
