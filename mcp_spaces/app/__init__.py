"""The composition root: settings → App. The only room that knows which technology stands behind which port."""

from __future__ import annotations

from mcp_spaces.app.drivers import browser_driver
from mcp_spaces.app.root import open_app
from mcp_spaces.app.surface import App

__all__ = ["App", "browser_driver", "open_app"]
