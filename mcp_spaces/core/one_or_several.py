"""An argument that is one thing or a list of such, and what is wrong with it told as of the one that was given."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, TypeVar

from pydantic import BaseModel, Discriminator, Tag

M = TypeVar("M", bound=BaseModel)

ONE, SEVERAL = "", " "
"""Of no length to whoever reads them: pydantic puts them into a finding's place, where no such name was written."""


def _form(given: object) -> str:
    return SEVERAL if isinstance(given, list | tuple) else ONE


OneOrSeveral = Annotated[Annotated[tuple[M, ...], Tag(SEVERAL)] | Annotated[M, Tag(ONE)], Discriminator(_form)]


def written(location: Iterable[int | str]) -> tuple[int | str, ...]:
    """The parts of a finding's place that stand in the input."""
    return tuple(part for part in location if part not in (ONE, SEVERAL))
