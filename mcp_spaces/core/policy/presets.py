"""Policies from the shipped presets, and from overrides of one."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from pydantic import BaseModel, ValidationError

from mcp_spaces.core.plain_words import sentence
from mcp_spaces.core.policy.model import Policy
from mcp_spaces.errors import InvalidInput
from mcp_spaces.resources import resource

PRESETS: Final = ("restrictive", "standard", "permissive")


@lru_cache(maxsize=len(PRESETS))
def load_preset(name: str) -> Policy:
    """Raises InvalidInput: no such preset."""
    return _validated(_preset_table(name))


def policy_from(preset: str, overrides: Mapping[str, object]) -> Policy:
    """A preset with a merge patch over it (RFC 7396): tables merge, lists are replaced, null gives the preset's value.

    Raises:
        InvalidInput: no such preset or key, or a value that does not fit; the message names the key.
    """
    if not overrides:
        return load_preset(preset)
    return _validated(_merged(_preset_table(preset), overrides))


def _preset_table(name: str) -> dict[str, object]:
    if name not in PRESETS:
        raise InvalidInput(f"There is no policy preset {name[:40]!r}.", hint=f"Presets: {', '.join(PRESETS)}.")
    return tomllib.loads(resource(f"policies/{name}.toml").read_text("utf-8"))


def _merged(base: Mapping[str, object], patch: Mapping[str, object]) -> dict[str, object]:
    merged = dict(base)
    for key, value in patch.items():
        if value is None:
            continue
        below = merged.get(key)
        if isinstance(value, Mapping):
            merged[key] = _merged(below if isinstance(below, Mapping) else {}, value)
        else:
            merged[key] = value
    return merged


def _validated(table: Mapping[str, object]) -> Policy:
    try:
        # Through JSON, so that lists are tuples and names are enum members, and nothing else is bent to fit.
        return Policy.model_validate_json(json.dumps(table))
    except ValidationError as problem:
        first = problem.errors(include_url=False, include_input=False, include_context=False)[0]
        said = sentence(first["loc"] or ("policy",), first["type"], first["msg"])
        is_unknown = first["type"] == "extra_forbidden"
        hint = f"Keys there: {_keys_beside(first['loc'])}." if is_unknown else "docs/policy.md lists every key."
        raise InvalidInput(f"Policy key {said}.", hint=hint) from None
    except (TypeError, ValueError, RecursionError) as problem:
        raise InvalidInput(
            "The policy holds a value that JSON has no form for.", hint="docs/policy.md lists every key."
        ) from problem


def _keys_beside(location: tuple[int | str, ...]) -> str:
    section: type[BaseModel] = Policy
    for part in location[:-1]:
        below = section.model_fields[str(part)].annotation
        if not (isinstance(below, type) and issubclass(below, BaseModel)):
            return "see docs/policy.md"
        section = below
    return ", ".join(section.model_fields)
