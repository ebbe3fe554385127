"""From what somebody gave to a whole entry: which fields a kind has, and what it cannot be without."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from mcp_spaces.core.ids import new_id
from mcp_spaces.errors import InvalidInput
from mcp_spaces.vault.model import FIELDS, MAIN_FIELD, SECRET_CHARACTERS_MAX, SEED, Bindings, Entry, Kind
from mcp_spaces.vault.totp import parse_seed

BINDINGS = frozenset(Bindings.model_fields)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A secret as somebody gave it: everything of an entry but what the vault itself adds.

    `sets_seed`: a one-time seed is among what was given now, be it the one of before.
    """

    entry: Entry
    fields: Mapping[str, str] = field(repr=False)
    sets_seed: bool = False


def wanted_entry(
    path: str, kind: Kind, fields: Mapping[str, str], *, label: str | None, bindings: Bindings, now: float
) -> Wanted:
    """Raises InvalidInput, which names fields and never what they hold."""
    foreign = sorted(set(fields) - set(FIELDS[kind]))
    if foreign:
        raise InvalidInput(f"{kind} has no field {', '.join(foreign)}.", hint=f"Its fields: {', '.join(FIELDS[kind])}.")
    if not fields.get(MAIN_FIELD[kind]) and not (kind is Kind.LOGIN and fields.get(SEED)):
        raise InvalidInput(f"A {kind} needs its {MAIN_FIELD[kind]}.", hint="Give it, or choose another kind.")
    for name, text in fields.items():
        if len(text) > SECRET_CHARACTERS_MAX or not _is_text(text):
            raise InvalidInput(f"{name} is too long or no text.", hint=f"At most {SECRET_CHARACTERS_MAX:,} characters.")
    if SEED in fields:
        parse_seed(fields[SEED])
    entry = Entry(
        id=new_id("vs"),
        path=path,
        kind=kind,
        version=1,
        label=label or "",
        fields=tuple(name for name in FIELDS[kind] if name in fields),
        bindings=bindings,
        created_at=now,
        updated_at=now,
    )
    return Wanted(entry, fields, sets_seed=SEED in fields)


def amended(
    before: Entry,
    fields: Mapping[str, str],
    *,
    given: Mapping[str, str | None],
    metadata: Mapping[str, object],
    now: float,
) -> Wanted:
    """`before` with what was given over it: None clears. Raises InvalidInput."""
    merged = {name: text for name, text in {**fields, **given}.items() if text is not None}
    bindings = before.bindings.model_copy(update={name: metadata[name] or () for name in BINDINGS & metadata.keys()})
    label = metadata.get("label", before.label)
    wanted = wanted_entry(
        before.path,
        before.kind,
        merged,
        label=str(label) if label else None,
        bindings=Bindings.model_validate(bindings.model_dump()),
        now=now,
    )
    return replace(wanted, sets_seed=given.get(SEED) is not None)


def _is_text(text: str) -> bool:
    try:
        return bool(text.encode())
    except UnicodeEncodeError:
        return False
