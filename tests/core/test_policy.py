"""Policy's answers: by preset, by effect, by command; and that a narrower policy never says more."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from fnmatch import fnmatchcase

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_spaces.core.effect import Effect
from mcp_spaces.core.facts import Access, Facts, FileFacts, NoFacts, ShellFacts
from mcp_spaces.core.policy import (
    PRESETS,
    Allow,
    Deny,
    Policy,
    Verdict,
    decide,
    explain,
    load_preset,
    policy_excess,
    policy_from,
)
from mcp_spaces.core.policy.files import globs_meet
from mcp_spaces.core.policy.verdict import Answer
from mcp_spaces.errors import InvalidInput


def shell(command: str, policy: Policy | str = "standard") -> Verdict:
    chosen = load_preset(policy) if isinstance(policy, str) else policy
    return explain(chosen, operation_id="sandbox.shell", effect=Effect.EXECUTES, facts=ShellFacts(command))


def call(policy: Policy, operation_id: str, effect: Effect, facts: Facts | None = None) -> Verdict:
    return explain(policy, operation_id=operation_id, effect=effect, facts=facts or NoFacts())


ALLOWED = """
ls -la
cat README.md | grep -n x | sort -u | head -n 3
git status && git diff --stat
git commit -m "fix .env handling"
git -c user.name=me commit -m x
git log --format='%H %s' -n 5
python -m pytest -x -q tests
python3.11 -c 'print(1)'
/usr/bin/git status
./scripts/build.sh --fast
node_modules/.bin/eslint src
cd src && ls ..
FOO=1 BAR="two words" make test
for f in *.py; do wc -l "$f"; done
while IFS= read -r line; do echo "$line"; done < list.txt
if [ -f x ]; then cat x; else touch x; fi
[[ -n "$HOME" ]] && echo yes
timeout 5 ls
nice -n 5 make -j4
env FOO=1 python x.py
xargs -n1 wc -l < list.txt
find . -name '*.py' -not -path './.venv/*' -exec grep -l TODO {} +
find "$dir" -name '*.py'
bash scripts/test.sh
bash -c 'ls && pwd'
sh -c "echo hi"
rm file.txt
rm -f a b
rm -rf build
rm -rf ./dist node_modules packages/a/target
rm -rf build/*
rm -rf /workspace/build
rm -rf *.egg-info
rm -rf -- .venv
uv run pytest -q
uv run --with httpx python x.py
npx eslint src
npm run build
npm test -- --watch=false
cargo test
go test ./...
tar -czf x.tar.gz src
tar -I zstd -xf x.tar.zst
sort --compress-program=gzip big.txt
sed -n 's/a/b/gp' x
sed -i 's/test/new/' x
awk '{print $1}' x
jq '.key' x.json
echo "sudo is a word"
echo 'rm -rf /' > notes.txt
grep sudo notes.txt
git commit -m 'never git push'
trap 'rm -f tmp.txt' EXIT
f() { ls "$1"; }; f x
command -v git
GIT_EDITOR=true git rebase --continue
git rebase -x 'make test' main
git config user.name me
git config -f setup.cfg user.name me
git config set core.autocrlf input
python3 -W ignore -m pytest -q
python3 -Im pytest
git config --get core.pager
chmod 755 x
chmod +x x
mkdir -m 1777 x
source .venv/bin/activate
export DEBUG=1
pip install -r requirements.txt
kill %1
gcc-13 -o x x.c
git clean -n
git clean -fdx build
make 2>&1 | tee build.log
exec ls
""".strip().splitlines()

# standard's answer, its rule, permissive's answer, the command
JUDGED: list[tuple[str, str, str, str]] = [
    (standard, rule, permissive, command)
    for line in r"""
deny | shell.blocked | deny | sudo ls
deny | shell.blocked | deny | /usr/bin/sudo ls
deny | shell.blocked | deny | ./sudo ls
deny | shell.blocked | deny | su"d"o ls
deny | shell.blocked | deny | s\udo ls
deny | shell.blocked | deny | \sudo ls
deny | shell.blocked | deny | $'\x73udo' ls
deny | shell.blocked | deny | 'su'do ls
deny | shell.blocked | deny | ls; sudo ls
deny | shell.blocked | deny | ls | sudo tee x
deny | shell.blocked | deny | ls && (sudo ls)
deny | shell.blocked | deny | echo $(sudo ls)
deny | shell.blocked | deny | echo "`sudo ls`"
deny | shell.blocked | deny | cat <(sudo ls)
deny | shell.blocked | deny | X=$(sudo ls)
deny | shell.blocked | deny | X= sudo ls
deny | shell.blocked | deny | ! sudo ls
deny | shell.blocked | deny | time -p sudo ls
deny | shell.blocked | deny | time x=1 sudo ls
deny | shell.blocked | deny | time ! sudo ls
deny | shell.blocked | deny | coproc sudo ls
deny | shell.blocked | deny | f() { sudo ls; }; f
deny | shell.blocked | deny | function f { sudo ls; }
deny | shell.blocked | deny | if true; then sudo ls; fi
deny | shell.blocked | deny | case x in x) sudo ls;; esac
deny | shell.blocked | deny | for x in $(sudo ls); do :; done
deny | shell.blocked | deny | echo $((1 + $(sudo ls)))
deny | shell.blocked | deny | echo ${x:-$(sudo ls)}
deny | shell.blocked | deny | sh -c 'sudo ls'
deny | shell.blocked | deny | bash -lc 'sudo ls'
deny | shell.blocked | deny | bash -c "bash -c 'sudo ls'"
deny | shell.blocked | deny | eval sudo ls
deny | shell.blocked | deny | eval 'sudo ls'
deny | shell.blocked | deny | env sudo ls
deny | shell.blocked | deny | env -i A=1 -u B sudo ls
deny | shell.blocked | deny | env -S 'sudo ls'
deny | shell.blocked | deny | env -S'sudo ls'
deny | shell.blocked | deny | xargs sudo
deny | shell.blocked | deny | xargs -n 1 -I{} sudo {}
deny | shell.blocked | deny | find . -exec sudo ls {} \;
deny | shell.blocked | deny | find . -ok sudo ls {} +
deny | shell.blocked | deny | fd -x sudo
deny | shell.blocked | deny | nice -n 5 sudo ls
deny | shell.blocked | deny | nice -5 sudo ls
deny | shell.blocked | deny | nohup sudo ls
deny | shell.blocked | deny | timeout -s KILL 5 sudo ls
deny | shell.blocked | deny | timeout --signal=KILL 5 sudo ls
deny | shell.blocked | deny | stdbuf -oL sudo ls
deny | shell.blocked | deny | command sudo ls
deny | shell.blocked | deny | builtin exec sudo
deny | shell.blocked | deny | exec -a x sudo ls
deny | shell.blocked | deny | trap 'sudo ls' EXIT
deny | shell.blocked | deny | uv run sudo ls
deny | shell.blocked | deny | npx -y sudo
deny | shell.blocked | deny | npm exec -c 'sudo ls'
deny | shell.blocked | deny | python -m sudo
deny | shell.blocked | deny | tar --to-command='sudo ls' -xf x
deny | shell.blocked | deny | tar --use-comp 'sudo ls' -xf x
deny | shell.blocked | deny | tar -I 'sudo ls' -xf x
deny | shell.blocked | deny | tar -xIsudo -f x
deny | shell.hidden_command | ask | tar xIf gzip x
deny | shell.blocked | deny | sort --compress-program=sudo x
deny | shell.blocked | deny | sort --compress-pro sudo x
deny | shell.blocked | deny | rg --pre sudo x
deny | shell.blocked | deny | split --filter='sudo ls' x
deny | shell.blocked | deny | PAGER='sudo ls' git log
deny | shell.blocked | deny | env EDITOR=sudo git commit
deny | shell.blocked | deny | git rebase --exec 'sudo ls' main
deny | shell.blocked | deny | git bisect run sudo ls
deny | shell.blocked | deny | git submodule foreach 'sudo ls'
deny | shell.blocked | deny | git submodule foreach --recursive sudo ls
deny | shell.blocked | deny | mapfile -C 'sudo ls' x
deny | shell.blocked | deny | go test -exec sudo ./...
deny | shell.blocked | deny | su -c ls
deny | shell.blocked | deny | bash sudo
deny | shell.blocked | deny | source sudo
deny | shell.blocked | deny | eval -- sudo ls
deny | shell.blocked | deny | mount /dev/sda /mnt
deny | shell.blocked | deny | nsenter -t 1 -a ls
deny | shell.blocked | allow | unshare -r ls
deny | shell.blocked | allow | chroot / ls
deny | shell.commands | deny | doas sudo ls
deny | shell.commands | deny | busybox sudo ls
deny | shell.commands | deny | rsync -e 'sudo ls' a b
deny | shell.commands | deny | rsync -avze 'sudo ls' a b
deny | shell.commands | deny | man -P 'sudo ls' x
deny | shell.commands | deny | man -Hsudo x
deny | shell.commands | deny | setsid sudo ls
deny | shell.commands | deny | watch -n 1 sudo ls
deny | shell.commands | deny | flock x sudo ls
deny | shell.commands | deny | flock x -c 'sudo ls'
deny | shell.commands | deny | strace -f sudo ls
deny | shell.commands | deny | script -c 'sudo ls' x
deny | shell.commands | deny | parallel sudo ::: x
deny | shell.commands | deny | parallel ::: 'sudo ls'
deny | shell.commands | allow | nc -l 80
deny | shell.commands | allow | /usr/bin/nc x
deny | shell.commands | allow | ssh host
deny | shell.commands | allow | cd .. && ./x
deny | shell.commands | allow | (nc() { :; }); nc x
deny | shell.commands | allow | gіt status
deny | shell.commands | allow | =ls
deny | shell.commands | allow | 'ls -la'
deny | shell.commands | allow | ls$'\t'x
deny | shell.commands | allow | git-push
deny | shell.outside_programs | allow | /tmp/x
deny | shell.outside_programs | allow | ../x
deny | shell.dynamic_command | ask | ~/x
deny | shell.outside_programs | allow | /usr/bin/../../tmp/x
deny | shell.outside_programs | allow | source /tmp/x
deny | shell.outside_programs | allow | bash /dev/stdin
deny | shell.dynamic_command | ask | $CMD x
deny | shell.dynamic_command | ask | ${x:-sudo} x
deny | shell.dynamic_command | ask | $(echo sudo) x
deny | shell.dynamic_command | ask | `echo sudo` x
deny | shell.dynamic_command | ask | su${x}do ls
deny | shell.dynamic_command | ask | su$@do ls
deny | shell.dynamic_command | ask | ls$IFS-la
deny | shell.dynamic_command | ask | /usr/bin/su?o ls
deny | shell.dynamic_command | ask | echo x | sh
deny | shell.dynamic_command | ask | bash < x
deny | shell.dynamic_command | ask | bash -s x
deny | shell.dynamic_command | ask | bash -c "$X"
deny | shell.dynamic_command | ask | bash -c '$0' ls
deny | shell.dynamic_command | ask | eval "$X"
deny | shell.dynamic_command | ask | eval ls $X
deny | shell.dynamic_command | ask | source <(echo ls)
""".strip().splitlines()
    for standard, rule, permissive, command in [line.split(" | ", 3)]
] + [
    ("deny", "shell.dynamic_command", "ask", "xargs -I{} {} x"),
    ("deny", "shell.dynamic_command", "ask", "xargs sh -c"),
    ("deny", "shell.dynamic_command", "ask", "xargs env"),
    ("deny", "shell.dynamic_command", "ask", "xargs -I{} sh -c '{}'"),
    ("deny", "shell.dynamic_command", "ask", "find . -exec {} \\;"),
    ("deny", "shell.dynamic_command", "ask", "find . -exec sh -c 'x {}' \\;"),
    ("deny", "shell.dynamic_command", "ask", "find . $x"),
    ("deny", "shell.dynamic_command", "ask", "echo ${x@P}"),
    ("deny", "shell.dynamic_command", "ask", "x='a[$(id)]'; echo $((x))"),
    ("deny", "shell.dynamic_command", "ask", "[[ -v 'a[$(id)]' ]]"),
    ("deny", "shell.dynamic_command", "ask", "test -v 'a[$(id)]'"),
    ("deny", "shell.dynamic_command", "ask", "printf -v 'a[$(id)]' x"),
    ("deny", "shell.dynamic_command", "ask", "timeout --what 5 sort"),
    ("deny", "shell.dynamic_command", "ask", "git $x"),
    ("deny", "shell.dynamic_command", "ask", "shopt -s extglob"),
    ("deny", "shell.commands", "ask", "alias ls=sudo"),
    ("deny", "shell.commands", "ask", "hash -p /tmp/x ls"),
    ("deny", "shell.syntax", "deny", "echo 'a"),
    ("deny", "shell.syntax", "deny", "{sudo,ls} x"),
    ("deny", "shell.syntax", "deny", "ls\r\nsudo x"),
    ("deny", "shell.execution_variables", "allow", "PATH=. ls"),
    ("deny", "shell.execution_variables", "allow", "export PATH=.:$PATH"),
    ("deny", "shell.execution_variables", "allow", "command export PATH=."),
    ("deny", "shell.execution_variables", "allow", "LD_PRELOAD=./x.so ls"),
    ("deny", "shell.execution_variables", "allow", "env LD_PRELOAD=./x.so ls"),
    ("deny", "shell.execution_variables", "allow", "BASH_ENV=x bash y.sh"),
    ("deny", "shell.execution_variables", "allow", "GIT_SSH_COMMAND=x git fetch"),
    ("deny", "shell.execution_variables", "allow", "GIT_EXTERNAL_DIFF=x git diff"),
    ("deny", "shell.execution_variables", "allow", "IFS=/; ls"),
    ("deny", "shell.execution_variables", "allow", "PROMPT_COMMAND=ls"),
    ("deny", "shell.hidden_command", "ask", "git -c core.pager='!x' log"),
    ("deny", "shell.hidden_command", "ask", "git -c alias.x='!ls' x"),
    ("deny", "shell.hidden_command", "ask", "git -c core.sshCommand=x fetch"),
    ("deny", "shell.hidden_command", "ask", "git --config-env=core.pager=X log"),
    ("deny", "shell.hidden_command", "ask", "git config alias.x '!ls'"),
    ("deny", "shell.hidden_command", "ask", "git config core.hooksPath x"),
    ("deny", "shell.hidden_command", "ask", "git config alias.up push"),
    ("deny", "shell.hidden_command", "ask", "git config core.pager 'log.x; ls'"),
    ("deny", "shell.hidden_command", "ask", "git config --file user.name core.pager x"),
    ("deny", "shell.hidden_command", "ask", "git config set --value log.x core.pager x"),
    ("deny", "shell.execution_variables", "allow", "NODE_OPTIONS='--require ./x' node y.js"),
    ("deny", "shell.hidden_command", "ask", "git fetch --upload-pack=x origin"),
    ("deny", "shell.hidden_command", "ask", "git clone 'ext::sh -c ls' x"),
    ("deny", "shell.hidden_command", "ask", "git clone -c core.pager=x y"),
    ("deny", "shell.hidden_command", "ask", "git grep --open-files-in-pager=x y"),
    ("deny", "shell.hidden_command", "ask", "sed '1e ls' x"),
    ("deny", "shell.hidden_command", "ask", "sed -n 1e x"),
    ("deny", "shell.hidden_command", "ask", "sed 's/a/ls/e' x"),
    ("deny", "shell.hidden_command", "ask", "awk 'BEGIN { system(\"ls\") }'"),
    ("deny", "shell.hidden_command", "ask", "awk 'BEGIN { \"ls\" | getline }'"),
    ("deny", "shell.hidden_command", "ask", "tar --checkpoint=1 --checkpoint-action=exec=ls -xf x"),
    ("ask", "shell.recursive_delete", "ask", "rm -rf src"),
    ("ask", "shell.recursive_delete", "ask", "rm -fr ."),
    ("ask", "shell.recursive_delete", "ask", "rm -R src"),
    ("ask", "shell.recursive_delete", "ask", "rm --recurs src"),
    ("ask", "shell.recursive_delete", "ask", "rm src -r"),
    ("ask", "shell.recursive_delete", "ask", "rm -rf build src"),
    ("ask", "shell.recursive_delete", "ask", "rm -rf build/../src"),
    ("ask", "shell.recursive_delete", "ask", 'rm -rf "$DIR/build"'),
    ("ask", "shell.recursive_delete", "ask", "rm -rf *"),
    ("ask", "shell.recursive_delete", "ask", "rm -rf */build"),
    ("ask", "shell.recursive_delete", "ask", "rm -rf /build"),
    ("ask", "shell.recursive_delete", "ask", "rm -rf {build,dist}"),
    ("ask", "shell.recursive_delete", "ask", "cd / && rm -rf build"),
    ("ask", "shell.recursive_delete", "ask", "find . -name x -delete"),
    ("ask", "shell.recursive_delete", "ask", "find . -exec rm {} +"),
    ("ask", "shell.recursive_delete", "ask", "git ls-files | xargs rm -f"),
    ("ask", "shell.recursive_delete", "ask", "git clean -fdx"),
    ("ask", "shell.recursive_delete", "ask", "npx rimraf src"),
    ("ask", "shell.recursive_delete", "ask", "sh -c 'rm -rf src'"),
    ("ask", "shell.git_push", "ask", "git push"),
    ("ask", "shell.git_push", "ask", "git -C sub --no-pager push origin main"),
    ("ask", "shell.git_push", "ask", "ls && git push -f"),
    ("ask", "shell.publish", "ask", "npm publish"),
    ("ask", "shell.publish", "ask", "npm --prefix x publish"),
    ("ask", "shell.publish", "ask", "cargo publish"),
    ("ask", "shell.publish", "ask", "uv publish"),
    ("ask", "shell.publish", "ask", "poetry publish --build"),
    ("ask", "shell.publish", "ask", "twine upload dist/*"),
    ("ask", "shell.publish", "ask", "python -m twine upload dist/*"),
    ("ask", "shell.publish", "ask", "uvx twine upload dist/*"),
    ("ask", "shell.publish", "ask", "python3 -mtwine upload dist/x"),
    ("ask", "shell.publish", "ask", "python3 -Im twine upload dist/x"),
    ("ask", "shell.publish", "ask", "python3 -X dev -W error -m twine upload dist/x"),
    ("ask", "shell.publish", "ask", "uv tool run twine upload dist/x"),
    ("ask", "shell.publish", "ask", "./gradlew :lib:publish"),
    ("ask", "shell.publish", "ask", "./mvnw deploy"),
    ("ask", "shell.git_push", "ask", "git rebase -ix 'git push' main"),
    ("ask", "shell.recursive_permissions", "ask", "chmod -R 755 ."),
    ("ask", "shell.recursive_permissions", "ask", "chown --recursive me ."),
    ("deny", "shell.setuid_bits", "allow", "chmod u+s x"),
    ("deny", "shell.setuid_bits", "allow", "chmod 4755 x"),
    ("deny", "shell.setuid_bits", "allow", "chmod 02755 x"),
    ("deny", "shell.setuid_bits", "allow", "install -m 4755 x y"),
    ("deny", "files.blocked_paths", "allow", "cat .env"),
    ("deny", "files.blocked_paths", "allow", "cat a/b/prod.env"),
    ("deny", "files.blocked_paths", "allow", "cat < .env"),
    ("deny", "files.blocked_paths", "allow", "cat .e*"),
    ("deny", "files.blocked_paths", "allow", 'cat ".e"nv'),
    ("deny", "files.blocked_paths", "allow", "cat prod.en?"),
    ("deny", "files.blocked_paths", "deny", "cat server.k[a-f]y"),
    ("deny", "files.blocked_paths", "allow", "git show HEAD:.env"),
    ("deny", "files.blocked_paths", "allow", "uv run --env-file=.env python x.py"),
    ("deny", "files.blocked_paths", "allow", "echo x > .git/hooks/pre-commit"),
    ("deny", "files.blocked_paths", "allow", "cd .git && echo x > hooks/pre-commit"),
    ("deny", "files.blocked_paths", "allow", "cp x .git/./hooks/"),
    ("deny", "files.blocked_paths", "deny", "cat id.pem"),
    ("deny", "files.blocked_paths", "deny", "cp ID.KEY x"),
]


