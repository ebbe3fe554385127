"""What is written into fields: by their kind, by options, key by key."""

from __future__ import annotations

import re

import pytest

from mcp_spaces.errors import InvalidInput, WrongState
from tests.browser.operations.tabs import HOST, Tab


@pytest.mark.parametrize(
    ("kind", "bad", "good"),
    [
        ("date", "31.03.2026", "2026-03-31"),
        ("date", "2026-02-31", "2026-02-28"),
        ("time", "1 pm", "13:00"),
        ("week", "14", "2026-W14"),
        ("color", "red", "#ff0000"),
        ("range", "loud", "7"),
        ("number", "abc", "7"),
    ],
)
async def test_what_a_field_cannot_hold_is_refused_with_an_example_and_empties_nothing(
    tab: Tab, kind: str, bad: str, good: str
) -> None:
    tab.site.made["formed"] = f"<input type={kind} aria-label=Field>"
    (ref,) = re.findall(r" (e\d+)", (await tab.call("navigate", url=f"{HOST}/formed")).changes)
    await tab.call("fill", fields={ref: good})
    error = await tab.refused("fill", InvalidInput, fields={ref: bad})
    assert error.hint.startswith("Write it as ")
    assert f'value="{good}"' in (await tab.call("snapshot")).snapshot
    await tab.call("fill", fields={ref: error.hint.removeprefix("Write it as ").removesuffix(".")})


async def test_a_fill_that_breaks_off_says_what_it_has_done(tab: Tab) -> None:
    tab.site.made["three"] = "<input aria-label=Name><input type=date><input type=checkbox aria-label=Gift>"
    name, date, gift = re.findall(r" (e\d+)", (await tab.call("navigate", url=f"{HOST}/three")).changes)
    error = await tab.refused("fill", InvalidInput, fields={name: "Ann", date: "soon", gift: True})
    assert error.message.startswith(f"fill {date}: ") and error.hint.endswith(f" Filled in already: {name}.")
    shown = (await tab.call("snapshot")).snapshot
    assert 'value="Ann"' in shown and " checked" not in shown
    assert "already" not in (await tab.refused("fill", InvalidInput, fields={date: "soon"})).hint


async def test_a_number_is_filled_in_as_it_is_written(tab: Tab) -> None:
    tab.site.made["count"] = "<input type=number aria-label=Count step=any>"
    (ref,) = re.findall(r" (e\d+)", (await tab.call("navigate", url=f"{HOST}/count")).changes)
    for number in (7, 2.5):
        assert f'value="{number}"' in (await tab.call("fill", fields={ref: number})).changes


async def test_why_a_form_is_not_sent_is_told_at_the_field(tab: Tab) -> None:
    tab.site.made["strict"] = (
        "<form><input type=number aria-label=Count max=9><input type=password aria-label=Secret minlength=8></form>"
    )
    _, count, secret = re.findall(r" (e\d+)", (await tab.call("navigate", url=f"{HOST}/strict")).changes)
    told = (await tab.call("fill", fields={secret: "abc", count: "12"}, submit=True)).changes
    assert f'{count} invalid="Value must be less than or equal to 9."' in told
    assert f"{secret} invalid [filled]" in told


async def test_an_option_that_is_not_there_is_told_as_that(tab: Tab) -> None:
    refs = await tab.shop()
    for operation, given in (
        ("fill", {"fields": {refs["Colour"]: "green"}}),
        ("select", {"ref": refs["Colour"], "options": ["green"]}),
    ):
        error = await tab.refused(operation, WrongState, timeout_s=2, **given)
        assert "no such option" in error.message
    assert "true or false" in (await tab.refused("fill", WrongState, fields={refs["As a gift"]: "yes"})).hint
    assert "browser_upload" in (await tab.refused("fill", WrongState, fields={refs["File"]: "a.txt"})).hint


async def test_keys_are_understood_as_people_write_them(tab: Tab) -> None:
    tab.site.made["keys"] = (
        "<input aria-label=text><ol id=seen></ol><script>addEventListener('keydown', event => {"
        "const held = ['ctrl', 'alt', 'shift', 'meta'].filter(one => event[one + 'Key']);"
        "seen.innerHTML += '<li>' + [...held, event.key].join('-')})</script>"
    )
    (ref,) = re.findall(r" (e\d+)", (await tab.call("navigate", url=f"{HOST}/keys")).changes)
    for keys, last in (
        ("Ctrl+k", "ctrl-k"),
        ("Control+K", "ctrl-k"),
        ("ctrl+shift+k", "ctrl-shift-K"),
        ("ctrl+shift+enter", "ctrl-shift-Enter"),
        ("Cmd+ArrowLeft", "meta-ArrowLeft"),
    ):
        assert f'"{last}"' in (await tab.call("press", ref=ref, keys=keys)).changes
    for keys, last in (("Esc", "Escape"), ("Return", "Enter")):
        assert f'"{last}"' in (await tab.call("press", keys=keys)).changes
    assert "value=" not in (await tab.call("snapshot")).snapshot
    await tab.call("press", ref=ref, keys="a+b+c")
    assert 'value="a+b+c"' in (await tab.call("snapshot")).snapshot


async def test_text_with_a_plus_is_typed_and_keys_that_are_held_are_pressed(tab: Tab) -> None:
    tab.site.made["types"] = "<input aria-label=sum>"
    ref = re.findall(r" (e\d+)", (await tab.call("navigate", url=f"{HOST}/types")).changes)[0]
    await tab.call("press", ref=ref, keys="2+2")
    assert 'value="2+2"' in (await tab.call("snapshot")).snapshot
    await tab.call("press", ref=ref, keys="Control+A")
    await tab.call("press", keys="Shift++")
    assert 'value="+"' in (await tab.call("snapshot")).snapshot
