"""An answer without the secrets of its run: of its own type where that still fits, with what is no text untouched."""

from __future__ import annotations

from pydantic import BaseModel, Field

from mcp_spaces.core.redaction import Redactor, Untyped, redacted

KEY = f"msp_{'a' * 26}_{'B' * 43}"


class Shown(BaseModel):
    text: str
    picture: bytes = Field(default=b"", exclude=True)


class Named(BaseModel):
    name: str = Field(max_length=16)


def knowing(value: str) -> Redactor:
    redactor = Redactor()
    redactor.learn(value, name="prod/api")
    return redactor


def test_a_picture_stays_with_an_answer_whose_text_is_redacted() -> None:
    clean = redacted(Shown(text="hunter2000!", picture=b"hunter2000 as pixels"), knowing("hunter2000"))
    assert clean == Shown(text="[redacted:prod/api]!", picture=b"hunter2000 as pixels")


def test_an_answer_keeps_its_type_where_it_can_and_is_as_good_without() -> None:
    assert redacted(Named(name="hunter2000"), knowing("2000hunter")) == Named(name="hunter2000")
    assert redacted(Named(name="hunter2000"), knowing("hunter2000")) == Untyped({"name": "[redacted:prod/api]"})


def test_our_own_keys_are_taken_out_where_nothing_was_learnt_and_the_rest_is_the_same_object() -> None:
    plain = Shown(text="nothing to hide")
    assert redacted(plain, Redactor()) is plain
    assert redacted(Shown(text=KEY), Redactor()) == Shown(text="[redacted:key]")