@pytest.mark.parametrize("command", [*ALLOWED, "cat <<'EOF' > x.py\nprint('$(sudo)')\nEOF\nls"])
@pytest.mark.parametrize("preset", ["standard", "permissive"])
def test_everyday_commands_run(command: str, preset: str) -> None:
    verdict = shell(command, preset)
    assert verdict.decision is Answer.ALLOW, verdict


@pytest.mark.parametrize(("standard", "rule", "permissive", "command"), JUDGED)
def test_commands_are_judged_by_what_they_would_run(standard: str, rule: str, permissive: str, command: str) -> None:
    verdict = shell(command)
    assert (verdict.decision, verdict.rule) == (standard, rule), verdict
    assert verdict.reason and verdict.suggestion
    assert shell(command, "permissive").decision == permissive


@pytest.mark.parametrize("command", ["ls", "true", "", "echo 'a"])
def test_restrictive_runs_no_command(command: str) -> None:
    assert (shell(command, "restrictive").decision, shell(command, "restrictive").rule) == ("deny", "shell.mode")


_WRAPPERS: list[Callable[[str], str]] = [
    lambda inner: f"sh -c {shlex.quote(inner)}",
    lambda inner: f"bash -c {shlex.quote(inner)}",
    lambda inner: f"eval {shlex.quote(inner)}",
    lambda inner: f"env A=1 sh -c {shlex.quote(inner)}",
    lambda inner: f"echo $({inner}\n)",
    lambda inner: f'echo "$({inner}\n)"',
    lambda inner: f"ls | ({inner}\n)",
    lambda inner: f"xargs -n1 sh -c {shlex.quote(inner)}",
    lambda inner: f"if true; then {inner}\nfi",
    lambda inner: f"for x in a; do {inner}\ndone",
    lambda inner: f"f() {{ {inner}\n}}",
    lambda inner: f"ls && {inner}\nls",
    lambda inner: f"find . -exec sh -c {shlex.quote(inner)} \\;",
    lambda inner: f"timeout 5 nice -n 3 bash -c {shlex.quote(inner)}",
    lambda inner: f"cat <({inner}\n)",
    lambda inner: f"trap {shlex.quote(inner)} EXIT",
    lambda inner: f"x=$({inner}\n) ls",
]


