"""Half a surrogate pair, as pages make one by cutting a text within an emoji, does not spoil the answer it stands in."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from mcp_spaces.core.redaction import Redactor, redacted

SECRET = "correct horse battery"


class Shown(BaseModel):
    title: str
    lines: tuple[str, ...] = ()
    anything: Any = None


@pytest.mark.parametrize("learnt", [False, True])
def test_half_a_character_becomes_a_question_mark_wherever_it_stands(learnt: bool) -> None:
    redactor = Redactor()
    if learnt:
        redactor.learn(SECRET, name="prod/a")
    halves = Shown(title="cut \ud83d", lines=("\udc00", "whole \U0001f600"), anything=[{"\ud83d": 1.5, "a": None}])
    assert redacted(halves, redactor) == Shown(
        title="cut ?", lines=("?", "whole \U0001f600"), anything=[{"?": 1.5, "a": None}]
    )


def test_a_secret_beside_half_a_character_is_taken_out_all_the_same() -> None:
    redactor = Redactor()
    redactor.learn(SECRET, name="prod/a")
    for text in (f"\ud83d{SECRET}\udc00", f"{SECRET}\ud83d"):
        for shown in (Shown(title=text), Shown(title="", anything={text: [text]})):
            assert SECRET not in repr(redacted(shown, redactor))


def test_an_answer_without_any_is_passed_on_as_it_is() -> None:
    shown = Shown(title="whole \U0001f600")
    assert redacted(shown, Redactor()) is shown
