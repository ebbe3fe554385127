"""The pages: one file each in `pages/`, whose first comment says which threat it stands for.

`two-step.password.html` is served at `/two-step/password`. `{{name}}` is replaced by an escaped text, `{{login}}`
by the ordinary login fields.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent / "pages"
_HOLE = re.compile(r"\{\{(\w+)\}\}")
_PURPOSE = re.compile(r"<!--\s*(.*?)\s*-->", re.DOTALL)


@cache
def sources() -> Mapping[str, str]:
    """Path → source."""
    files = sorted(FOLDER.glob("*.html"))
    return {f"/{file.stem.replace('.', '/')}": file.read_text("utf-8") for file in files if file.name[0] != "_"}


@cache
def scripts() -> Mapping[str, bytes]:
    """Path → script."""
    return {f"/{file.name}": file.read_bytes() for file in FOLDER.glob("*.js")}


@cache
def _login() -> str:
    return (FOLDER / "_login.html").read_text("utf-8")


def purposes() -> dict[str, str]:
    """Path → what the page is for: its first comment."""
    return {path: match[1] if (match := _PURPOSE.search(source)) else "" for path, source in sources().items()}


def render(path: str, texts: Mapping[str, str]) -> bytes:
    """Raises KeyError for a page that is not there. A hole that nobody fills is empty."""
    source = sources()[path].replace("{{login}}", _login())
    return _HOLE.sub(lambda hole: html.escape(texts.get(hole[1], "")), source).encode()