@given(
    st.sampled_from([row[3] for row in JUDGED if row[0] == "deny"]),
    st.lists(st.sampled_from(_WRAPPERS), min_size=1, max_size=4),
)
@settings(max_examples=300, deadline=None)
def test_a_denied_command_stays_denied_however_it_is_wrapped(
    command: str, wrappers: list[Callable[[str], str]]
) -> None:
    for wrap in wrappers:
        command = wrap(command)
    assert shell(command).decision is Answer.DENY


_WIDTHS = st.fixed_dictionaries(
    {},
    optional={
        "files": st.fixed_dictionaries(
            {},
            optional={
                "access": st.sampled_from(["none", "read", "read_write"]),
                "max_file_bytes": st.integers(0, 100),
                "blocked_paths": st.lists(st.sampled_from(["*.env", ".*", "*.key"])),
            },
        ),
        "shell": st.fixed_dictionaries(
            {},
            optional={
                "mode": st.sampled_from(["none", "curated", "all"]),
                "commands": st.lists(st.sampled_from(["ls", "git", "rm", "nc", "sh", "find"])),
                "blocked": st.lists(st.sampled_from(["sudo", "nc"])),
                "build_folders": st.lists(st.sampled_from(["build", "dist"])),
                **{
                    key: st.sampled_from(["allow", "ask", "deny"])
                    for key in ("dynamic_command", "hidden_command", "execution_variables", "outside_programs")
                },
                **{
                    key: st.sampled_from(["allow", "ask", "deny"])
                    for key in ("recursive_delete", "recursive_permissions", "setuid_bits", "git_push", "publish")
                },
            },
        ),
        "secrets": st.fixed_dictionaries({}, optional={"raw_reads": st.sampled_from(["allow", "ask", "deny"])}),
        "browser": st.fixed_dictionaries(
            {},
            optional={
                "level": st.sampled_from(["none", "read", "interact", "all"]),
                "evaluate": st.sampled_from(["allow", "ask", "deny"]),
            },
        ),
        "effects": st.fixed_dictionaries({}, optional={"deletes": st.sampled_from(["allow", "ask", "deny"])}),
        "operations": st.dictionaries(
            st.sampled_from(["sandbox.shell", "storage.read"]), st.sampled_from(["allow", "ask", "deny"])
        ),
    },
)
_POLICIES = st.builds(policy_from, st.sampled_from(PRESETS), _WIDTHS)
_FACTS = st.one_of(
    st.just(NoFacts()),
    st.builds(
        FileFacts,
        st.sampled_from(["a.txt", "x/.env", "a.key", ".hidden", "dist"]),
        st.sampled_from(Access),
        st.none() | st.integers(0, 200),
        st.booleans(),
    ),
    st.sampled_from(ALLOWED + [row[3] for row in JUDGED]).map(ShellFacts),
)
_OPERATIONS = st.sampled_from(
    "sandbox.shell sandbox.write_file space.delete storage.upload job.write sandbox.launch".split()
)


