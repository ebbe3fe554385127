"""Takes secrets that were put into requests out of the answers: a seat belt, for servers that echo what they were sent.

Works on bytes as they come: what could be the beginning of a secret is held back until it is known, and nothing else,
so that streams of events are not held up.
"""

from __future__ import annotations

from mcp_spaces.core.known import Span
from mcp_spaces.core.redaction import RedactedStream, Redactor
from mcp_spaces.network.head import Fields

CREDENTIALS_MAX = 32
"""Different Basic credentials of one runtime: the name beside the secret is chosen inside, as often as one likes."""
CREDENTIALS_BYTES_MAX = 4 * 1024
"""Of one of them, in base64."""


class Scrubber:
    """The secrets that one runtime has used, in every form in which they travel."""

    def __init__(self) -> None:
        self._redactor = Redactor()
        self._credentials: set[str] = set()

    def learn(self, value: str, *, name: str) -> None:
        """`value` and its encodings become `[redacted:name]`. Values of less than six characters are not learnt."""
        self._redactor.learn(value, name=name)

    def learn_credentials(self, encoded: str, *, name: str) -> bool:
        """Of Basic, in base64: with the ends that depend on what stands beside the secret. False, and nothing is
        learnt, where they are too long or too many."""
        if encoded not in self._credentials:
            if len(encoded) > CREDENTIALS_BYTES_MAX or len(self._credentials) >= CREDENTIALS_MAX:
                return False
            self._credentials.add(encoded)
            self.learn(encoded, name=name)
        return True

    def stream(self, *, same_length: bool = False) -> Stream:
        """`same_length`: asterisks, where what is around a secret says how long it is (frames of a WebSocket)."""
        return Stream(self._redactor, same_length=same_length)

    def text(self, text: str) -> str:
        """Of a head: Latin-1."""
        stream = self.stream()
        content = text.encode("latin-1")
        return (stream.feed(content) + stream.finish()).decode("latin-1")

    def fields(self, fields: Fields) -> Fields:
        # A name with a secret in it could only become one that is none.
        return [(name, self.text(value)) for name, value in fields if self.text(name) == name]


class Stream(RedactedStream):
    """One answer on its way."""

    def __init__(self, redactor: Redactor, *, same_length: bool) -> None:
        super().__init__(redactor)
        self._same_length = same_length

    def finish(self) -> bytes:
        """What was held back, once nothing follows. Half a secret or more counts as one: answers can be cut off."""
        clean = super().finish()
        cut = self._redactor.begun(clean)
        return clean if cut is None else self._shown(Span(0, len(clean), cut), 0)

    def _shown(self, span: Span, at: int) -> bytes:
        shown = super()._shown(span, at)
        return b"*" * (span.end - max(span.start, at)) if self._same_length else shown
