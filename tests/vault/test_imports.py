"""What Bitwarden and 1Password write, read."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

import pytest

from mcp_spaces.errors import InvalidInput
from mcp_spaces.vault.import_items import Item
from mcp_spaces.vault.imports import BYTES_MAX, Format, parse_export
from mcp_spaces.vault.model import Kind


def items(content: Any, *, chosen: Format = Format.AUTO, prefix: str = "imported") -> list[Item]:
    raw = content.encode() if isinstance(content, str) else json.dumps(content).encode()
    return parse_export(raw, chosen=chosen, prefix=prefix).items


BITWARDEN = {
    "encrypted": False,
    "folders": [{"id": "f1", "name": "Work Stuff"}],
    "items": [
        {
            "type": 1, "name": "GitHub", "folderId": "f1", "notes": "mine",
            "login": {
                "username": "ann", "password": "pass word", "totp": "JBSWY3DPEHPK3PXP",
                "uris": [
                    {"match": None, "uri": "https://GitHub.com/login"}, {"uri": "http://intranet"},
                    {"uri": "androidapp://x"}, {"uri": "https://github.com:443"}, {"uri": "https://u@evil.example"},
                ],
            },
        },
        {"type": 2, "name": "Recovery", "folderId": None, "notes": "codes", "secureNote": {"type": 0}},
    ],
}  # fmt: skip


@pytest.mark.parametrize("size", [100, BYTES_MAX + 1])
def test_an_archive_is_told_what_to_take_out_of_it(size: int) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr("export.data", b"\xff" * size)
    with pytest.raises(InvalidInput, match=r"unzip it, and give the export\.data"):
        parse_export(archive.getvalue(), chosen=Format.AUTO, prefix="x")


def test_bitwardens_json_becomes_logins_and_values() -> None:
    login, note = items(BITWARDEN)
    assert login.path == "imported/work-stuff/github"
    assert login.fields == {
        "username": "ann", "password": "pass word", "totp": "JBSWY3DPEHPK3PXP", "notes": "mine"
    }  # fmt: skip
    assert login.bindings.origins == ("https://github.com",)
    assert (note.path, note.kind, note.fields) == ("imported/recovery", Kind.VALUE, {"value": "codes"})


def test_bitwardens_csv_becomes_logins_and_values() -> None:
    login, note = items(
        "\ufefffolder,favorite,type,name,notes,fields,reprompt,login_uri,login_username,login_password,login_totp\n"
        'Work,1,login,GitHub,"two\nlines",,0,"https://github.com,https://gist.github.com",ann,"a ""quoted"", word",\n'
        "\n,,note,Recovery,codes,,0,,,,\n"
    )
    assert login.path == "imported/work/github"
    assert login.fields == {"username": "ann", "password": 'a "quoted", word', "notes": "two\nlines"}
    assert login.bindings.origins == ("https://github.com", "https://gist.github.com")
    assert note.fields == {"value": "codes"}


@pytest.mark.parametrize("address", ["Url", "Website"])
def test_1passwords_csv_becomes_logins(address: str) -> None:
    (login,) = items(
        f"Title,{address},Username,Password,OTPAuth,Favorite,Archived,Tags,Notes\n"
        "Crème brûlée,https://shop.example.com/a?b,ann,secret!,otpauth://totp/x?secret=JBSWY3DPEHPK3PXP,,,,\n"
    )
    assert login.path == "imported/creme-brulee"
    assert (login.label, login.bindings.origins) == ("Crème brûlée", ("https://shop.example.com",))
    assert login.fields["totp"].startswith("otpauth://")


def test_1passwords_json_becomes_logins_and_values() -> None:
    def item(title: str, **details: Any) -> dict[str, Any]:
        overview = {"title": title, "url": "https://a.example", "urls": [{"label": "w", "url": "https://b.example"}]}
        return {"uuid": "u", "overview": overview, "details": details}

    export = {
        "accounts": [{
            "attrs": {"name": "Ann"},
            "vaults": [{
                "attrs": {"name": "Private"},
                "items": [
                    item(
                        "Site",
                        loginFields=[
                            {"designation": "username", "value": "ann"}, {"designation": "password", "value": "pw pw"}
                        ],
                        sections=[{"fields": [
                            {"title": "empty", "value": None}, {"title": "old", "value": "text"},
                            {"title": "one-time", "value": {"totp": "JBSWY3DPEHPK3PXP"}},
                        ]}],
                    ),
                    item("Wi-Fi", password="key key"),
                    item("Note", notesPlain="codes", loginFields=[], sections=[]),
                ],
            }],
        }]
    }  # fmt: skip
    login, bare, note = items(export)
    assert [one.path for one in (login, bare, note)] == [
        f"imported/private/{name}" for name in ("site", "wi-fi", "note")
    ]
    assert (bare.kind, bare.fields) == (Kind.LOGIN, {"password": "key key"})
    assert login.fields == {"username": "ann", "password": "pw pw", "totp": "JBSWY3DPEHPK3PXP"}
    assert login.bindings.origins == ("https://a.example", "https://b.example")
    assert note.fields == {"value": "codes"}


def test_two_accounts_at_one_site_are_told_apart() -> None:
    def login(user: str) -> dict[str, Any]:
        return {"type": 1, "name": "Mail", "login": {"username": user, "password": "pw pw"}}

    found = items({"items": [login("ann@example.com"), login("bob@example.com")]})
    assert [one.path for one in found] == ["imported/mail.ann-example-com", "imported/mail.bob-example-com"]
    with pytest.raises(InvalidInput, match="items 1 and 2 would both be"):
        items({"items": [login("ann"), login("ann")]})


def test_a_name_without_a_plain_letter_gets_its_number() -> None:
    (found,) = items({"items": [{"type": 2, "name": "日本", "notes": "x"}]})
    assert (found.path, found.label) == ("imported/item-1", "日本")


def test_another_form_than_the_one_named_is_refused() -> None:
    with pytest.raises(InvalidInput):
        items(BITWARDEN, chosen=Format.ONE_PASSWORD_JSON)