def _brought_within(outer: Policy, inner: Policy) -> Policy:
    """`inner`, with the ceiling's value for each key that is wider than it."""
    table, ceiling = inner.model_dump(mode="json"), outer.model_dump(mode="json")
    while wider := policy_excess(outer, policy_from("standard", table)):
        for key in wider:
            section, _, name = key.partition(".")
            table[section][name] = ceiling[section][name]
    return policy_from("standard", table)


@given(_POLICIES, _POLICIES, _OPERATIONS, st.sampled_from(Effect), _FACTS)
@settings(max_examples=600, deadline=None)
def test_a_policy_within_another_never_says_more(
    outer: Policy, inner: Policy, operation_id: str, effect: Effect, facts: Facts
) -> None:
    inner = _brought_within(outer, inner)
    assert policy_excess(outer, inner) == []
    wide = explain(outer, operation_id=operation_id, effect=effect, facts=facts)
    narrow = explain(inner, operation_id=operation_id, effect=effect, facts=facts)
    assert narrow.decision.strictness >= wide.decision.strictness


@given(_POLICIES)
@settings(max_examples=50, deadline=None)
def test_every_policy_is_within_itself(policy: Policy) -> None:
    assert policy_excess(policy, policy) == []


@pytest.mark.parametrize(
    ("outer", "inner"), [("permissive", "standard"), ("permissive", "restrictive"), ("standard", "restrictive")]
)
def test_the_presets_are_a_chain(outer: str, inner: str) -> None:
    assert policy_excess(load_preset(outer), load_preset(inner)) == []
    assert policy_excess(load_preset(inner), load_preset(outer))


