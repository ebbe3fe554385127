"""What every sandbox driver does with files of the workspace, and what it refuses."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from functools import partial

import anyio
import anyio.lowlevel
import pytest

from mcp_spaces.errors import Conflict, InvalidInput, NotFound, TimedOut, WrongState
from mcp_spaces.sandbox.port import FileKind, Sandbox
from tests.sandbox.rigs import PATIENCE_S, Output, eventually_empty, run, shell, start


class Files:
    async def test_what_is_written_is_read(self, sandbox: Sandbox) -> None:
        content = bytes(range(256))
        written = await sandbox.write_file("folder/in/file.bin", content, overwrite=False)
        read = await sandbox.read_file("folder/in/file.bin", limit=1000)
        assert read.content == content
        assert (written.path, written.size_bytes, read.size_bytes) == ("folder/in/file.bin", 256, 256)

    async def test_a_large_file_goes_both_ways(self, sandbox: Sandbox) -> None:
        content = bytes(range(256)) * 4096 * 3
        await sandbox.write_file("large", content, overwrite=False)
        assert (await sandbox.read_file("large", limit=len(content))).content == content

    async def test_an_empty_file_is_a_file(self, sandbox: Sandbox) -> None:
        await sandbox.write_file("empty", b"", overwrite=False)
        assert (await sandbox.read_file("empty", limit=10)).content == b""

    async def test_ranges_of_a_file(self, sandbox: Sandbox) -> None:
        await sandbox.write_file("digits", b"0123456789", overwrite=False)
        assert (await sandbox.read_file("digits", offset=3, limit=4)).content == b"3456"
        assert (await sandbox.read_file("digits", offset=8, limit=100)).content == b"89"
        assert (await sandbox.read_file("digits", offset=50, limit=5)).content == b""

    async def test_a_missing_file_is_not_found(self, sandbox: Sandbox) -> None:
        for ask in (
            sandbox.read_file("gone", limit=1),
            sandbox.stat("gone"),
            sandbox.delete_file("gone"),
            sandbox.delete_file("gone", recursive=True),
            sandbox.search("x", path="gone"),
        ):
            with pytest.raises(NotFound):
                await ask

    async def test_a_folder_is_no_file(self, sandbox: Sandbox) -> None:
        await sandbox.write_file("folder/file", b"", overwrite=False)
        with pytest.raises(WrongState):
            await sandbox.read_file("folder", limit=1)
        with pytest.raises(WrongState):
            await sandbox.write_file("folder", b"", overwrite=True)
        with pytest.raises(WrongState):
            await sandbox.write_file("folder/file/below", b"", overwrite=True)

    async def test_a_file_is_not_replaced_unasked(self, sandbox: Sandbox) -> None:
        await sandbox.write_file("file", b"first", overwrite=False)
        with pytest.raises(Conflict):
            await sandbox.write_file("file", b"second", overwrite=False)
        assert (await sandbox.read_file("file", limit=10)).content == b"first"

    async def test_a_replaced_file_keeps_its_mode(self, sandbox: Sandbox) -> None:
        await sandbox.write_file("script", b"first", overwrite=False)
        await run(sandbox, "chmod", "750", "script")
        written = await sandbox.write_file("script", b"second", overwrite=True)
        assert written.executable
        assert (await run(sandbox, "stat", "-c", "%a", "script")).stdout == b"750\n"

    async def test_an_edit_wants_what_it_was_based_on(self, sandbox: Sandbox) -> None:
        await sandbox.write_file("file", b"first", overwrite=False)
        based_on = hashlib.sha256(b"first").hexdigest()
        await sandbox.write_file("file", b"second", overwrite=True, base_sha256=based_on)
        with pytest.raises(Conflict):
            await sandbox.write_file("file", b"third", overwrite=True, base_sha256=based_on)
        with pytest.raises(Conflict):
            await sandbox.write_file("new", b"x", overwrite=True, base_sha256=based_on)
        assert (await sandbox.read_file("file", limit=10)).content == b"second"

    async def test_names_may_hold_almost_anything(self, sandbox: Sandbox) -> None:
        names = ["a b", "-rf", "é", "quote'\"", "new\nline", "$(id)", "*", "\\", "~", "tab\t"]
        for name in names:
            await sandbox.write_file(f"names/{name}", name.encode(), overwrite=False)
        for name in names:
            assert (await sandbox.read_file(f"names/{name}", limit=100)).content == name.encode()
        listed = await sandbox.list_files("names")
        assert {entry.path for entry in listed.entries} == {f"names/{name}" for name in names}

    async def test_a_write_that_is_taken_back_while_it_compares_harms_nobody(self, sandbox: Sandbox) -> None:
        large = 48 << 20
        await shell(sandbox, f"truncate -s {large} one other")
        based_on = hashlib.sha256(bytes(large)).hexdigest()
        async with anyio.create_task_group() as writing:
            writing.start_soon(partial(sandbox.write_file, "one", b"new", overwrite=True, base_sha256=based_on))
            await anyio.lowlevel.checkpoint()
            # Whoever answers this has heard of the write, and is at it.
            await sandbox.usage()
            writing.cancel_scope.cancel()
        # Begun later and as long, so it ends later.
        await sandbox.write_file("other", b"new", overwrite=True, base_sha256=based_on)
        assert (await sandbox.read_file("other", limit=10)).content == b"new"

    async def test_a_write_that_is_taken_back_leaves_nothing_of_it(self, sandbox: Sandbox) -> None:
        for after_s in (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3):
            with anyio.move_on_after(after_s):
                await sandbox.write_file("folder/large", bytes(8 << 20), overwrite=True)
        await eventually_empty(sandbox, "find . -name '.mcp-spaces-part-*'")

    async def test_a_path_may_name_the_workspace(self, sandbox: Sandbox) -> None:
        await sandbox.write_file("/workspace/x/./y", b"1", overwrite=False)
        assert (await sandbox.stat("x//y")).path == "x/y"

    async def test_paths_that_lead_outside_are_refused(self, sandbox: Sandbox) -> None:
        for path in ("../x", "a/../../x", "/etc/passwd", "/workspacex", "/workspace/../etc/passwd"):
            for ask in (
                sandbox.read_file(path, limit=1),
                sandbox.write_file(path, b"", overwrite=True),
                sandbox.delete_file(path),
                sandbox.stat(path),
            ):
                with pytest.raises((WrongState, NotFound)):
                    await ask

    async def test_paths_that_no_file_can_have_are_refused(self, sandbox: Sandbox) -> None:
        for path in ("a\0b", "", "\ud800", "x" * 256, "x/" * 300 + "x", "y" * 5000):
            with pytest.raises(InvalidInput):
                await sandbox.stat(path)

    async def test_a_read_tells_one_version_of_a_file_from_the_next(self, sandbox: Sandbox) -> None:
        await sandbox.write_file("file", b"first", overwrite=False)
        first = await sandbox.read_file("file", limit=5)
        assert (await sandbox.read_file("file", offset=3, limit=0)).version == first.version
        # Same path, size and time of its content.
        changed = await shell(sandbox, "touch -r file kept; printf other > file; touch -r kept file; stat -c %s file")
        assert changed.stdout == b"5\n"
        assert (await sandbox.read_file("file", limit=5)).version not in ("", first.version)

    async def test_links_inside_are_followed_for_reading(self, sandbox: Sandbox) -> None:
        await sandbox.write_file("real/file", b"content", overwrite=False)
        await shell(sandbox, 'ln -s real/file link; ln -s real folder; ln -s "$(pwd)/real/file" absolute')
        for path in ("link", "folder/file", "absolute"):
            read = await sandbox.read_file(path, limit=100)
            assert (read.content, read.resolved_path) == (b"content", "real/file")
            assert [match.path for match in (await sandbox.search("content", path=path)).matches] == ["real/file"]
        assert [entry.path for entry in (await sandbox.list_files("folder")).entries] == ["real/file"]

    async def test_links_are_never_written_through(self, sandbox: Sandbox) -> None:
        await sandbox.write_file("real/file", b"content", overwrite=False)
        await shell(sandbox, "ln -s real/file link; ln -s real folder; ln -s nowhere dangling")
        for path in ("link", "folder/file", "folder/new", "dangling"):
            with pytest.raises(WrongState):
                await sandbox.write_file(path, b"changed", overwrite=True)
        for recursive in (False, True):
            with pytest.raises(WrongState):
                await sandbox.delete_file("folder/file", recursive=recursive)
        assert (await sandbox.read_file("real/file", limit=100)).content == b"content"

    async def test_a_link_is_deleted_and_not_what_it_points_to(self, sandbox: Sandbox) -> None:
        await sandbox.write_file("real/file", b"content", overwrite=False)
        await shell(sandbox, "ln -s real folder; ln -s real/file link; mkdir -p tree/in; ln -s ../real tree")
        await shell(sandbox, "ln -s ../../real tree/in")
        assert await sandbox.delete_file("folder", recursive=True) == 1
        assert await sandbox.delete_file("link") == 1
        assert await sandbox.delete_file("tree", recursive=True) == 4
        assert (await sandbox.stat("real/file")).size_bytes == 7

    async def test_a_link_that_leads_nowhere_says_where_it_does(self, sandbox: Sandbox) -> None:
        await shell(sandbox, "ln -s b a; ln -s a b; ln -s gone/file dangling; ln -s /etc/gone out; ln -s ../../gone up")
        for path, error, words in (
            ("a", WrongState, "Too many symbolic links"),
            ("dangling", NotFound, "There is no dangling"),
            ("out", WrongState, "leads outside"),
            ("up", WrongState, "leads outside"),
        ):
            for ask in (sandbox.read_file(path, limit=1), sandbox.stat(path), sandbox.list_files(path)):
                with pytest.raises(error, match=words):
                    await ask

    async def test_a_fifo_is_neither_read_nor_written(self, sandbox: Sandbox) -> None:
        await shell(sandbox, "mkfifo fifo")
        assert (await sandbox.stat("fifo")).kind is FileKind.OTHER
        with anyio.fail_after(PATIENCE_S / 3):
            with pytest.raises(WrongState):
                await sandbox.read_file("fifo", limit=1)
            with pytest.raises(WrongState):
                await sandbox.write_file("fifo", b"", overwrite=True)
            with pytest.raises(WrongState):
                await sandbox.search("x", path="fifo")

    async def test_a_folder_goes_only_when_that_is_said(self, sandbox: Sandbox) -> None:
        await shell(
            sandbox, "mkdir -p tree/a/b/c; touch tree/1 tree/a/2 tree/a/b/3; mkdir tree/locked; chmod 500 tree/a"
        )
        with pytest.raises(WrongState):
            await sandbox.delete_file("tree")
        assert await sandbox.delete_file("tree", recursive=True) == 8
        with pytest.raises(NotFound):
            await sandbox.stat("tree")

    async def test_a_folder_in_which_somebody_deletes_too_is_deleted_all_the_same(self, sandbox: Sandbox) -> None:
        output = Output()
        script = (
            "$| = 1; while (1) { for (1..99) { open F, '>', qq(tree/$_); close F } unlink glob 'tree/*'; print 'on ' }"
        )
        other = await start(sandbox, "perl", "-e", script, output=output)
        await output.until(b"on ")
        for _ in range(8):
            await shell(sandbox, "mkdir -p tree; until ls tree | grep -q 9; do :; done")
            # Filled again meanwhile, it stays; that it is not there would be wrong.
            with suppress(Conflict):
                await sandbox.delete_file("tree", recursive=True)
        await other.kill()

    async def test_the_workspace_itself_cannot_be_deleted(self, sandbox: Sandbox) -> None:
        with pytest.raises(WrongState):
            await sandbox.delete_file(".", recursive=True)

    async def test_stat_tells_kinds_apart(self, sandbox: Sandbox) -> None:
        await sandbox.write_file("folder/file", b"123", overwrite=False)
        file, folder = await sandbox.stat("folder/file"), await sandbox.stat("folder")
        assert (file.kind, file.size_bytes, file.executable) == (FileKind.FILE, 3, False)
        assert folder.kind is FileKind.DIRECTORY
        assert (await sandbox.stat(".")).kind is FileKind.DIRECTORY
        assert file.modified_at > 1_600_000_000

    async def test_listing_goes_as_deep_as_asked(self, sandbox: Sandbox) -> None:
        await shell(sandbox, "mkdir -p a/b; touch a/b/deep a/x top; ln -s a link")
        flat, deep = await sandbox.list_files("."), await sandbox.list_files(".", depth=3)
        assert [entry.path for entry in flat.entries] == ["a", "link", "top"]
        assert [entry.path for entry in deep.entries] == ["a", "a/b", "a/b/deep", "a/x", "link", "top"]
        assert flat.entries[1].kind is FileKind.LINK
        assert [entry.path for entry in (await sandbox.list_files("a/b")).entries] == ["a/b/deep"]

    async def test_a_listing_is_told_by_name_whatever_a_folder_is_called(self, sandbox: Sandbox) -> None:
        await shell(sandbox, "mkdir -p node_modules zoo .venv .git; touch node_modules/f zoo/f a.txt")
        ordered = [".git", ".venv", "a.txt", "node_modules", "node_modules/f", "zoo", "zoo/f"]
        assert [entry.path for entry in (await sandbox.list_files(".", depth=2)).entries] == ordered
        assert [entry.path for entry in (await sandbox.list_files(".", limit=3)).entries] == ordered[:3]

    async def test_a_listing_says_when_it_was_cut(self, sandbox: Sandbox) -> None:
        await shell(sandbox, "touch 1 2 3 4")
        cut, whole = await sandbox.list_files(".", limit=3), await sandbox.list_files(".", limit=4)
        assert ([entry.path for entry in cut.entries], cut.truncated) == (["1", "2", "3"], True)
        assert (len(whole.entries), whole.truncated) == (4, False)

    async def test_listing_a_file_or_nothing_is_an_error(self, sandbox: Sandbox) -> None:
        await sandbox.write_file("file", b"", overwrite=False)
        with pytest.raises(WrongState):
            await sandbox.list_files("file")
        with pytest.raises(NotFound):
            await sandbox.list_files("gone")

    async def test_globs(self, sandbox: Sandbox) -> None:
        await shell(sandbox, "mkdir -p a/b .git; touch a/x.py a/b/y.py a/b/y.txt z.py .git/g.py a/.h.py")
        found = {
            pattern: [entry.path for entry in (await sandbox.glob(pattern)).entries]
            for pattern in ("*.py", "**/*.py", "a/**", "a/*/y.*", "a/[x-z].py", "?.py", "none")
        }
        assert found == {
            "*.py": ["z.py"],
            "**/*.py": ["a/.h.py", "a/b/y.py", "a/x.py", "z.py"],
            "a/**": ["a/.h.py", "a/b/y.py", "a/b/y.txt", "a/x.py"],
            "a/*/y.*": ["a/b/y.py", "a/b/y.txt"],
            "a/[x-z].py": ["a/x.py"],
            "?.py": ["z.py"],
            "none": [],
        }

    async def test_a_question_mark_is_one_character_and_not_one_byte(self, sandbox: Sandbox) -> None:
        await sandbox.write_file("é.txt", b"", overwrite=False)
        for pattern in ("?.txt", "[é].txt", "[!a].txt", "*é.txt"):
            assert [entry.path for entry in (await sandbox.glob(pattern)).entries] == ["é.txt"]
        assert (await sandbox.glob("??.txt")).entries == ()

    async def test_searching_finds_lines(self, sandbox: Sandbox) -> None:
        await sandbox.write_file("a/one.py", b"import os\nprint(os)\n", overwrite=False)
        await sandbox.write_file("two.txt", b"no\nimport this", overwrite=False)
        await sandbox.write_file(".git/three.py", b"import git\n", overwrite=False)
        await sandbox.write_file("binary", b"import os\n\0", overwrite=False)
        found = await sandbox.search("^import +[a-z]+$")
        assert [(match.path, match.line, match.text) for match in found.matches] == [
            ("a/one.py", 1, "import os"),
            ("two.txt", 2, "import this"),
        ]
        assert [match.path for match in (await sandbox.search("import", glob="**/*.py")).matches] == ["a/one.py"]
        assert [match.line for match in (await sandbox.search("os", path="a")).matches] == [1, 2]
        # What ends with a newline has no empty line after it.
        assert (await sandbox.search("^$")).matches == ()

    async def test_a_match_is_told_under_its_files_whole_name(self, sandbox: Sandbox) -> None:
        for name in ("secret\nopen", "secret\n12:open"):
            await sandbox.write_file(name, b"word\n", overwrite=False)
        found = await sandbox.search("word")
        assert [(match.path, match.line, match.text) for match in found.matches] == [
            ("secret\n12:open", 1, "word"),
            ("secret\nopen", 1, "word"),
        ]

    async def test_what_lies_in_git_is_found_where_that_is_named(self, sandbox: Sandbox) -> None:
        await sandbox.write_file(".git/config", b"word\n", overwrite=False)
        await sandbox.write_file(".git/.git/config", b"word\n", overwrite=False)
        assert [match.path for match in (await sandbox.search("word", path=".git")).matches] == [".git/config"]

    async def test_what_is_found_in_folders_of_tools_comes_last(self, sandbox: Sandbox) -> None:
        folders = ["src", ".venv/lib", "node_modules/x", "src/.cache", "src/z", "a/venv", "a/__pycache__", "zoo"]
        await shell(
            sandbox, f"mkdir -p {' '.join(folders)} && for d in {' '.join(folders)}; do echo def > $d/f.py; done"
        )
        await shell(sandbox, "echo def > .conf.py")
        ordered = [
            ".conf.py",
            "a/__pycache__/f.py",
            "a/venv/f.py",
            "src/f.py",
            "src/z/f.py",
            "src/.cache/f.py",
            "zoo/f.py",
            ".venv/lib/f.py",
            "node_modules/x/f.py",
        ]
        assert [entry.path for entry in (await sandbox.glob("**/*.py")).entries] == ordered
        assert [match.path for match in (await sandbox.search("def")).matches] == ordered
        for limit, cut in ((2, True), (len(ordered), False)):
            listing = await sandbox.glob("**/*.py", limit=limit)
            assert ([entry.path for entry in listing.entries], listing.truncated) == (ordered[:limit], cut)

    async def test_a_search_says_when_it_was_cut(self, sandbox: Sandbox) -> None:
        await sandbox.write_file("many", b"x\n" * 10, overwrite=False)
        found = await sandbox.search("x", limit=4)
        assert (len(found.matches), found.truncated) == (4, True)

    async def test_a_search_counts_the_texts_that_are_too_large_for_it(self, sandbox: Sandbox) -> None:
        await shell(sandbox, "yes word | head -c 11000000 > large.txt; yes word | head -c 20000000 > larger.log")
        await shell(sandbox, "(echo word; head -c 11000000 /dev/zero) > binary; echo word > small.txt")
        found = await sandbox.search("word")
        assert ([match.path for match in found.matches], found.too_large) == (["small.txt"], 2)
        assert (await sandbox.search("word", glob="**/*.txt")).too_large == 1
        assert (await sandbox.search("word", path="large.txt")).too_large == 1
        assert (await sandbox.search("word", path="small.txt")).too_large == 0

    async def test_an_expression_that_does_not_compile_is_refused(self, sandbox: Sandbox) -> None:
        for expression in ("(", "(?a)(?L)x", "x{99999999999999999999}", "(" * 499 + ")" * 499):
            with pytest.raises(InvalidInput):
                await sandbox.search(expression)

    async def test_a_search_that_takes_too_long_is_stopped(self, sandbox: Sandbox) -> None:
        await sandbox.write_file("slow", b"a" * 5000 + b"!", overwrite=False)
        with anyio.fail_after(PATIENCE_S), pytest.raises(TimedOut):
            await sandbox.search("(a+)+$", timeout_s=0.3)
        assert (await shell(sandbox, "echo still here")).stdout == b"still here\n"


class Rights:
    """Where modes count: not for root, as whom the fake runs."""

    async def test_locked_folders_within_locked_folders_can_be_deleted(self, sandbox: Sandbox) -> None:
        await shell(
            sandbox,
            "mkdir -p tree/a/b/c/d; touch tree/a/b/c/file; chmod 500 tree/a/b/c tree/a/b; chmod 0 tree/a; chmod 500 tree",
        )
        assert await sandbox.delete_file("tree", recursive=True) == 6
        with pytest.raises(NotFound):
            await sandbox.stat("tree")

    async def test_what_may_not_be_read_is_not_told_as_empty(self, sandbox: Sandbox) -> None:
        await shell(sandbox, "mkdir unread unentered; echo word | tee unread/file unentered/file > file")
        await shell(sandbox, "chmod 300 unread; chmod 600 unentered; chmod 0 file")
        for ask in (
            sandbox.list_files("unread"),
            sandbox.list_files("unentered"),
            sandbox.search("word", path="unread"),
            sandbox.search("word", path="unentered"),
            sandbox.search("word", path="file"),
            sandbox.read_file("file", limit=1),
        ):
            with pytest.raises(WrongState, match="may not do that"):
                await ask

    async def test_what_may_not_be_read_on_the_way_is_passed_over(self, sandbox: Sandbox) -> None:
        await shell(
            sandbox, "mkdir limits; echo word | tee open limits/file > limits/PCRE; chmod 0 limits/file limits/PCRE"
        )
        await shell(sandbox, "mkdir locked; echo word > locked/file; chmod 0 locked")
        await shell(sandbox, "mkdir names; echo word > names/file; chmod 600 names")
        assert [match.path for match in (await sandbox.search("word")).matches] == ["open"]
        listed = (await sandbox.list_files(".", depth=2)).entries
        assert [entry.path for entry in listed] == ["limits", "limits/PCRE", "limits/file", "locked", "names", "open"]
