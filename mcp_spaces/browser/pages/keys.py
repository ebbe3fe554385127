"""Keys as agents write them, and as Playwright names them."""

from __future__ import annotations

import re

_NAMED = (
    "Enter Tab Escape Backspace Delete Insert Home End PageUp PageDown ArrowUp ArrowDown ArrowLeft ArrowRight Space "
    "F1 F2 F3 F4 F5 F6 F7 F8 F9 F10 F11 F12"
).split()
_SHORT = {"Esc": "Escape", "Return": "Enter", "Del": "Delete"}
KEYS = {name: name for name in _NAMED} | _SHORT | {" ": "Space"}
HELD = {one.lower(): one for one in ("Alt", "AltGraph", "Control", "ControlOrMeta", "Meta", "Shift")} | {
    "ctrl": "Control",
    "cmd": "Meta",
    "command": "Meta",
    "option": "Alt",
}
_IN_COMBINATION = {name.lower(): key for name, key in KEYS.items()}
_COMBINATION = re.compile(r"((?:[A-Za-z]+\+)+)([^+\s]+|\+)")


def key_of(text: str) -> str | None:
    """The key, or the keys held together, that a text names: `Enter`, `Control+A`, `ctrl+shift+k`, `Shift++`.

    None: it is text to type, such as `2+2`.
    """
    if text in KEYS:
        return KEYS[text]
    found = _COMBINATION.fullmatch(text)
    if found is None:
        return None
    held = [HELD.get(one.lower(), "") for one in found[1].removesuffix("+").split("+")]
    return "+".join([*held, _IN_COMBINATION.get(found[2].lower(), found[2])]) if all(held) else None