def test_the_ceiling_names_each_key_that_is_wider() -> None:
    inner = policy_from(
        "standard", {"shell": {"git_push": "allow", "blocked": []}, "files": {"max_file_bytes": 1 << 30}}
    )
    assert policy_excess(load_preset("standard"), inner) == ["files.max_file_bytes", "shell.blocked", "shell.git_push"]


@pytest.mark.parametrize(("key", "value"), [("recursive_delete", "allow"), ("build_folders", ["src"])])
def test_a_shell_that_is_off_hides_nothing_that_file_operations_are_judged_by(key: str, value: object) -> None:
    inner = policy_from("standard", {"shell": {"mode": "none", key: value}})
    assert policy_excess(load_preset("standard"), inner) == [f"shell.{key}"]


def test_a_policy_that_says_nothing_allows_nothing_but_looking() -> None:
    silent = Policy(name="silent")
    for effect in Effect:
        decision = decide(silent, operation_id="storage.put", effect=effect, facts=NoFacts())
        looking = effect in {Effect.OBSERVES, Effect.COMPOSES, Effect.GOVERNS, Effect.STARTS, Effect.ENDS}
        assert isinstance(decision, Allow if looking else Deny)
    assert shell("ls", silent).rule == "shell.mode"


@pytest.mark.parametrize(
    ("preset", "path", "access", "size", "rule"),
    [
        ("restrictive", "a.txt", Access.READ, 1, None),
        ("restrictive", "a.txt", Access.WRITE, 1, "files.access"),
        ("restrictive", "a.txt", Access.READ, 2 << 20, "files.max_file_bytes"),
        ("restrictive", "x/.hidden/a", Access.READ, 1, "files.blocked_paths"),
        ("restrictive", "./a/../b.txt", Access.READ, 1, None),
        ("standard", "a.txt", Access.WRITE, None, None),
        ("standard", "a.txt", Access.DELETE, None, None),
        ("standard", ".gitignore", Access.READ, 1, None),
        ("standard", ".env", Access.READ, 1, "files.blocked_paths"),
        ("standard", ".env.example", Access.READ, 1, None),
        ("standard", "a/PROD.ENV", Access.READ, 1, "files.blocked_paths"),
        ("standard", "a.key/b", Access.READ, 1, "files.blocked_paths"),
        ("standard", ".git/hooks/pre-commit", Access.WRITE, 1, "files.blocked_paths"),
        ("standard", "sub/.git/x/..//hooks/y", Access.WRITE, 1, "files.blocked_paths"),
        ("standard", ".git/config", Access.READ, 1, None),
        ("permissive", ".env", Access.READ, 1, None),
        ("permissive", "a.pem", Access.READ, 1, "files.blocked_paths"),
    ],
)
def test_files_are_judged_by_path_access_and_size(
    preset: str, path: str, access: Access, size: int | None, rule: str | None
) -> None:
    effect = {Access.READ: Effect.READS, Access.WRITE: Effect.WRITES, Access.DELETE: Effect.DELETES}[access]
    verdict = call(load_preset(preset), "sandbox.file", effect, FileFacts(path, access, size))
    assert (verdict.decision, verdict.rule) == (("deny", rule) if rule else ("allow", "policy"))


