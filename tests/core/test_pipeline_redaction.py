"""What a run learnt is in no answer, record, child's parent or log."""

from __future__ import annotations

import json

import pytest

from mcp_spaces.errors import Internal
from tests.core.bench import AGENT, Bench


async def test_l09_the_log_tells_of_a_bug_without_the_secrets_of_its_run(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(Internal) as caught:
        await bench.pipeline.call(AGENT, "thing.crash", {"text": "a secret of this run"})
    assert "a secret of this run" not in caplog.text
    assert "and '[redacted:prod/api]'" in caplog.text
    assert caught.value.reference in caplog.text and "in crash" in caplog.text


async def test_l21_how_much_was_redacted_is_in_the_record_and_in_the_audit_log(bench: Bench) -> None:
    bench.steering.secret = "guess-me"
    await bench.pipeline.call(AGENT, "thing.twice", {"text": "is it guess-me or guess-you?"})
    run = bench.database.read_one("SELECT id FROM runs WHERE operation = 'thing.twice'")
    assert run is not None
    events = [
        json.loads(row["body"])
        for row in bench.database.read("SELECT body FROM events WHERE run_id = ? AND type = 'redacted'", (run["id"],))
    ]
    (audited,) = bench.database.read("SELECT body FROM audit WHERE run_id = ? AND kind = 'outcome'", (run["id"],))
    assert events == [json.loads(audited["body"])["redacted"]]
    assert events[0]["prod/api"] >= 3


async def test_a_learnt_secret_leaves_neither_in_the_answer_nor_in_the_record(bench: Bench) -> None:
    bench.steering.secret = "correct-horse-battery"
    outcome = await bench.pipeline.call(AGENT, "thing.say", {"text": "it is correct-horse-battery!"})
    assert outcome.output.model_dump() == {"text": "it is [redacted:prod/api]!"}
    assert "correct-horse" not in bench.run(outcome.run_id)["outcome"]


async def test_redaction_may_leave_the_grammar_of_the_answer(bench: Bench) -> None:
    outcome = await bench.pipeline.call(AGENT, "thing.name", {"text": "hunterab"})
    assert outcome.output.model_dump() == {"name": "[redacted:prod/api]"}
    assert bench.run(outcome.run_id)["state"] == "succeeded"


async def test_what_a_child_learnt_is_kept_out_of_its_parent_s_record_too(bench: Bench) -> None:
    bench.steering.secret = "hunter2-hunter2"
    outcome = await bench.pipeline.call(AGENT, "thing.twice", {"text": "it is hunter2-hunter2"})
    assert outcome.output.model_dump() == {"text": "it is [redacted:prod/api]"}
    assert "hunter2-hunter2" not in bench.run(outcome.run_id)["outcome"]


async def test_our_own_keys_are_never_shown_or_stored(bench: Bench) -> None:
    token = "msp_" + "a" * 26 + "_" + "B" * 43
    outcome = await bench.pipeline.call(AGENT, "thing.say", {"text": f"key {token}"})
    assert token not in outcome.output.model_dump_json()
    assert token not in bench.run(outcome.run_id)["input"]
