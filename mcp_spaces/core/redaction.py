"""Take known secrets out of whatever leaves the pipeline. A seat belt: the wall is that they never enter."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, RootModel, ValidationError
from pydantic_core import PydanticSerializationError, to_jsonable_python

from mcp_spaces.core.encodings import MINIMUM_LENGTH, encodings, forms, is_text
from mcp_spaces.core.known import Found, KnownForms, Span

__all__ = ["MINIMUM_LENGTH", "RedactedStream", "Redactor", "Untyped", "encodings", "redacted", "restored"]

# Our own keys are recognisable on purpose (threat T03).
_OWN_KEYS = re.compile(r"msp_[a-z2-7]{26}_[A-Za-z0-9_-]{43}")


class Redactor:
    """Learns the secrets used in one run and replaces every form of them."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        """How often each name was put in the place of its secret: guessing shows (threat L21)."""
        self._learnt: set[tuple[str, str]] = set()
        self._names: dict[bytes, str] = {}
        self._in_bytes: KnownForms | None = None
        self._in_text: KnownForms | None = None

    def learn(self, value: str, *, name: str) -> None:
        """From now on `value` and its encodings appear as `[redacted:name]`. Too short a value is not learnt."""
        # To know more is to make the automaton anew.
        if len(value) < MINIMUM_LENGTH or (value, name) in self._learnt:
            return
        self._learnt.add((value, name))
        self._names.update(dict.fromkeys(forms(value), name))
        self._in_bytes = self._in_text = None

    def text(self, text: str) -> str:
        if "msp_" in text:
            text = _OWN_KEYS.sub("[redacted:key]", text)
        if self.idle or len(text) < MINIMUM_LENGTH:
            return text
        content = text.encode("utf-8", "surrogatepass")
        # A form that is no text could begin in the middle of a character.
        self._in_text = self._in_text or KnownForms({form: name for form, name in self._names.items() if is_text(form)})
        found = self._in_text.find(content)
        if not found.spans:
            return text
        return self.replaced(content, found).decode("utf-8", "surrogatepass")

    def value(self, value: Any) -> Any:
        """The same JSON value with every string redacted, names of members included."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.text(str(key)): self.value(item) for key, item in value.items()}
        if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
            return [self.value(item) for item in value]
        return value

    def stream(self) -> RedactedStream:
        """For bytes that come in pieces. What is learnt later counts for the bytes that come later."""
        return RedactedStream(self)

    @property
    def idle(self) -> bool:
        """Whether nothing was learnt, so that only our own keys have to be looked for."""
        return not self._names

    def find(self, content: bytes) -> Found:
        return Found([], len(content)) if self.idle else self._all_forms().find(content)

    def begun(self, content: bytes) -> str | None:
        """The name of a secret that `content` is half of or more, from its beginning."""
        return None if self.idle else self._all_forms().begun(content)

    def replaced(self, content: bytes, found: Found) -> bytes:
        parts, at = [], 0
        for span in found.spans:
            parts += [content[at : span.start], self.mark(span.name)]
            at = span.end
        parts.append(content[at:])
        return b"".join(parts)

    def mark(self, name: str) -> bytes:
        """What stands for a secret; counted."""
        self.counts[name] += 1
        return f"[redacted:{name}]".encode()

    def _all_forms(self) -> KnownForms:
        self._in_bytes = self._in_bytes or KnownForms(self._names)
        return self._in_bytes


class RedactedStream:
    """Redacts bytes as they pass. However they are cut into pieces, the same comes out.

    Only the beginning of a form at the end of what came is held back, for as long as it can still become one: less
    than the longest form (4 KiB at most). So a prompt is shown at once, unless it ends like a secret begins.
    """

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._held = b""
        self._covered = 0
        """Bytes at the start of `_held` that belong to a secret whose mark is out already."""

    def feed(self, content: bytes) -> bytes:
        """What may go on of all that came so far."""
        if self._redactor.idle and not self._held:
            return content
        return self._passed(self._held + content, over=False)

    def finish(self) -> bytes:
        """The rest: nothing comes any more. The stream may be used again."""
        return self._passed(self._held, over=True) if self._held else b""

    @property
    def held_bytes(self) -> int:
        return len(self._held)

    def _passed(self, content: bytes, *, over: bool) -> bytes:
        found = self._redactor.find(content)
        cut = len(content) if over else found.begun_at
        parts, at = [], self._covered
        for span in found.spans:
            if span.start >= cut:
                break
            parts += [content[at : span.start], self._shown(span, at)]
            at = max(at, span.end)
        parts.append(content[at:cut])
        self._held, self._covered = content[cut:], max(at - cut, 0)
        return b"".join(parts)

    def _shown(self, span: Span, at: int) -> bytes:
        """What stands for a secret; nothing where it overlaps one whose mark is out, that ends `at`."""
        return self._redactor.mark(span.name) if span.start >= at else b""


class Untyped(RootModel[Any]):
    """An answer that redaction took out of its model's grammar."""


def restored(model: type[BaseModel], clean: str) -> BaseModel:
    """An answer from its JSON. What stands for a secret may not fit where the secret did; the answer is as good
    without its type."""
    try:
        return model.model_validate_json(clean)
    except ValidationError:
        return Untyped.model_validate_json(clean)


def without(redactors: Iterable[Redactor], value: Any) -> Any:
    """The same JSON value without what any of them knows."""
    for redactor in redactors:
        value = redactor.value(value)
    return value


def redacted(output: BaseModel, redactor: Redactor) -> BaseModel:
    """An answer without what the redactor knows. Most hold nothing of it and are passed on as they are.

    Half a surrogate pair, as pages make one by cutting a text within an emoji, becomes a question mark: it has no
    UTF-8, and so no JSON.
    """
    try:
        if redactor.idle and "msp_" not in output.model_dump_json():
            return output
        dumped = output.model_dump(mode="json")
        json.dumps(dumped, ensure_ascii=False).encode()
    except (PydanticSerializationError, UnicodeEncodeError):
        dumped = to_jsonable_python(_whole_characters(output.model_dump()))
    redone = restored(type(output), json.dumps(redactor.value(dumped)))
    if isinstance(redone, Untyped):
        return redone
    # What is no text, such as a picture, is not among what was dumped.
    unseen = {name: getattr(output, name) for name, field in type(output).model_fields.items() if field.exclude}
    return redone.model_copy(update=unseen) if unseen else redone


def _whole_characters(value: Any) -> Any:
    match value:
        case str():
            return value.encode("utf-8", "replace").decode()
        case dict():
            return {_whole_characters(name): _whole_characters(one) for name, one in value.items()}
        case list() | tuple():
            return [_whole_characters(one) for one in value]
        case _:
            return value
