"""Take known secrets out of whatever leaves the pipeline. A seat belt: the wall is that they never enter."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, quote_plus

from pydantic import BaseModel, RootModel, ValidationError

# Our own keys are recognisable on purpose (threat T03).
_OWN_KEYS = re.compile(r"msp_[a-z2-7]{26}_[A-Za-z0-9_-]{43}")
MINIMUM_LENGTH = 6
"""Shorter values would eat ordinary words (threat V22)."""


class Redactor:
    """Learns the secrets used in one run and replaces every form of them."""

    def __init__(self) -> None:
        self._forms: dict[str, str] = {}
        self._pattern: re.Pattern[str] | None = None

    def learn(self, value: str, *, name: str) -> None:
        """From now on `value` and its encodings appear as `[redacted:name]`."""
        if len(value) < MINIMUM_LENGTH:
            return
        for form in encodings(value):
            self._forms[form] = f"[redacted:{name}]"
        longest_first = sorted(self._forms, key=len, reverse=True)
        self._pattern = re.compile("|".join(re.escape(form) for form in longest_first))

    def text(self, text: str) -> str:
        if "msp_" in text:
            text = _OWN_KEYS.sub("[redacted:key]", text)
        if self._pattern is None:
            return text
        return self._pattern.sub(lambda match: self._forms[match.group()], text)

    def value(self, value: Any) -> Any:
        """The same JSON value with every string redacted, names of members included."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.text(str(key)): self.value(item) for key, item in value.items()}
        if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
            return [self.value(item) for item in value]
        return value

    @property
    def idle(self) -> bool:
        """Whether nothing was learnt, so that only our own keys have to be looked for."""
        return self._pattern is None


class Untyped(RootModel[Any]):
    """An answer that redaction took out of its model's grammar."""


def redacted(output: BaseModel, redactor: Redactor) -> BaseModel:
    """An answer without what the redactor knows. Most hold nothing of it and are passed on as they are."""
    if redactor.idle and "msp_" not in output.model_dump_json():
        return output
    clean = redactor.value(output.model_dump(mode="json"))
    try:
        redone = type(output).model_validate_json(json.dumps(clean))
    except ValidationError:
        # What stands for a secret may not fit where the secret did; the answer is as good without its type.
        return Untyped(clean)
    # What is no text, such as a picture, is not among what was dumped.
    unseen = {name: getattr(output, name) for name, field in type(output).model_fields.items() if field.exclude}
    return redone.model_copy(update=unseen) if unseen else redone


def encodings(value: str) -> set[str]:
    """The forms in which a value travels: raw, JSON, URL, HTML, hex, and base64 at all three alignments."""
    raw = value.encode("utf-8", "surrogatepass")
    forms = {value, json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1], raw.hex(), raw.hex().upper()}
    forms |= {quote(value, safe="", errors="surrogatepass"), quote_plus(value, errors="surrogatepass")}
    forms.add(value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;"))
    for encoded in (base64.b64encode, base64.urlsafe_b64encode):
        for shift in range(3):
            # The first and last characters of a shifted form depend on its neighbours: only the core is ours.
            text = encoded(b"\0" * shift + raw).decode().rstrip("=")
            start = (shift * 8 + 5) // 6
            forms.add(text[start : (shift + len(raw)) * 8 // 6])
    return {form for form in forms if len(form) >= MINIMUM_LENGTH}
