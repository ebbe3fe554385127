"""Commands that run under the standard policy, and under the permissive one."""

from __future__ import annotations

ALLOWED = """
i=0; while ((i < 3)); do echo $((i++)); done
(( count += 1 )); echo "$(( (count + 3) / 4 ))"
for ((i = 0; i < 3; i++)); do echo "${a[i]}"; done
if (( ENV == 5 || PATH <= 3 )); then ls; fi
[[ $line == PATH=* && -n $x ]] && echo yes
[[ $count -eq 5 ]] && echo yes
let count+=1
find . -name "$x" -print
count[${ids[0]}]=1; count[${ids[0]}]+=2
awk -F'|' '{ print $1 "|" $2 }' x
awk "/$pattern/ { n++ } END { print n / NR }" x
cp build/`basename x`.o "$dir"/`date +%s`
ls 2>&-; exec 3>&-
[ -n "$x" ]&&ls
time [ -f x ]
jobs -l; jobs %1
set -euo pipefail; set +H +o histexpand; set -- -H
bash -euO globstar -o pipefail -c 'ls **'
export "cfg_$x=1" x; printf -v "count_$x" %s 1; unset "cache_$x" "list[$i]"
read -rp "$question" -t "$seconds" answer; declare -p "$x"; declare -f "$x"
while getopts "$letters" letter "$@"; do echo "$letter"; done; wait "$x"
show() { local -n list=$1; echo "${list[@]}"; }; show x
build() { ls; }; unset CI; build
unset -f "$x"
declare -i count=0; unset count IFS
build() { make -j4; }; declare -f build; build
git difftool --tool-help
make SHELL=/bin/bash test
make SHELL=bash -j4 CC=clang CXX='clang++ -std=c++20' CFLAGS='-O2 -Wall' V=1
make CC=gcc-13 PREFIX=/usr DESTDIR="$PWD/out" install
make OBJ='$(SRC:.c=.o)' VERSION=$(git describe)
while read -r f; do echo "$f"; done < list
while read -r line; do rm -f tmp.txt; done < list
for f in *.pyc; do rm "$f"; done
for f in a.o b.o; do rm -f "$f"; done
tmp=$(mktemp); ls > "$tmp"; rm "$tmp"
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
echo .env
echo PATH=/usr/bin
touch e
printf '%s\\n' 'echo $(date)'
grep 'a.k?y' notes.txt
[[ $x == 'a b' ]]
export PATH
PAGER= git log
cd src && rm -rf build
rm -- -r
rm --force a
find build -name '*.o' -delete
sed --sandbox '1e ls' x
chmod u-s x
git
env
env FOO=1
env -- ls
env -u X ls
env --unset=X ls
env -C /tmp ls
shopt -s nullglob
trap - EXIT
trap -l
command -V ls
command -pv sudo
python -c 'x' -m sudo
python x.py -m sudo
python - -m sudo
bash --version
bash - x
xargs -d , ls
xargs -i ls {}
find . -name '*.c' -newer x
git --version
git "--git-dir=$X" status
git -C "$X" status
git init
git clone https://example.com/x.git copy
git stash push -m wip
git commit -c HEAD
git -c user.name="$X" commit -m x
git clone -c http.postBuffer=1 x
git commit -am 'Ignore .env'
git commit --message 'Ignore .env'
git commit --message='Ignore .env'
git commit -m'Ignore .env'
git tag v1 -m 'Ignore .env'
git config core.pager
git config get core.pager
git config --get-all core.pager x
git rebase --exec 'make test' main
git rm x
git rm -r build
git rm -r --cached src
git clean
git clean -ndx
git clean -fdx node_modules
git clean -dfx -e '*.local' build
git clean -dfx --exclude=local.txt build
sed -n '1,5p' x
sed -i.bak -E 's/(a|b)/\\1/' x
sed -e 's/a/b/g' -e '/e/d' export.txt
sed -ne '/start/,/end/p' x
sed ':a;N;$!ba;s/\\n/ /g' x
sed '/x/i export A=1' x
sed 's/{else}/;e /; 5q' x
sed --in-place=.bak 's|e|f|w out' e
sed -f e.sed x
sed "/$X/d" x
sed -l 5 -n l x
sed --line-length=5 --expression=p --file=x y
read -r -p 'Name: ' name
printf -v out '%s' x
: "${x:=5}"
for x in a "$b" c; do echo "$x"; done
set -euo pipefail
set -- a b
wait $!
getopts ab option
declare -n name=value
export -n name=value
env -C build make
env -C src ls
uv --quiet run pytest
npm -w a run build
npm --prefix a test
cmake -E make_directory build
cmake -E rm -rf build
cmake -E chdir src ls
cmake --build build
cargo --config net.offline=true build
cargo build --config 'net.retry=3'
gcc -Wall x.c
coverage run -m pytest
coverage report -m
fd -e txt -x wc -l
fd -tx
fd --base-directory src -e py
find . -name x -exec grep y {} + -print
find build -exec rm build/x \\;
jq -f filter.jq x
split -l 5 --numeric-suffixes x
corepack npm ci
""".strip().splitlines()
