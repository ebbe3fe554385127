"""A Playwright trace without what signs somebody in: cookies, authorization, what was posted (threat L20)."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

from mcp_spaces.errors import QuotaExceeded
from mcp_spaces.state.disk import translated

HEADERS = frozenset({"cookie", "set-cookie", "authorization", "proxy-authorization", "www-authenticate"})
HIDDEN = "[not recorded]"
TRACE_BYTES_MAX = 512 << 20
"""Of a trace unpacked: pages choose how much there is to record."""


def scrub(source: Path, target: Path) -> None:
    """Write the trace at `source` to `target`, which is made here with mode 0600. Blocking. Raises QuotaExceeded,
    DiskFull, WrongState."""
    with translated():
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with (
        translated(),
        os.fdopen(descriptor, "wb") as file,
        zipfile.ZipFile(source) as read,
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as written,
    ):
        if sum(one.file_size for one in read.infolist()) > TRACE_BYTES_MAX:
            raise QuotaExceeded(
                f"The trace has more than {TRACE_BYTES_MAX >> 20} MiB.", hint="Record fewer steps at a time."
            )
        posted: set[str] = set()
        texts: dict[str, str] = {}
        for name in read.namelist():
            if name.endswith((".network", ".trace")):
                lines = read.read(name).decode("utf-8", "replace").splitlines()
                texts[name] = "".join(_line(line, posted) for line in lines)
        for name in read.namelist():
            if name in posted:
                continue
            written.writestr(name, texts[name] if name in texts else read.read(name))


def _line(line: str, posted: set[str]) -> str:
    event = json.loads(line)
    if event.get("type") == "resource-snapshot":
        _clean(event.get("snapshot", {}), posted)
    elif event.get("type") == "context-options":
        options = event.get("options") or {}
        event["options"] = {name: options[name] for name in ("viewport", "locale", "timezoneId") if name in options}
    return json.dumps(event, ensure_ascii=False) + "\n"


def _clean(exchange: dict[str, Any], posted: set[str]) -> None:
    for side in ("request", "response"):
        half = exchange.get(side)
        if not isinstance(half, dict):
            continue
        half["cookies"] = []
        half["headers"] = [
            {**one, "value": HIDDEN} if str(one.get("name", "")).lower() in HEADERS else one
            for one in half.get("headers", [])
        ]
        body = half.pop("postData", None)
        if isinstance(body, dict) and "_file" in body:
            posted.add(str(body["_file"]))
