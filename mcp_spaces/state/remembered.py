"""What every call asks of the database anew, answered from memory for as long as nothing was changed."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from mcp_spaces.state.database import Database

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

MOST = 1_024
"""Answers kept. Where there are more, all are forgotten: asking again is not dear, only slower."""


class Remembered(Generic[K, V]):
    """`ask`, remembered. An answer that was asked for after a change was acknowledged has that change in it: changes
    all go through `Database.write`, which counts before it acknowledges. Never change an answer in place."""

    def __init__(self, database: Database, ask: Callable[[K], V]) -> None:
        self._database = database
        self._ask = ask
        self._answers: dict[K, V] = {}
        self._changes = database.changes

    def __call__(self, question: K) -> V:
        """Raises whatever `ask` does; that is not remembered."""
        changes = self._database.changes
        if changes != self._changes or len(self._answers) >= MOST:
            self._answers.clear()
            self._changes = changes
        if question not in self._answers:
            self._answers[question] = self._ask(question)
        return self._answers[question]