def test_a_recursive_delete_is_judged_alike_by_tool_and_by_shell() -> None:
    policy = load_preset("standard")
    for path, answer in (("src", Answer.ASK), ("build", Answer.ALLOW), ("pkg/node_modules/x", Answer.ALLOW)):
        facts = FileFacts(path, Access.DELETE, recursive=True)
        assert call(policy, "sandbox.delete_file", Effect.DELETES, facts).decision is answer
        assert shell(f"rm -r {path}", policy).decision is answer


@pytest.mark.parametrize(
    ("operation_id", "effect", "answers"),
    [
        ("storage.put", Effect.WRITES, "deny allow allow"),
        ("sandbox.launch", Effect.STARTS, "allow allow allow"),
        ("space.delete", Effect.ENDS, "allow allow allow"),
        ("job.write", Effect.EXECUTES, "deny allow allow"),
        ("run.list", Effect.OBSERVES, "allow allow allow"),
        ("sandbox.run_operations", Effect.COMPOSES, "allow allow allow"),
    ],
)
def test_operations_without_facts_by_preset(operation_id: str, effect: Effect, answers: str) -> None:
    assert " ".join(call(load_preset(preset), operation_id, effect).decision for preset in PRESETS) == answers


def test_an_operations_own_verdict_narrows_and_never_widens() -> None:
    policy = policy_from("standard", {"operations": {"sandbox.shell": "ask", "storage.read": "allow"}})
    assert (shell("ls", policy).decision, shell("ls", policy).rule) == ("ask", "operations.sandbox.shell")
    assert shell("sudo ls", policy).decision is Answer.DENY


