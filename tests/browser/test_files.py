"""Files on their way into pages."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from mcp_spaces.browser.files import UPLOAD_BYTES_MAX, UPLOADS_MAX, _payloads
from mcp_spaces.core.context import Context
from mcp_spaces.errors import QuotaExceeded

pytestmark = pytest.mark.anyio


class Unread:
    """A reader, and a storage whose files are all so large. Reading any of them fails the test."""

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes, self.content_type, self.left_open = size_bytes, "text/plain", 0

    def open(self, _context: object, *, namespace: str, path: str) -> tuple[Any, Any]:
        return self, self

    async def read(self, offset: int, limit: int) -> bytes:
        raise AssertionError("a file was read before all of them were known to be small enough")

    def __enter__(self) -> Unread:
        self.left_open += 1
        return self

    def __exit__(self, *_: object) -> None:
        self.left_open -= 1


async def test_d14_no_file_of_an_upload_is_read_before_their_sum_is_known() -> None:
    files = Unread(UPLOAD_BYTES_MAX // UPLOADS_MAX + 1)
    context = cast(Context, SimpleNamespace(use=lambda _: files))
    with pytest.raises(QuotaExceeded):
        await _payloads(context, "own", [f"{number}.txt" for number in range(UPLOADS_MAX)])
    assert files.left_open == 0
