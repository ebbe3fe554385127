"""What a shell script consists of, as far as policy asks: commands, assignments, redirections."""

from __future__ import annotations

from dataclasses import dataclass

from mcp_spaces.core.policy.shell.words import Word


@dataclass(frozen=True, slots=True)
class Assignment:
    """`name_known`: otherwise the name only begins so, and the rest is known when it runs."""

    name: str
    value: Word
    name_known: bool = True


@dataclass(frozen=True, slots=True)
class Command:
    """A program, builtin or function with its arguments. `words[0]` is its name.

    `is_function`: the script itself defines the name before this place, so the body is what counts.
    `trusted_name`: the project's own tool runner resolves the name, so that an allow-list does not apply to it.
    `over_output`: it stands in a loop over names that only a program's output tells.
    """

    words: tuple[Word, ...]
    assignments: tuple[Assignment, ...] = ()
    is_function: bool = False
    trusted_name: bool = False
    over_output: bool = False

    @property
    def name(self) -> str:
        return self.words[0].text

    def __str__(self) -> str:
        return " ".join(word.text if word.literal else f"{word.text}…" for word in self.words)[:120]


@dataclass(frozen=True, slots=True)
class Redirection:
    target: Word


@dataclass(frozen=True, slots=True)
class Script:
    """`declarations`: `export`, `unset` and the like by their plain names; how they are called otherwise, they are
    commands. `evaluated` holds quoted texts at places where bash evaluates text a second time."""

    commands: tuple[Command, ...]
    assignments: tuple[Assignment, ...]
    declarations: tuple[Command, ...]
    redirections: tuple[Redirection, ...]
    evaluated: tuple[str, ...]
