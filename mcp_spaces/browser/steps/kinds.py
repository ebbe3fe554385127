"""What steps work on."""

from __future__ import annotations

from enum import StrEnum


class Kind(StrEnum):
    """What a method is called on, and what a handle names."""

    BROWSER = "browser"
    CONTEXT = "context"
    PAGE = "page"
    FRAME = "frame"
    LOCATOR = "locator"
    DOWNLOAD = "download"
