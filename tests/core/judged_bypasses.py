"""Commands that do more than their first reading says: each went by unjudged once, and bash or its program ran it."""

from __future__ import annotations

# standard's answer, its rule, permissive's answer, the command
BYPASSES: list[tuple[str, str, str, str]] = [
    (standard, rule, permissive, command)
    for line in r"""
deny | shell.execution_variables | allow | (( PATH = 5 ))
deny | shell.execution_variables | allow | if ((BASH_ENV+=1)); then ls; fi
deny | shell.execution_variables | allow | echo $((1 + (ENV = 5)))
deny | shell.execution_variables | allow | echo $((PATH++))
deny | shell.execution_variables | allow | echo $((--PATH))
deny | shell.execution_variables | allow | ((x = PATH <<= 1))
deny | shell.execution_variables | allow | a[PATH=5]=1
deny | shell.execution_variables | allow | echo ${a[IFS=1]}
deny | shell.execution_variables | allow | for ((i = 0; i < 3; PATH += 1)); do ls; done
deny | shell.execution_variables | allow | [[ 'PATH=5' -eq 5 ]]
deny | shell.execution_variables | allow | [[ PATH=5 -lt 6 ]]
deny | shell.execution_variables | allow | test -v 'a[PATH=5]'
deny | shell.execution_variables | allow | let x=1 'IFS = 2'
deny | shell.execution_variables | allow | declare -i x=PATH=5
deny | shell.execution_variables | allow | unset PATH; ls
deny | shell.execution_variables | allow | builtin unset PATH; ls
deny | shell.execution_variables | allow | ls() { :; }; export -f ls; make
deny | shell.execution_variables | allow | make() { :; }; declare -fx make; bash x.sh
deny | shell.execution_variables | allow | ls() { :; }; command export -f ls; make
deny | shell.hidden_command | ask | git difftool -y HEAD
deny | shell.hidden_command | ask | git difftool --tool=x HEAD
deny | shell.hidden_command | ask | git remote-ext origin 'ls -la'
ask | shell.recursive_delete | ask | git difftool -x 'rm -rf src' HEAD
deny | shell.execution_variables | allow | make SHELL=./x
deny | shell.execution_variables | allow | gmake -j4 SHELL=/tmp/bash all
deny | shell.execution_variables | allow | make MAKEFLAGS=-e
deny | shell.execution_variables | allow | make LD_PRELOAD:=./x.so
deny | shell.hidden_command | ask | make .SHELLFLAGS=-xc
deny | shell.hidden_command | ask | make 'X=$(shell ls)'
deny | shell.hidden_command | ask | make 'X!=ls'
deny | shell.blocked | deny | make CC='sudo gcc'
deny | shell.dynamic_command | ask | make CC="$x"
ask | shell.recursive_delete | ask | make RM='rm -rf' clean
ask | shell.recursive_delete | ask | gmake -E 'rm -rf src'
ask | shell.recursive_delete | ask | while read f; do rm "$f"; done < list
ask | shell.recursive_delete | ask | git ls-files | while IFS= read -r f; do if true; then rm -- "./$f"; fi; done
ask | shell.recursive_delete | ask | until ! read f; do unlink "$f"; done
ask | shell.recursive_delete | ask | while read f; do command rm "$f"; done
ask | shell.recursive_delete | ask | for f in $(git ls-files); do rm "$f"; done
ask | shell.recursive_delete | ask | for f in `ls`; do shred -u $f; done
deny | shell.commands | ask | perf stat -e cycles rm -rf src
deny | shell.commands | ask | perf record --unheard-of rm -rf src
deny | shell.commands | ask | valgrind --leak-check=full rm -rf src
deny | shell.commands | ask | prlimit --nproc=9 rm -rf src
deny | shell.commands | ask | setarch x86_64 -R rm -rf src
deny | shell.commands | ask | linux64 rm -rf src
deny | shell.commands | ask | fakeroot git push
deny | shell.commands | ask | numactl -N 0 rm -rf src
deny | shell.commands | ask | rr record rm -rf src
deny | shell.commands | ask | ls | entr -c rm /_
deny | shell.commands | ask | ls | entr -s 'rm -rf src'
deny | shell.commands | ask | hyperfine --prepare='rm -rf src' ls
deny | shell.commands | ask | hyperfine -w 3 'ls' 'rm -rf src'
deny | shell.commands | deny | eatmydata sudo ls
deny | shell.commands | allow | perf stat -e cycles -r 5 ./app
deny | shell.commands | allow | perf record -g --call-graph dwarf ./app
deny | shell.commands | allow | perf report --stdio
deny | shell.commands | allow | valgrind -q --leak-check=full --error-exitcode=1 ./app --flag
deny | shell.commands | allow | valgrind --version
deny | shell.commands | allow | hyperfine --warmup 3 'ls -la' './app'
deny | shell.commands | allow | ls | entr -r make test
deny | shell.commands | allow | prlimit --pid 12
deny | shell.commands | allow | numactl --hardware
deny | shell.execution_variables | allow | read PATH < x; ls
deny | shell.execution_variables | allow | read -r PS4 <<< x
deny | shell.execution_variables | allow | printf -v PATH %s x; ls
deny | shell.execution_variables | allow | printf -vBASH_ENV x
deny | shell.execution_variables | allow | mapfile PS4 < x
deny | shell.execution_variables | allow | readarray LD_PRELOAD < x
deny | shell.execution_variables | allow | for PATH in . /bin; do ls; done
deny | shell.execution_variables | allow | for ENV; do ls; done
deny | shell.execution_variables | allow | select PS4 in a; do ls; done
deny | shell.execution_variables | allow | : ${PS4:=x}
deny | shell.execution_variables | allow | echo "${LD_PRELOAD=./x.so}"
deny | shell.execution_variables | allow | declare -n name=PATH; name=.
deny | shell.execution_variables | allow | local -rn name=PS4
deny | shell.execution_variables | allow | getopts ab PATH
deny | shell.execution_variables | allow | wait -p PATH
deny | shell.blocked | deny | for PAGER in 'sudo ls'; do git log; done
deny | shell.dynamic_command | ask | for x in 'a[$(id)]'; do echo $((x)); done
deny | shell.dynamic_command | ask | for x in "a[\$(id)]"; do echo $((x)); done
deny | shell.dynamic_command | ask | set -- 'a[$(id)]'; echo $(($1))
deny | shell.dynamic_command | ask | f() { echo $(($1)); }; f 'a[$(id)]'
deny | shell.dynamic_command | ask | : ${x:='a[$(id)]'}
deny | shell.dynamic_command | ask | [ -v "a[\$(id)]" ]
deny | shell.dynamic_command | ask | unset "a[\$(id)]"
deny | shell.dynamic_command | ask | declare "a[\$(id)]=1"
deny | shell.dynamic_command | ask | local "a[\`id\`]=1"
deny | shell.dynamic_command | ask | typeset -i x="a[\$(id)]"
deny | shell.outside_programs | ask | bash /dev/fd/0 < x
deny | shell.outside_programs | ask | source /proc/self/fd/0 <<< x
deny | shell.blocked | deny | bash -oo pipefail errexit -c 'sudo ls'
ask | shell.recursive_permissions | ask | find . -exec chmod 777 + -R . \;
deny | shell.blocked | deny | find . -exec xargs -a + sudo \;
deny | shell.blocked | deny | find . -exec ls {} + -exec sudo {} \;
deny | shell.blocked | deny | fd . -x echo \; -x sudo ls
deny | shell.blocked | deny | fd -Hx sudo
deny | shell.blocked | deny | fd -HX sudo
deny | files.blocked_paths | allow | env -C .git tee hooks/x
deny | files.blocked_paths | allow | env -C.git tee hooks/x
deny | files.blocked_paths | allow | env --chdir=.git tee hooks/x
deny | files.blocked_paths | allow | env --chdir .git tee hooks/x
ask | shell.recursive_delete | ask | env -C .. rm -rf build
deny | files.blocked_paths | allow | uv run --directory=.git tee hooks/x
deny | files.blocked_paths | allow | uv --directory .git run tee hooks/x
deny | files.blocked_paths | allow | fd --base-directory .git -x tee hooks/x
deny | shell.blocked | deny | uv -q run sudo
deny | shell.blocked | deny | npm -w a exec sudo
deny | shell.blocked | deny | npm --prefix=a exec sudo
deny | shell.blocked | deny | poetry -C a run sudo
deny | files.blocked_paths | allow | pnpm -C .git exec tee hooks/x
deny | shell.blocked | deny | cmake -E env A=1 sudo ls
deny | files.blocked_paths | allow | cmake -E chdir .git tee hooks/x
deny | shell.blocked | deny | cmake -E time sudo ls
ask | shell.recursive_delete | ask | cmake -E rm -rf src
ask | shell.recursive_delete | ask | cmake -E remove_directory src
ask | shell.publish | ask | coverage run -m twine upload x
ask | shell.publish | ask | corepack pnpm@9 publish
deny | shell.blocked | deny | go vet -vettool=sudo ./...
deny | shell.hidden_command | ask | gcc -wrapper sudo,ls x.c
deny | shell.commands | ask | x86_64-linux-gnu-g++-13 -wrapper sudo x.c
deny | shell.hidden_command | ask | cargo --config 'alias.x="y"' x
deny | shell.hidden_command | ask | cargo --config=target.x.runner=y run
deny | shell.hidden_command | ask | cargo --config "$X" run
deny | shell.blocked | deny | split --f='sudo ls' x
deny | shell.blocked | deny | tar --us=sudo -cf x y
deny | shell.hidden_command | ask | git -c gc.recentObjectsHook=sudo gc
deny | shell.hidden_command | ask | git config --rename-section log alias
deny | shell.hidden_command | ask | git config --global --rename-section log alias
deny | shell.hidden_command | ask | git for-each-repo --config=x.y push
deny | shell.hidden_command | ask | sed -e'1e ls' x
deny | shell.hidden_command | ask | sed -ne '1els' x
deny | shell.hidden_command | ask | sed --expression=e x
deny | shell.hidden_command | ask | sed --expr 'e' x
deny | shell.hidden_command | ask | sed -n -e p -e '1e ls' x
deny | shell.hidden_command | ask | sed '/a/Me ls' x
deny | shell.hidden_command | ask | sed '\,a,e ls' x
deny | shell.hidden_command | ask | sed 's/a/b/;te;b;:e;e' x
deny | shell.hidden_command | ask | sed -l 5 e x
deny | shell.hidden_command | ask | sed -- e x
deny | shell.hidden_command | ask | awk 'BEGIN { f = "system"; @f("ls") }'
ask | shell.recursive_delete | ask | rm -{r,f} src
ask | shell.recursive_delete | ask | rm -f$X src
ask | shell.recursive_permissions | ask | chmod -{R,v} 755 src
deny | files.blocked_paths | allow | jq -f .env x
deny | shell.dynamic_command | ask | git p`true`ush
deny | shell.dynamic_command | ask | "g"`true`it push
deny | shell.dynamic_command | ask | timeout 5 su`true`do ls
deny | shell.syntax | deny | git >&- push
deny | shell.syntax | deny | nice 2>&- sudo
deny | shell.syntax | deny | nice <&-`true`sudo
deny | shell.syntax | deny | git 2>& -push
deny | shell.syntax | deny | bash 0<<< 'sudo ls'
deny | shell.syntax | deny | sh 0<x
deny | shell.syntax | deny | <<<$ sudo
deny | shell.syntax | deny | x[0] =sudo
deny | shell.syntax | deny | x[]]=/../../usr/bin/sudo ls
deny | shell.syntax | deny | [ x]
deny | shell.blocked | deny | time 1=/../../usr/bin/sudo ls
deny | shell.syntax | deny | exec {PATH}>x; ls
deny | shell.syntax | deny | ls {BASH_ENV[0]}<x
deny | shell.syntax | deny | mkdir 1=; 1=/../../usr/bin/sudo ls
deny | shell.syntax | deny | [$(echo x)/../../usr/bin/sudo ]
deny | shell.syntax | deny | [[/../../usr/bin/sudo ]]
deny | shell.syntax | deny | {sudo,ls} x; }
deny | shell.syntax | deny | export{,=} x
deny | shell.syntax | deny | time [[ 1 -eq 'a[$(id)]' ]]
deny | shell.syntax | deny | coproc x [[ 1 -eq 'a[$(id)]' ]]
deny | shell.blocked | deny | jobs -x sudo ls
deny | shell.blocked | deny | jobs -x -- sudo ls
deny | shell.blocked | deny | jobs -r -xl -p sudo ls
deny | shell.blocked | deny | xargs --max-lines sudo ls
deny | shell.dynamic_command | ask | env -S 'git #' push
deny | files.blocked_paths | allow | list=(.env); cat ${list[0]}
deny | files.blocked_paths | allow | declare -a list=(x [1]=prod.env); cat ${list[1]}
deny | shell.blocked | deny | zip -T -TTsudo x.zip f
deny | shell.blocked | deny | zip -qTT 'sudo ls' x.zip f
deny | shell.commands | deny | tar --use-compress-program -- --to-command='sudo ls' -xf x
deny | shell.commands | deny | flock -- x -c 'sudo ls'
deny | shell.hidden_command | ask | awk '{ print | $2 }' x
deny | shell.hidden_command | ask | awk -v c=ls '{ print | c "" }' x
deny | shell.hidden_command | ask | mawk -f x.awk -W exec
deny | shell.dynamic_command | ask | env -S '"git"' push
ask | shell.git_push | ask | env -S git push
deny | shell.blocked | deny | env -S '-i a=1 sudo ls'
deny | shell.commands | allow | eval -- -- ls
deny | shell.dynamic_command | ask | mapfile -tc1 -C timeout x <<< sudo
deny | shell.dynamic_command | ask | readarray -C 'nice -n' -c 1 x < list
deny | shell.commands | deny | find . -fprintf x -exec -exec sudo ls \;
deny | shell.dynamic_command | ask | (( 'a[$(id)]' ))
deny | shell.dynamic_command | ask | a=(['b[$(id)]']=1)
deny | shell.dynamic_command | ask | a=("b[\$(id)]"); echo $((a))
deny | shell.dynamic_command | ask | set -k; make x PATH=.
deny | shell.dynamic_command | ask | set -eo keyword
deny | shell.dynamic_command | ask | set -o pipefail -H
deny | shell.dynamic_command | ask | set -o histexpand
deny | shell.dynamic_command | ask | bash -ekc 'make x PATH=.'
deny | shell.dynamic_command | ask | bash -eo histexpand -c ls
deny | shell.dynamic_command | ask | bash -O expand_aliases -c ls
deny | shell.execution_variables | ask | PS4='$(id)'; set -x; ls
deny | shell.execution_variables | allow | BASH_CMDS[ls]=./x; ls
deny | shell.execution_variables | allow | declare -A BASH_CMDS=([ls]=./x); ls
deny | shell.execution_variables | allow | read 'BASH_CMDS[ls]' <<< ./x; ls
deny | shell.execution_variables | allow | BASH_ALIASES[ls]=./x; ls
deny | shell.execution_variables | allow | export 'PATH=.'; ls
deny | shell.execution_variables | allow | declare -x "PATH"=.; ls
deny | shell.execution_variables | allow | command declare -i x=PATH=5; ls
deny | shell.execution_variables | allow | export "$x=."; ls
deny | shell.execution_variables | allow | export $x; ls
deny | shell.execution_variables | allow | declare "LD_$x=."; ls
deny | shell.execution_variables | allow | command local "BASH_$x=."; ls
deny | shell.execution_variables | allow | read -r -p x "$x" <<< .; ls
deny | shell.execution_variables | allow | mapfile -t "$x" < list; ls
deny | shell.execution_variables | allow | printf -v "$x" .; ls
deny | shell.execution_variables | allow | getopts ab "$x"; ls
deny | shell.execution_variables | allow | wait -p "$x"; ls
deny | shell.execution_variables | allow | unset "P$x"; ls
deny | shell.execution_variables | allow | declare -n name; name=PATH; name=.; ls
deny | shell.execution_variables | allow | declare -n name=$x; name=.; ls
deny | shell.commands | allow | nc() { :; }; \unset -f nc; nc x
deny | shell.commands | allow | nc() { :; }; 'unset' nc; nc x
deny | shell.commands | allow | nc() { :; }; eval 'unset -f nc'; nc x
deny | shell.commands | allow | nc() { :; }; command unset "n$x"; nc x
deny | shell.commands | allow | nc() { :; } & nc x
deny | shell.outside_programs | allow | /tmp/x() { :; }; command unset -f /tmp/x; /tmp/x
""".strip().splitlines()
    for standard, rule, permissive, command in [line.split(" | ", 3)]
]
