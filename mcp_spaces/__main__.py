"""`python -m mcp_spaces` and the console script `mcp-spaces`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run one command. `stdio` is what MCP clients spawn, so it starts before anything heavy is imported."""
    if sys.argv[1:] == ["stdio"]:
        from mcp_spaces.server.shim import main as connect

        connect()
    from mcp_spaces.cli.main import app

    app()


if __name__ == "__main__":
    main()
