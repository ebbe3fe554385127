"""Resource URIs, parsed once into what they name. Anything but the exact grammar names nothing (threat T11).

    space://{space}/context                                 ?topic=…&detail=compact|full
    space://{space}/runtimes/{runtime}/context              the same
    run://{run}
    storage://{namespace}/{+path}

No case folding, no dot segments, no empty segments, no user, port or fragment. Only a storage path may hold
percent-encoding, and only the one way in which it is written canonically: so nothing can be encoded twice, or
spelled in two ways.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote

URI_CHARACTERS_MAX = 2_048
PATH_SAFE = "/-._~!$&'()*+,;=:@"

_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}"
_QUERY = r"(?:\?(?P<query>[a-z]+=[a-z._-]+(?:&[a-z]+=[a-z._-]+)?))?"
_CONTEXT = re.compile(rf"space://(?P<space>{_NAME})(?:/runtimes/(?P<runtime>{_NAME}))?/context{_QUERY}")
_RUN = re.compile(r"run://(?P<run>[a-z]{2,4}_[a-z2-7]{26})")
_STORAGE = re.compile(rf"storage://(?P<namespace>{_NAME})/(?P<path>[^?#]+)")
_PARAMETERS = frozenset({"topic", "detail"})


@dataclass(frozen=True, slots=True)
class ContextUri:
    space: str
    runtime: str | None = None
    topic: str | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class RunUri:
    run: str


@dataclass(frozen=True, slots=True)
class StorageUri:
    namespace: str
    path: str


def parse(uri: str) -> ContextUri | RunUri | StorageUri | None:
    """What a URI names, or None."""
    if len(uri) > URI_CHARACTERS_MAX:
        return None
    if found := _CONTEXT.fullmatch(uri):
        return _context(found)
    if found := _RUN.fullmatch(uri):
        return RunUri(found["run"])
    if found := _STORAGE.fullmatch(uri):
        return _storage(found)
    return None


def _context(found: re.Match[str]) -> ContextUri | None:
    pairs = [pair.split("=") for pair in found["query"].split("&")] if found["query"] else []
    chosen = dict(pairs)
    if len(chosen) != len(pairs) or not chosen.keys() <= _PARAMETERS:
        return None
    return ContextUri(found["space"], found["runtime"], chosen.get("topic"), chosen.get("detail"))


def _storage(found: re.Match[str]) -> StorageUri | None:
    path = unquote(found["path"], errors="surrogateescape")
    if not path.isprintable() or quote(path, safe=PATH_SAFE) != found["path"]:
        return None
    if any(segment in ("", ".", "..") for segment in path.split("/")):
        return None
    return StorageUri(found["namespace"], path)
