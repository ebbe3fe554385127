"""One screen of a login: the fields that a secret may go into, why others may not, and which button sends them off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from mcp_spaces.browser.pages.page import OpenPage, SeenFrame
from mcp_spaces.browser.pages.reading import FRAMES_MAX, gone, parsed, read
from mcp_spaces.browser.pages.worlds import Place, Worlds
from mcp_spaces.errors import SpacesError, WrongState

if TYPE_CHECKING:
    from playwright.async_api import Frame

Kind = Literal["username", "password", "totp"]
KINDS: tuple[Kind, ...] = ("username", "password", "totp")
SMALLEST_PX = 8
FAINTEST = 0.1


@dataclass(frozen=True, slots=True)
class Document:
    """A frame's document as it was surveyed. `place` is None where no secret may be asked into it."""

    frame: Frame
    token: str
    place: Place | None
    submits: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Field:
    kind: Kind
    document: Document
    refs: tuple[str, ...]
    """More than one: the boxes of a code."""
    type: str
    form: str | None
    action: str | None
    obstacle: str | None
    """Why it must not be filled in, in words."""
    is_seen: bool
    """By people: it may be covered, read-only or disabled."""
    is_new: bool = False
    """For a password that is to be chosen."""

    def expected(self, name: str | None) -> dict[str, Any]:
        """What has to hold when the value goes in; resources/browser/page/filling.js checks it. `name`: what stands
        for the value in snapshots."""
        place = self.document.place
        return {
            "kind": self.kind,
            "refs": list(self.refs),
            "origin": "" if place is None else place.origin,
            "type": self.type,
            "form": self.form,
            "action": self.action,
            "name": name,
        }


@dataclass(frozen=True, slots=True)
class Screen:
    documents: tuple[Document, ...]
    fields: tuple[Field, ...]
    disabled: tuple[Field, ...] = ()

    def of(self, kind: Kind) -> list[Field]:
        """Those that may be filled in."""
        return [one for one in self.fields if one.kind == kind and one.obstacle is None and not one.is_new]

    def password(self) -> Field | None:
        """Raises WrongState where there are several, or it stands beside a new one (threat B12)."""
        found = only(self.of("password"))
        for one in self.fields:
            if found is not None and one.is_new and (one.document, one.form) == (found.document, found.form):
                raise WrongState(
                    "There are several password fields in this form: it changes a password, or it is no login.",
                    hint="If it is one, take a snapshot and name the field (refs).",
                )
        return found

    def obstacles(self, kind: Kind) -> list[str]:
        return [one.obstacle for one in self.fields if one.kind == kind and one.obstacle is not None]

    def shows(self, *kinds: Kind) -> bool:
        return any(self.of(kind) for kind in kinds)

    @property
    def asked(self) -> Field | None:
        """A password or a code that people are still asked for, whether it can be filled in now or not."""
        wanted = (one for one in (*self.fields, *self.disabled) if one.kind != "username" and not one.is_new)
        return next((one for one in wanted if one.is_seen), None)

    @property
    def signature(self) -> object:
        return [(one.document.token, one.refs, one.obstacle is None) for one in self.fields]

    def username_for(self, password: Field | None) -> Field | None:
        """The one beside the password, else the first."""
        found = self.of("username")
        if password is not None:
            found = [one for one in found if (one.document, one.form) == (password.document, password.form)]
        return found[0] if found else None

    def submit_for(self, field: Field) -> Mapping[str, Any] | None:
        """The form's own button first, then one that only says so; None: Enter."""
        found = [one for one in field.document.submits if one.get("form") == field.form]
        return next(iter(sorted(found, key=lambda one: not one.get("native"))), None)