def test_overrides_merge_and_null_gives_the_presets_value() -> None:
    policy = policy_from("standard", {"shell": {"timeout_s": 5, "git_push": None}, "network": None})
    assert policy.shell.timeout_s == 5
    assert policy.shell.git_push is Answer.ASK
    assert policy.network == load_preset("standard").network
    assert policy.version != load_preset("standard").version
    assert policy_from("standard", {}).version == load_preset("standard").version


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        ({"shell": {"modes": "all"}}, "shell.modes"),
        ({"shell": {"mode": "most"}}, "shell.mode"),
        ({"shell": "all"}, "shell"),
        ({"files": {"max_file_bytes": "10"}}, "files.max_file_bytes"),
        ({"files": {"max_file_bytes": True}}, "files.max_file_bytes"),
        ({"operations": {"no verb": "ask"}}, "operations"),
        ({"effects": {"reads": "maybe"}}, "effects.reads"),
    ],
)
def test_a_wrong_override_is_named(overrides: dict[str, object], key: str) -> None:
    with pytest.raises(InvalidInput, match=key):
        policy_from("standard", overrides)


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(InvalidInput, match="relaxed"):
        load_preset("relaxed")


def test_the_verdict_lists_the_commands_that_were_judged() -> None:
    assert shell("ls -l | sh -c 'wc -l'").commands == ("ls -l", "sh -c wc -l", "wc -l")
    assert "sudo tee x" in shell("ls | sudo tee x").reason


