"""Takes secrets that were put into requests out of the answers: a seat belt, for servers that echo what they were sent.

Works on bytes as they come: what could be the beginning of a secret is held back until it is known, and nothing else,
so that streams of events are not held up.
"""

from __future__ import annotations

import re

from mcp_spaces.core.encodings import MINIMUM_LENGTH, forms
from mcp_spaces.network.head import Fields


class Scrubber:
    """The secrets that one runtime has used, in every form in which they travel. `count` is how often one was found."""

    def __init__(self) -> None:
        self.count = 0
        self._learnt: set[tuple[str, str]] = set()
        self._forms: dict[bytes, bytes] = {}
        self._pattern: re.Pattern[bytes] | None = None

    @property
    def idle(self) -> bool:
        return self._pattern is None

    def learn(self, value: str, *, name: str) -> None:
        """`value` and its encodings become `[redacted:name]`. Values of less than six characters are not learnt."""
        if len(value) < MINIMUM_LENGTH or (value, name) in self._learnt:
            return
        self._learnt.add((value, name))
        shown = f"[redacted:{name}]".encode()
        for form in forms(value):
            self._forms[form] = shown
        longest_first = sorted(self._forms, key=len, reverse=True)
        self._pattern = re.compile(b"|".join(map(re.escape, longest_first)))

    def stream(self, *, same_length: bool = False) -> Stream:
        """`same_length`: asterisks, where what is around a secret says how long it is (frames of a WebSocket)."""
        return Stream(self, same_length=same_length)

    def text(self, text: str) -> str:
        """Of a head: Latin-1."""
        stream = self.stream()
        content = text.encode("latin-1")
        return (stream.feed(content) + stream.end()).decode("latin-1")

    def fields(self, fields: Fields) -> Fields:
        # A name with a secret in it could only become one that is none.
        return [(name, self.text(value)) for name, value in fields if self.text(name) == name]

    def replaced(self, found: re.Match[bytes], *, same_length: bool) -> bytes:
        self.count += 1
        return b"*" * len(found[0]) if same_length else self._forms[found[0]]

    def matches(self, content: bytes) -> list[re.Match[bytes]]:
        # Looking for each form first is five times as fast as the expression, and most content holds none.
        if self._pattern is None or not any(form in content for form in self._forms):
            return []
        return list(self._pattern.finditer(content))

    def undecided(self, content: bytes) -> int:
        """Where the longest end of `content` begins that more bytes could make a secret of."""
        earliest = len(content)
        for form in self._forms:
            at = content.find(form[:1], max(0, len(content) - len(form) + 1), earliest)
            while at >= 0:
                if form.startswith(content[at:]):
                    earliest = at
                    break
                at = content.find(form[:1], at + 1, earliest)
        return earliest

    def cut_off(self, content: bytes) -> bytes | None:
        """What stands for a secret of which `content` is the first half or more."""
        found = (form for form in self._forms if form.startswith(content) and 2 * len(content) >= len(form))
        form = next(found, None)
        if form is None:
            return None
        self.count += 1
        return self._forms[form]


class Stream:
    """One answer on its way."""

    def __init__(self, scrubber: Scrubber, *, same_length: bool) -> None:
        self._scrubber = scrubber
        self._same_length = same_length
        self._held = b""

    def feed(self, piece: bytes) -> bytes:
        """What may go on."""
        content = self._held + piece
        return self._clean(content, self._scrubber.undecided(content))

    def end(self) -> bytes:
        """What was held back, once nothing follows. Half a secret or more counts as one: answers can be cut off."""
        clean = self._clean(self._held, len(self._held))
        cut = self._scrubber.cut_off(clean)
        return clean if cut is None else b"*" * len(clean) if self._same_length else cut

    def _clean(self, content: bytes, until: int) -> bytes:
        clean, at = bytearray(), 0
        for found in self._scrubber.matches(content):
            if found.start() >= until:
                break
            clean += content[at : found.start()]
            clean += self._scrubber.replaced(found, same_length=self._same_length)
            at = found.end()
        until = max(until, at)
        clean += content[at:until]
        self._held = content[until:]
        return bytes(clean)
