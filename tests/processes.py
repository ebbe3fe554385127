"""What runs on this machine, and a program that does not."""

from __future__ import annotations

import shlex
from pathlib import Path


def processes(marker: str) -> list[str]:
    """Those of this machine whose command line is exactly this."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if b" ".join(words[:-1]).decode(errors="replace") == marker:
            found.append(path.parent.name)
    return found


def ends_with(words: str, program: Path) -> Path:
    """A program that says this on its standard error and fails."""
    program.write_text(f"#!/bin/sh\necho {shlex.quote(words)} >&2\nexit 127\n", "utf-8")
    program.chmod(0o755)
    return program
