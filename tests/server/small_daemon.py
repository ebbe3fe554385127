"""`python -m tests.server.small_daemon [READY_FD]`: a daemon around the small app, as a process of its own."""

from __future__ import annotations

import os
import sys

from mcp_spaces.errors import SpacesError
from mcp_spaces.server.daemon import serve
from mcp_spaces.settings import read_settings
from tests.server.small_app import small_app

if __name__ == "__main__":
    ready = int(sys.argv[1]) if len(sys.argv) > 1 else None
    try:
        settings = read_settings(os.environ)
    except SpacesError as error:
        sys.exit(f"{error.message} {error.hint}")
    sys.exit(serve(settings, ready_fd=ready, open_app=lambda settings: small_app(settings.state_dir)))