@pytest.mark.timeout(10)
@pytest.mark.parametrize(
    "command",
    [
        "ls " * 20_000,
        "ls;" * 20_000,
        "ls # c\n" * 9_000,
        "cat <<E\nx\nE\n" * 5_000,
        f"sed '{'1,' * 2_000}'",
        f"sed '{'/a/' * 1_000}'",
        f"sed 's/{chr(92) * 4_000}'",
        f"sed '{'s/' * 30_000}'",
        f"awk '{'|   ' * 1_000}'",
        f"chmod {'u+x,' * 15_000} x",
        f"git -c {'a.' * 30_000}=1 x",
        f"cat {'*' * 60_000}a",
        f"cat {'../' * 20_000}x",
        "$(ls " * 150 + ")" * 150,
        "cd a;" * 2_000 + "cat b;" * 4_000,
        "".join(f"cd {place};" for place in range(3_000)) + "cat b;" * 2_000,
        "parallel " * 15 + "x " * 25_000,
        "xargs " * 15 + "x " * 25_000,
        "find . -exec " * 15 + "x " * 25_000,
    ],
)
def test_no_command_holds_the_daemon_up(command: str) -> None:
    shell(command)


_GLOBS = st.text(st.sampled_from("ab*?."), max_size=6)


@given(_GLOBS, _GLOBS, st.lists(st.text(st.sampled_from("ab."), max_size=7), max_size=20))
@settings(deadline=None)
def test_two_patterns_meet_where_one_name_fits_both(one: str, other: str, names: list[str]) -> None:
    if any(fnmatchcase(name, one) and fnmatchcase(name, other) for name in names):
        assert globs_meet(one, other)


@pytest.mark.parametrize(
    ("one", "other", "meets"),
    [
        ("prod.en?", "*.env", True),
        ("*.p?", "*.pem", False),
        ("a*", "b*", False),
        ("", "*", True),
        ("", "?", False),
        ("*a", "b*", True),
        ("x.[e]nv", "*.env", True),
        ("ab", "a", False),
    ],
)
def test_where_two_patterns_meet(one: str, other: str, meets: bool) -> None:
    assert globs_meet(one, other) is meets and globs_meet(other, one) is meets


@pytest.mark.parametrize(
    ("facts", "rule"),
    [
        (ShellFacts("tee pre-commit", cwd=".git/hooks"), "files.blocked_paths"),
        (ShellFacts("ls", variables=("NAME", "PATH")), "shell.environment"),
        (ShellFacts("git log", variables=("GIT_PAGER",)), "shell.environment"),
    ],
)
def test_where_a_command_starts_and_what_it_is_given_counts(facts: ShellFacts, rule: str) -> None:
    found = explain(load_preset("standard"), operation_id="sandbox.shell", effect=Effect.EXECUTES, facts=facts)
    assert (found.decision, found.rule) == (Answer.DENY, rule)
    assert shell(facts.command).decision is Answer.ALLOW
