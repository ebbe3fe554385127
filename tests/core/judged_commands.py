"""Commands that the standard policy runs only after a yes, or not at all."""

from __future__ import annotations

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
deny | shell.outside_programs | ask | bash /dev/stdin
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
    ("deny", "shell.dynamic_command", "ask", "read 'a[$(id)]'"),
    ("deny", "shell.dynamic_command", "ask", "x='a[`id`]'; echo $((x))"),
    ("deny", "shell.dynamic_command", "ask", "x='a[${y@P}]'; echo $((x))"),
    ("deny", "shell.dynamic_command", "ask", "PAGER=$X git log"),
    ("deny", "shell.dynamic_command", "ask", 'git "--exec-path=$X" log'),
    ("deny", "shell.dynamic_command", "ask", 'git "--config-env=$X" log'),
    ("deny", "shell.dynamic_command", "ask", 'git "-$X" log'),
    ("deny", "shell.dynamic_command", "ask", "git submodule foreach $X"),
    ("deny", "shell.dynamic_command", "ask", 'git rebase -x "$X" main'),
    ("deny", "shell.outside_programs", "allow", "'~/x'"),
    ("deny", "shell.blocked", "deny", "git rebase --exe='sudo ls' main"),
    ("deny", "shell.hidden_command", "ask", "git config -e"),
    ("deny", "shell.hidden_command", "ask", "git config log$X y"),
    ("deny", "shell.hidden_command", "ask", "git grep --open x"),
    ("ask", "shell.git_push", "ask", "git --no-pager push"),
    ("ask", "shell.git_push", "ask", "git subtree push origin main"),
    ("ask", "shell.recursive_delete", "ask", 'rm -rf build/"$X"'),
    ("ask", "shell.recursive_delete", "ask", "rm -rf build$X"),
    ("ask", "shell.recursive_delete", "ask", "rm -rf build -- -src"),
    ("ask", "shell.recursive_delete", "ask", "rm --r src"),
    ("ask", "shell.recursive_delete", "ask", "cd $X && rm -rf build"),
    ("ask", "shell.recursive_delete", "ask", "find -delete"),
    ("ask", "shell.recursive_delete", "ask", "find build src -delete"),
    ("ask", "shell.recursive_delete", "ask", 'find build "$X" -delete'),
    ("ask", "shell.recursive_delete", "ask", "find . -exec rm {} build \\;"),
    ("ask", "shell.recursive_delete", "ask", "git rm -r src"),
    ("ask", "shell.recursive_delete", "ask", "git rm -r src -- --cached"),
    ("ask", "shell.recursive_delete", "ask", "git rm -r --pathspec-from-file build"),
    ("ask", "shell.recursive_delete", "ask", "git clean -fdx -e build"),
    ("ask", "shell.recursive_delete", "ask", "git clean -fdxe build"),
    ("ask", "shell.recursive_delete", "ask", "git clean -fdx -enode_modules"),
    ("ask", "shell.recursive_delete", "ask", "git clean -fdx --exclude build"),
    ("ask", "shell.recursive_delete", "ask", "git clean -fdx -e -n"),
    ("ask", "shell.recursive_delete", "ask", "git clean -fdx -e$X src build"),
    ("ask", "shell.recursive_delete", "ask", "git clean -fdx -- -n"),
    ("ask", "shell.recursive_delete", "ask", "git clean -fdx build -- -e2e"),
    ("ask", "shell.git_push", "ask", "git push -u origin main"),
    ("ask", "shell.git_push", "ask", "git -c user.name=me push"),
    ("deny", "shell.hidden_command", "ask", "git -c"),
    ("deny", "shell.hidden_command", "ask", 'git -c "log$X" log'),
    ("deny", "shell.hidden_command", "ask", "git clone -u x y"),
    ("deny", "shell.hidden_command", "ask", "git clone --config=core.pager=x y"),
    ("deny", "shell.setuid_bits", "allow", "install -m4755 x y"),
    ("deny", "shell.setuid_bits", "allow", "install --mode=4755 x y"),
    ("deny", "shell.setuid_bits", "allow", "mkdir --mode=u+s x"),
    ("deny", "shell.dynamic_command", "ask", "env --what ls"),
    ("deny", "shell.dynamic_command", "ask", "env $X"),
    ("deny", "shell.dynamic_command", "ask", "env -S 'ls $X'"),
    ("deny", "shell.dynamic_command", "ask", 'trap "$X" EXIT'),
    ("deny", "shell.dynamic_command", "ask", "shopt -s extdebug"),
    ("deny", "shell.dynamic_command", "ask", "fd -x"),
    ("deny", "shell.dynamic_command", "ask", "fd -xrm"),
    ("deny", "shell.dynamic_command", "ask", "fd --exec=rm x"),
    ("deny", "shell.dynamic_command", "ask", "bash --rcfile x y"),
    ("deny", "shell.dynamic_command", "ask", "bash -i"),
    ("deny", "shell.dynamic_command", "ask", "bash $X"),
    ("deny", "shell.dynamic_command", "ask", "bash -c"),
    ("deny", "shell.dynamic_command", "ask", "sort --compress-program"),
    ("deny", "shell.dynamic_command", "ask", "find . -exec"),
    ("deny", "shell.blocked", "deny", "xargs -I % sudo %"),
    ("deny", "shell.blocked", "deny", "python -W -m sudo"),
    ("deny", "shell.blocked", "deny", "bash --posix -c 'sudo ls'"),
    ("deny", "shell.blocked", "deny", "bash -o pipefail -c 'sudo ls'"),
    ("deny", "shell.blocked", "deny", "bash -- sudo"),
    ("deny", "shell.blocked", "deny", "command -p sudo"),
    ("deny", "shell.blocked", "deny", "coproc X=1 sudo ls"),
    ("deny", "shell.blocked", "deny", "go test -exec=sudo ./..."),
    ("deny", "shell.blocked", "deny", "tar -czI sudo -f x"),
    ("deny", "shell.execution_variables", "allow", "env -- A=1 PATH=. ls"),
    ("ask", "shell.recursive_delete", "ask", "xargs --replace=X rm X"),
    ("ask", "shell.recursive_delete", "ask", "find . -exec env rm {} \\;"),
    ("ask", "shell.recursive_delete", "ask", "find . -exec nice timeout 5 /bin/rm {} +"),
    ("ask", "shell.recursive_delete", "ask", "find . -exec sh -c 'rm \"$1\"' x {} \\;"),
    ("ask", "shell.recursive_delete", "ask", "find . -name x -print0 | xargs -0 env A=1 unlink"),
    ("ask", "shell.recursive_delete", "ask", "nice xargs timeout 5 sh -c 'shred -u \"$@\"' x"),
    ("ask", "shell.recursive_delete", "ask", "fd . -x command rm"),
    ("ask", "shell.recursive_delete", "ask", "rg --pre rm x"),
    ("ask", "shell.recursive_delete", "ask", "mapfile -C rm -c 1 < x"),
    ("ask", "shell.recursive_delete", "ask", "find . -exec git submodule foreach 'rm x' \\;"),
    ("deny", "shell.commands", "ask", "parallel {} ::: a"),
    ("deny", "shell.commands", "ask", "parallel"),
    ("deny", "shell.commands", "allow", "parallel -j 4 ls ::: a"),
    ("deny", "shell.commands", "allow", "watch -n 2 ls"),
    ("deny", "shell.commands", "allow", "watch"),
    ("deny", "shell.commands", "allow", "hash -r"),
    ("deny", "shell.commands", "ask", "ssh -o ProxyCommand=x host"),
    ("deny", "shell.commands", "ask", "scp -o proxycommand=x a b"),
    ("deny", "shell.commands", "deny", "rsync --rsh=sudo a b"),
    ("deny", "shell.commands", "deny", "make --eval 'x: ; sudo ls'"),
    ("deny", "files.blocked_paths", "allow", "FILE=.env; ls"),
    ("deny", "files.blocked_paths", "allow", "grep -f.git/hooks/x y"),
    ("deny", "files.blocked_paths", "allow", "tar -x --file=.git/hooks/x"),
    ("deny", "files.blocked_paths", "allow", "gcc @.git/hooks/x"),
    ("deny", "files.blocked_paths", "allow", "git show HEAD:.git/hooks/x"),
    ("deny", "files.blocked_paths", "allow", "tar -cf a,.git/hooks/x"),
    ("deny", "files.blocked_paths", "allow", "bash .env"),
    ("deny", "files.blocked_paths", "allow", "git commit .env"),
    ("deny", "files.blocked_paths", "allow", "git commit film .env"),
    ("deny", "files.blocked_paths", "allow", "git commit --confirm .env"),
    ("deny", "files.blocked_paths", "allow", "git -C .git show hooks/pre-commit"),
]
