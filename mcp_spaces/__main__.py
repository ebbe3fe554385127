"""`python -m mcp_spaces` and the console script `mcp-spaces`."""

from __future__ import annotations

import os
import sys

from mcp_spaces.cli import exits, streams

TYPE_CHECKING = False  # type checkers know the name; importing typing would be the most expensive line here
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ANYWHERE = frozenset({"--help", "--version", "install"})
"""What is of use on other systems: words about the program, and the configuration of clients for a server elsewhere."""


def main() -> None:
    """Run one command. `stdio` is what MCP clients spawn, so it starts before anything heavy is imported."""
    words = sys.argv[1:]
    if refusal := unsupported(sys.platform, words, os.environ):
        sys.exit(refusal)
    streams.open_closed()
    try:
        if words == ["stdio"]:
            from mcp_spaces.server.shim import main as connect

            connect()
        streams.end_unread()
        from mcp_spaces.cli.main import app

        app()
    except KeyboardInterrupt:
        # Within a command it is told; this is while the command is still being loaded.
        sys.exit(exits.CANCELLED)
    except OSError as error:
        sys.exit(_not_shown(error))


def _not_shown(error: OSError) -> int:
    """The exit code where the answer cannot be written, such as on a full disk; or some file is not what it should be."""
    # What is buffered cannot go anywhere either, and would be tried again at the end.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    where, hint = "", "What was asked for may be done all the same: mcp-spaces runs"
    if error.filename:
        where, hint = f"{error.filename}: ", "Run: mcp-spaces doctor"
    sys.stderr.write(f"error: {where}{error.strerror or error}.\nhint: {hint}\n")
    return exits.REFUSED


def unsupported(platform: str, words: Sequence[str], environment: Mapping[str, str]) -> str | None:
    """Why this cannot run here: the daemon needs Linux, the command line alone does not. None where it can."""
    if platform == "linux" or not words or not ANYWHERE.isdisjoint(words):
        return None
    named = "MCP_SPACES_SERVER" in environment or any(word.partition("=")[0] == "--server" for word in words)
    if named and "serve" not in words and "stdio" not in words:
        return None
    return (
        f"mcp-spaces needs Linux, and this is {platform}: use a virtual machine or a container with Linux, "
        "or connect to a server elsewhere with `mcp-spaces --server URL`."
    )


if __name__ == "__main__":
    main()
