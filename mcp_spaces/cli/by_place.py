"""Words of a command line: each has a flag, too, and those that come without one fill the places that are left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from typer.core import TyperCommand

FLAG = "_by_flag"
"""Behind a place's name: the option that stands for it."""


class ByPlace(TyperCommand):
    def make_parser(self, ctx: Any) -> Any:
        places = [one.name for one in self.params if one.param_type_name == "argument" and one.name]
        parser = super().make_parser(ctx)
        parse = parser.parse_args

        def parse_args(args: list[str]) -> Any:
            given, rest, order = parse(args)
            return given, fill(places, given, rest), order

        parser.parse_args = parse_args  # type: ignore[method-assign]
        return parser


def fill(places: Sequence[str], given: dict[str, Any], rest: list[str]) -> list[str]:
    """Put what came by flag and what came by place where it belongs; returns the words that have no place."""
    words = [word for name in places if isinstance(word := given.pop(name, None), str)]
    given |= {name: word for name in places if isinstance(word := given.pop(name + FLAG, None), str)}
    left = [name for name in places if name not in given]
    given |= dict(zip(left, words, strict=False))
    return words[len(left) :] + rest
