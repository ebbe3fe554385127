"""How a text has to be written, in words: a pattern is what a program checks, and nothing that a person reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

SPELLING = "spelling"


@dataclass(frozen=True, slots=True)
class Spelled:
    """Beside the pattern of an `Annotated` text: whatever does not fit is answered with `words`, which go on after the
    argument's name: "origins.0 has to be …". The schema that clients see stays the pattern's."""

    words: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.custom_error_schema(
            handler(source), custom_error_type=SPELLING, custom_error_message=self.words
        )


NAME = Spelled("1 to 63 of a-z, 0-9 and -, beginning with a letter or digit")
"""Of spaces, principals and profiles."""
