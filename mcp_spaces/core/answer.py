"""What operations answer with."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

ANSWER_CHARACTERS = 16_000
"""What the texts of one answer may hold: clients show 20,000 characters, names and numbers around them included."""
BASE64_BYTES = ANSWER_CHARACTERS // 4 * 3
"""What makes as many characters in base64."""


class Answer(BaseModel):
    """Output of an operation, or a part of one. The text below a field is its meaning in the reference."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
