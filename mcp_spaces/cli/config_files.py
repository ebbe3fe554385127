"""One entry in somebody else's configuration file: what was there stays, and a copy of it too.

A file that cannot be changed without losing something, such as JSON with comments, is left alone.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mcp_spaces.cli.clients import Entry
from mcp_spaces.server import strict_json


class LeftAlone(Exception):
    """The file was not touched. The message says why."""


def text_with(entry: Entry, before: str) -> str:
    """The file's new text; the same one where the entry stands there already. Raises LeftAlone."""
    if entry.file.suffix == ".toml":
        return _toml_with(entry, before)
    return _json_with(entry, before)


def snippet(entry: Entry) -> str:
    """The entry alone, as a new file would hold it."""
    return text_with(entry, "")


def write(file: Path, text: str) -> Path | None:
    """Replace the file as a whole, keeping its mode. The copy of what was there, if anything was."""
    target = file.resolve()  # a link into somebody's dotfiles stays one
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        copy = _copied(target) if target.exists() else None
        descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        fresh = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as writer:
                writer.write(text.encode())
                writer.flush()
                os.fsync(writer.fileno())
            fresh.chmod(target.stat().st_mode & 0o777 if copy else 0o600)
            fresh.replace(target)
        finally:
            fresh.unlink(missing_ok=True)
    except OSError as error:
        raise LeftAlone(f"{file}: {error.strerror or error}") from None
    return copy


def read(file: Path) -> str:
    """Its text with the line ends that it has, or none where there is no file. Raises LeftAlone."""
    try:
        return file.read_bytes().decode()
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError:
        raise LeftAlone(f"{file} is not UTF-8 text") from None
    except OSError as error:
        raise LeftAlone(f"{file}: {error.strerror or error}") from None


def _copied(file: Path) -> Path:
    number = 1
    while (copy := file.with_name(f"{file.name}.bak{number}")).exists():
        number += 1
    return Path(shutil.copy2(file, copy))


def _json_with(entry: Entry, before: str) -> str:
    try:
        # Of two members of one name the next line would lose one.
        whole: Any = strict_json.parse(before.encode()) if before.strip() else {}
    except ValueError as error:
        raise LeftAlone(f"{entry.file} is not plain JSON ({error})") from None
    parent: Any = whole
    for name in entry.path[:-1]:
        if not isinstance(parent, dict) or not isinstance(parent.setdefault(name, {}), dict):
            raise LeftAlone(f"{entry.file} holds something else at {name}")
        parent = parent[name]
    if parent.get(entry.path[-1]) == entry.value and all(_held(whole, *one) for one in entry.also.items()):
        return before
    parent[entry.path[-1]] = dict(entry.value)
    for name, items in entry.also.items():
        present = whole.setdefault(name, [])
        if not isinstance(present, list) or not all(isinstance(one, dict) for one in present):
            raise LeftAlone(f"{entry.file} holds something else at {name}")
        present += [item for item in items if item["id"] not in [one.get("id") for one in present]]
    indent = re.search(r"\n([ \t]+)\"", before)
    return json.dumps(whole, indent=indent[1] if indent else 2, ensure_ascii=False) + "\n"


def _held(whole: Mapping[str, Any], name: str, items: list[dict[str, Any]]) -> bool:
    present = whole.get(name)
    known = [one.get("id") for one in present if isinstance(one, dict)] if isinstance(present, list) else []
    return all(item["id"] in known for item in items)


def _toml_with(entry: Entry, before: str) -> str:
    """A table at the end of the file: everything else keeps its very bytes."""
    try:
        whole = tomllib.loads(before)
    except tomllib.TOMLDecodeError as error:
        raise LeftAlone(f"{entry.file} is not TOML ({error})") from None
    parent: Any = whole
    for name in entry.path[:-1]:
        parent = parent.get(name, {})
        if not isinstance(parent, dict):
            raise LeftAlone(f"{entry.file} holds something else at {name}")
    present = parent.get(entry.path[-1])
    if present == entry.value:
        return before
    if present is not None:
        raise LeftAlone(f"{entry.file} has another [{'.'.join(entry.path)}] already")
    after = (before.rstrip("\n") + "\n\n" if before.strip() else "") + _toml_table(entry)
    expected = tomllib.loads(before)
    node = expected
    for name in entry.path[:-1]:
        node = node.setdefault(name, {})
    node[entry.path[-1]] = dict(entry.value)
    try:
        if tomllib.loads(after) == expected:
            return after
    except tomllib.TOMLDecodeError:
        pass
    raise LeftAlone(f"{entry.file} is written in a way that an appended table would not fit")


def _toml_table(entry: Entry) -> str:
    lines = [f"[{'.'.join(entry.path)}]"]
    for name, value in entry.value.items():
        match value:
            case dict():
                inner = ", ".join(f"{key} = {_toml_text(text)}" for key, text in value.items())
                lines.append(f"{name} = {{ {inner} }}")
            case list():
                lines.append(f"{name} = [{', '.join(_toml_text(text) for text in value)}]")
            case _:
                lines.append(f"{name} = {_toml_text(value)}")
    return "\n".join(lines) + "\n"


def _toml_text(text: str) -> str:
    # A JSON string is a TOML basic string, but for DEL, which no path holds.
    return json.dumps(text, ensure_ascii=False)