async def survey(opened: OpenPage, worlds: Worlds) -> Screen:
    """The page's own word but for places. Raises SpacesError, OutOfReachError."""
    documents, fields, disabled = [], list[Field](), list[Field]()
    main = opened.page.main_frame
    for frame in [main, *(one for one in opened.page.frames if one is not main)][:FRAMES_MAX]:
        try:
            told = await read(frame, "fields")
        except SpacesError:
            if frame is main:
                raise
            continue
        token = str(told["document"])
        document = Document(frame, token, await worlds.place(token), told.get("submits") or ())
        documents.append(document)
        for one in told["fields"]:
            if one.get("kind") in KINDS:
                fields.append(_field(one["kind"], document, one))
            elif one.get("kind") == "new_password":
                fields.append(replace(_field("password", document, one), is_new=True))
        disabled += [_field(one["kind"], document, one) for one in told["disabled"] if one.get("kind") in KINDS]
    return Screen(tuple(documents), tuple(fields), tuple(disabled))


async def named(opened: OpenPage, worlds: Worlds, given: Mapping[Kind, str]) -> list[Field]:
    """Fields that the caller named by ref. Raises NotFound, WrongState (no field for it), OutOfReachError."""
    found = []
    for kind, ref in given.items():
        number, inner = parsed(ref)
        seen: SeenFrame | None = opened.seen.get(number)
        if seen is None or seen.frame.is_detached():
            raise gone(ref)
        told = await read(seen.frame, "check_field", ref=inner)
        if not told.get("connected") or told.get("document") != seen.document:
            raise gone(ref)
        if told.get("tag") != "input":
            raise WrongState(f"{ref} is no input field.", hint="Name fields of a login; no secret goes anywhere else.")
        surveyed = await read(seen.frame, "fields")
        document = Document(seen.frame, seen.document, await worlds.place(seen.document), surveyed.get("submits") or ())
        found.append(_field(kind, document, {**told, "boxes": _boxes(surveyed, inner)}))
    return found


def _boxes(surveyed: Mapping[str, Any], ref: str) -> list[str] | None:
    return next((one["boxes"] for one in surveyed["fields"] if one["boxes"] and ref in one["boxes"]), None)


def _field(kind: Kind, document: Document, told: Mapping[str, Any]) -> Field:
    return Field(
        kind=kind,
        document=document,
        refs=tuple(told.get("boxes") or (told["ref"],)),
        type=str(told.get("type")),
        form=told.get("form"),
        action=told.get("action"),
        obstacle=_obstacle(kind, document, told),
        is_seen=document.place is not None and _hidden(told) is None,
    )


def _obstacle(kind: Kind, document: Document, told: Mapping[str, Any]) -> str | None:
    """The same as filling.js looks at, so that a field that would be refused is not chosen."""
    before = {
        "it is in a frame of another origin": document.place is None,
        "it shows what is typed": kind == "password" and told.get("type") != "password",
    }
    after = {"something else covers it": not told.get("topmost"), READ_ONLY: not told.get("editable")}
    return _first(before) or _hidden(told) or _first(after)


def _hidden(told: Mapping[str, Any]) -> str | None:
    """Why people do not see it."""
    return _first(
        {
            "it is not visible": not told.get("visible") or told.get("opacity", 0) < FAINTEST,
            "it is too small to be seen": min(told.get("width", 0), told.get("height", 0)) < SMALLEST_PX,
            "it is out of sight": not told.get("in_viewport"),
        }
    )


def _first(reasons: Mapping[str, bool]) -> str | None:
    return next((words for words, holds in reasons.items() if holds), None)


READ_ONLY = "it cannot be edited"


def only(fields: Sequence[Field]) -> Field | None:
    """Raises WrongState where there are several: none of them is surely the right one (threat B12)."""
    if len(fields) > 1:
        raise WrongState(
            f"There are {len(fields)} {fields[0].kind} fields here.",
            hint="If this is a login, take a snapshot and name the field (refs).",
        )
    return fields[0] if fields else None


def origin_of(url: str) -> str | None:
    """Of an address as a browser resolved it; None for what leads nowhere over the network."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return None
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    usual = {"http": 80, "https": 443}[parts.scheme]
    return f"{parts.scheme}://{host}" if parts.port in (None, usual) else f"{parts.scheme}://{host}:{parts.port}"
