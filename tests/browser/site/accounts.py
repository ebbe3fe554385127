"""Who may log in at the site: passwords, one-time codes after RFC 6238, sessions, and a lock after five failures."""

from __future__ import annotations

import base64
import secrets
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.twofactor.totp import TOTP

FAILURES_MAX = 5


@dataclass(frozen=True, slots=True)
class Person:
    """`key`: the seed of the one-time codes, six digits, SHA-1. 80 bits are accepted, as sites hand them out."""

    name: str
    password: str = field(repr=False)
    key: bytes = field(repr=False)
    period_s: int = 30

    @classmethod
    def new(cls, name: str = "ada") -> Person:
        return cls(name, f"canary-{secrets.token_hex(12)}", secrets.token_bytes(20))

    @property
    def seed(self) -> str:
        """The seed in base32, as a person would copy it."""
        return base64.b32encode(self.key).decode()

    @property
    def address(self) -> str:
        return f"otpauth://totp/app.test:{self.name}?secret={self.seed}&issuer=app.test&period={self.period_s}"

    def code(self, step: int) -> str:
        # Not the product's own lines: a mistake there must not cancel out here.
        codes = TOTP(self.key, 6, hashes.SHA1(), self.period_s, enforce_key_length=False)
        return codes.generate(step * self.period_s).decode()


class Verdict(StrEnum):
    """The words that a page shows."""

    OK = ""
    WRONG = "Wrong user name or password."
    WRONG_CODE = "That code is not right."
    USED_CODE = "That code has expired. Wait for the next one."
    LOCKED = "This account is locked after too many attempts."
    NOBODY = "Begin again with your user name and password."


class CodeRule(StrEnum):
    STRICT = "strict"
    REFUSES_FIRST = "refuses_first"
    """The first right code is refused; one of a later step is accepted."""
    REFUSES_ALL = "refuses_all"


class Accounts:
    def __init__(self, person: Person, clock: Callable[[], float]) -> None:
        self._people = {person.name: person}
        self._clock = clock
        self._steps: dict[str, int] = {}
        self._refused: dict[str, int] = {}
        self._half_way: dict[str, str] = {}
        self.failures: Counter[str] = Counter()
        """Wrong passwords and codes since the last login, of each name that was tried."""
        self.sessions: dict[str, str] = {}
        """Session cookies (each a canary) and whose they are."""

    def check_password(self, name: str, password: str) -> Verdict:
        if self.failures[name] >= FAILURES_MAX:
            return Verdict.LOCKED
        person = self._people.get(name)
        if person is None or not secrets.compare_digest(person.password.encode(), password.encode()):
            return self._failed(name, Verdict.WRONG)
        return Verdict.OK

    def check_code(self, name: str, code: str, rule: CodeRule = CodeRule.STRICT) -> Verdict:
        """This step's code or the one before, each of them once (RFC 6238, section 5.2)."""
        if self.failures[name] >= FAILURES_MAX:
            return Verdict.LOCKED
        person = self._people[name]
        now = int(self._clock() // person.period_s)
        step = next((step for step in (now, now - 1) if secrets.compare_digest(person.code(step), code)), None)
        if step is None:
            return self._failed(name, Verdict.WRONG_CODE)
        if rule is CodeRule.REFUSES_ALL or step <= self._steps.get(name, 0):
            return self._failed(name, Verdict.USED_CODE)
        if rule is CodeRule.REFUSES_FIRST and step <= self._refused.setdefault(name, step):
            return self._failed(name, Verdict.USED_CODE)
        self._steps[name] = step
        return Verdict.OK

    def _failed(self, name: str, verdict: Verdict) -> Verdict:
        self.failures[name] += 1
        return Verdict.LOCKED if self.failures[name] >= FAILURES_MAX else verdict

    def begin(self, name: str) -> str:
        """The token of somebody who is half way in."""
        token = secrets.token_hex(16)
        self._half_way[token] = name
        return token

    def half_way(self, token: str) -> str | None:
        return self._half_way.get(token)

    def log_in(self, name: str) -> str:
        """The session's cookie."""
        self.failures.pop(name, None)
        token = f"session-{secrets.token_hex(16)}"
        self.sessions[token] = name
        return token

    def log_out(self, token: str) -> None:
        self.sessions.pop(token, None)
