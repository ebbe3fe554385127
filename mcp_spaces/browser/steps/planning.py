"""Steps as they come in, understood before any of them is done."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from mcp_spaces.browser.secrets.secret_rules import no_reference
from mcp_spaces.browser.steps.arguments import parsed
from mcp_spaces.browser.steps.method import Method
from mcp_spaces.browser.steps.model import Step
from mcp_spaces.browser.steps.step import method_of
from mcp_spaces.errors import InvalidInput, SpacesError


@dataclass(frozen=True, slots=True)
class Planned:
    """A step that is understood, or why not."""

    call: str
    step: Step | None
    method: Method | None
    problem: InvalidInput | None = None


def plan(raw: Sequence[object]) -> list[Planned]:
    """Never raises: what is wrong with one step concerns that one."""
    return [_planned(one) for one in raw]


def _planned(one: object) -> Planned:
    call = str(one.get("call", ""))[:60] if isinstance(one, Mapping) else ""
    try:
        step = Step.model_validate(one)
        no_reference(json.dumps(one, ensure_ascii=False))
        method = method_of(step.call)
        parsed(method, step.args)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        problem = InvalidInput(f"{where[:60]}: {first['msg']}", hint="A step is {call, ref, args, bind, options}.")
    except ValueError as error:
        problem = InvalidInput(str(error), hint="browser_login signs in with a secret of the vault.")
    except SpacesError as error:
        problem = InvalidInput(error.message, hint=error.hint)
    else:
        return Planned(call, step, method)
    return Planned(call, None, None, problem)
