"""What is wrong with an input is said in words that a caller can act on: none of Python's types, nothing twice."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest
from pydantic import ValidationError

from mcp_spaces.catalogue import CATALOGUE
from mcp_spaces.core.invalid_input import explain_validation
from mcp_spaces.core.plain_words import LOOKED_AT_MAX

OPERATIONS = {one.id: one for one in CATALOGUE}


@pytest.mark.parametrize(
    ("operation_id", "arguments", "told"),
    [
        ("space.create", {"name": "a", "policy": "permissive"}, "policy has to be an object"),
        ("sandbox.edit_file", {"path": "a", "edits": '[{"old": "1"}]'}, "edits has to be a list"),
        ("sandbox.edit_file", {"path": "a", "edits": []}, "edits: should have at least 1 item"),
        (
            "sandbox.edit_file",
            {"path": "a", "edits": [{"old": "", "new": "x"}]},
            "edits.0.old: String should have at least 1 character",
        ),
        (
            "browser.fill",
            {"fields": {"e2": ["a"]}},
            "fields.e2: give text, or true or false (browser_select chooses several)",
        ),
        (
            "browser.fill",
            {"fields": {"e2": "{{vault:prod/x}}"}},
            "fields.e2: a secret is filled in by browser_login, never typed",
        ),
        ("browser.fill", {"fields": {"e2": "a" * 100_001}}, "fields.e2: that is more than 100,000 characters"),
        ("space.create", {"name": "a", "mounts": {"storage": [{}]}}, "mounts.storage.0.namespace is missing"),
        ("space.create", {"name": "a", "mounts": {"storage": {}}}, "mounts.storage.namespace is missing"),
        ("space.create", {"name": "a", "mounts": {"storage": "x"}}, "mounts.storage has to be an object"),
        ("sandbox.shell", {"cmd": "ls"}, "command is missing; cmd is unknown"),
        # So many are not gone through, one by one, while others wait.
        ("run.get", {"run": "x", **{f"k{n}": 1 for n in range(LOOKED_AT_MAX + 1)}}, "1,001 things in it do not fit"),
        (
            "principal.add",
            {"name": "Ann O'Hara"},
            "name has to be 1 to 63 of a-z, 0-9 and -, beginning with a letter or digit",
        ),
        (
            "vault.set",
            {"path": "prod/crm", "value": "v", "origins": ["https://crm.example.com/"]},
            "origins.0 has to be an origin such as https://api.example.com or https://example.com:8443, in small letters, "
            "without a path or a slash at its end; http is for this machine (localhost, 127.0.0.1) and for sandboxes "
            "only",
        ),
    ],
    ids=count(),
)
def test_what_is_wrong_is_one_plain_sentence(operation_id: str, arguments: dict[str, Any], told: str) -> None:
    operation = OPERATIONS[operation_id]
    with pytest.raises(ValidationError) as caught:
        operation.input.model_validate(arguments)
    assert explain_validation(operation, caught.value).message == f"{operation_id}: {told}."


def test_an_argument_of_another_shape_is_told_by_an_example() -> None:
    operation = OPERATIONS["browser.fill"]
    with pytest.raises(ValidationError) as caught:
        operation.input.model_validate({"fields": [{"ref": "e3", "value": "Ann"}]})
    assert explain_validation(operation, caught.value).hint.endswith('For example fields={"e3": "Ann"}')


@pytest.mark.parametrize(
    ("operation_id", "arguments", "hint"),
    [
        ("space.create", {"nme": "a"}, "Arguments: name, "),
        ("space.create", {"name": "a", "mounts": {"netwrk": {}}}, "In mounts: storage?, vault?, "),
        ("space.create", {"name": "a", "mounts": {"network": {"hosts": []}}}, "In mounts.network: mode?, allow?, "),
        ("sandbox.edit_file", {"path": "a", "edits": [{"old": "x"}]}, "In edits.0: old, new"),
        (
            "space.create",
            {"name": "a", "mounts": {"storage": [{"name": "x"}]}},
            "In mounts.storage.0: namespace, mode?, ",
        ),
        ("space.create", {"name": "a", "mounts": {"storage": {"name": "x"}}}, "In mounts.storage: namespace, mode?, "),
        ("space.create", {"name": "a", "policy": "permissive"}, "In policy: preset?, overrides?"),
        # Which of the forms was meant, nobody knows.
        ("browser.fill", {"fields": {"e2": {"text": "Ann"}}}, "Arguments: "),
    ],
    ids=count(),
)
def test_the_names_that_there_are_are_those_of_the_place(
    operation_id: str, arguments: dict[str, Any], hint: str
) -> None:
    operation = OPERATIONS[operation_id]
    with pytest.raises(ValidationError) as caught:
        operation.input.model_validate(arguments)
    assert explain_validation(operation, caught.value).hint.startswith(hint)


@pytest.mark.parametrize(
    ("operation_id", "name"),
    [
        (one.id, name)
        for one in CATALOGUE
        for name, schema in one.input.model_json_schema()["properties"].items()
        if "'pattern'" in str(schema)
    ],
)
def test_no_pattern_is_told_to_those_who_write_something_else(operation_id: str, name: str) -> None:
    operation = OPERATIONS[operation_id]
    with pytest.raises(ValidationError) as caught:
        operation.input.model_validate({name: "\n?"})
    assert "match pattern" not in explain_validation(operation, caught.value).message
