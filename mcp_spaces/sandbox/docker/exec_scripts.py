"""What the fallback runs inside an image that has a POSIX shell, GNU coreutils, findutils and grep, and no Python.

Paths arrive as arguments, never inside a script. A refusal is the last line of stderr, `refused:` and a word of
`refusals.py`; content goes through stdin and stdout.
"""

from __future__ import annotations

MAIN = "exec 3<&0; cat <&3 >/dev/null & wait"
"""Process 1: lives as long as its stdin. `wait` also reaps orphans, which a shell in a builtin would not."""

TERMINAL = 'stty rows "$1" cols "$2"; shift 2; '
COMMAND = 'cd -- "/workspace/$1" 2>/dev/null || exit 1; shift; exec "$@"'

_COMMON = """
refuse() { echo "refused:$1" >&2; exit 1; }
# `$1`: the way may hold links, and has to end inside. Sets `real`.
inside() {
  real=$(readlink -m -- "$1"; echo .)
  # Without its end there was no process to ask in.
  case "$real" in *.) real=${real%??} ;; *) exit 126 ;; esac
  case "$real/" in /workspace/*) ;; *) refuse outside ;; esac
  [ -L "$real" ] && refuse link_loop
  [ -e "$real" ] || refuse absent
}
readable() { [ -r "$real" ] && { [ ! -d "$real" ] || [ -x "$real" ]; } || refuse forbidden; }
# `$1`, below the workspace: no link on the way to the last name. Sets `real`.
straight() {
  rest=$1; real=/workspace
  while :; do
    case "$rest" in */*) name=${rest%%/*}; rest=${rest#*/} ;; *) break ;; esac
    step "$name"
    [ -L "$real" ] && refuse link
    if [ ! -d "$real" ]; then
      [ -e "$real" ] && refuse not_folder
      [ "$2" = make ] || refuse absent
      mkdir -- "$real" 2>/dev/null || [ -d "$real" ] || no_room
    fi
  done
  step "$rest"
}
step() {
  case "$1" in
    ''|.) ;;
    ..) [ "$real" = /workspace ] && refuse outside; real=${real%/*} ;;
    *) real=$real/$1 ;;
  esac
}
described() { stat -c '%n|%F|%s|%Y|%a' -- "$1" || refuse absent; }
# Blocks or inodes are used up, or else it is not allowed. Some file systems count no inodes.
no_room() {
  set -- $(stat -f -c '%a %c %d' /workspace)
  [ "$1" -lt 16 ] && refuse full
  [ "$2" -gt 0 ] && [ "$3" -eq 0 ] && refuse full
  refuse forbidden
}
"""

FOLDER = _COMMON + 'inside "/workspace/$1"; [ -d "$real" ] || refuse not_folder'

STAT = _COMMON + 'inside "/workspace/$1"; described "$real"'

READ = (
    _COMMON
    + """
inside "/workspace/$1"
[ -d "$real" ] && refuse folder
[ -f "$real" ] || refuse not_regular
readable
stat -c '%s' -- "$real"; stat -c '%i %s %y %z' -- "$real"; printf '%s\\0' "$real"
tail -c "+$(($2 + 1))" -- "$real" | head -c "$3"
"""
)

WRITE = (
    _COMMON
    + """
make=make; [ -n "$3" ] && make=
straight "$1" "$make"
{ [ -d "$real" ] && [ ! -L "$real" ]; } && refuse folder
[ "$real" = /workspace ] && refuse folder
[ -L "$real" ] && refuse link
{ [ -e "$real" ] && [ ! -f "$real" ]; } && refuse not_regular
{ [ -e "$real" ] && [ "$2" = 0 ] && [ -z "$3" ]; } && refuse exists
{ [ -n "$3" ] && [ ! -e "$real" ]; } && refuse changed
part=${real%/*}/.mcp-spaces-part-$$-$4
trap 'rm -f -- "$part"' EXIT
head -c "$5" > "$part" 2>/dev/null || no_room
[ "$(stat -c %s -- "$part")" = "$5" ] || no_room
if [ -e "$real" ]; then chmod --reference="$real" -- "$part"; else chmod 644 -- "$part"; fi
if [ -n "$3" ]; then
  sum=$(sha256sum < "$real"); [ "${sum%% *}" = "$3" ] || refuse changed
fi
if [ "$2" = 0 ] && [ -z "$3" ]; then ln -T -- "$part" "$real" 2>/dev/null || refuse exists
else mv -fT -- "$part" "$real" || refuse forbidden; fi
described "$real"
"""
)

UNDO_WRITE = """
case "$1" in */*) cd -- "${1%/*}" 2>/dev/null || exit 0 ;; esac
rm -f -- .mcp-spaces-part-*-"$2"
"""

DELETE = (
    _COMMON
    + """
straight "$1" no
[ "$real" = /workspace ] && refuse root
[ -e "$real" ] || [ -L "$real" ] || refuse absent
if [ -d "$real" ] && [ ! -L "$real" ]; then
  [ "$2" = 1 ] || refuse folder
  # One at a time: what is in it can be looked at only afterwards.
  find "$real" -type d ! -perm -700 -exec chmod u+rwx -- {} \\; 2>/dev/null
  count=$(find "$real" -printf x | wc -c)
  rm -rf -- "$real" || refuse not_empty
else
  count=1
  rm -f -- "$real" || refuse forbidden
fi
echo "$count"
"""
)

LIST = (
    _COMMON
    + """
inside "/workspace/$1"
[ -d "$real" ] || refuse not_folder
readable
find "$real" -mindepth 1 -maxdepth "$2" ! -name '.mcp-spaces-part-*' -printf '%p|%y|%s|%T@|%m\\0' 2>/dev/null
exit 0
"""
)

FILES = """
find /workspace -mindepth 1 -name .git -prune -o -type f ! -name '.mcp-spaces-part-*' -printf '%p|%y|%s|%T@|%m\\0' 2>/dev/null
exit 0
"""

SEARCH = (
    _COMMON
    + """
inside "/workspace/$2"
{ [ -d "$real" ] || [ -f "$real" ]; } || refuse not_regular
readable
: | grep -P -e "$1" >/dev/null 2>&1; [ $? = 2 ] && refuse expression
find "$real" -name .git ! -samefile "$real" -prune -o -type f ! -name '.mcp-spaces-part-*' -size -10485761c -print0 2>/dev/null |
  LC_ALL=C.UTF-8 xargs -0 -r grep -nsIHPZ -e "$1" -- 2>/tmp/.search-$$
grep -q PCRE /tmp/.search-$$ && { rm -f /tmp/.search-$$; refuse limit; }
rm -f /tmp/.search-$$
find "$real" -name .git ! -samefile "$real" -prune -o -type f ! -name '.mcp-spaces-part-*' -size +10485760c -print0 2>/dev/null |
  LC_ALL=C xargs -0 -r grep -scIHZ -m 1 -e '' --
exit 0
"""
)

# `$parents` has a line for each process: /proc/7/status:PPid:1
_DESCENDANTS = """
  grown=$found
  while [ -n "$grown" ]; do
    next=
    for line in $parents; do
      pid=${line#/proc/}; pid=${pid%%/*}; parent=${line##*:}
      case " $grown " in *" $parent "*) case " $found " in *" $pid "*) ;; *) next="$next $pid"; found="$found $pid" ;; esac ;; esac
    done
    grown=$next
  done
  kill -9 $found 2>/dev/null
"""

KILL = (
    """
while :; do
  found=
  # Of each thread: a process whose first one has ended shows none of its own.
  for file in $(grep -ls -e "MCP_SPACES_COMMAND=$1" /proc/[0-9]*/task/[0-9]*/environ 2>/dev/null); do
    pid=${file#/proc/}; found="$found ${pid%%/*}"
  done
  [ -z "$found" ] && exit 0
  parents=$(grep -H '^PPid:' /proc/[0-9]*/status 2>/dev/null | tr -d ' \\t')
"""
    + _DESCENDANTS
    + "done"
)

KILL_ALONE = (
    """
while :; do
  found= parents=
  for folder in /proc/[0-9]*; do
    for file in $folder/task/[0-9]*/environ; do
      while read -r line || [ -n "$line" ]; do
        case $line in *"MCP_SPACES_COMMAND=$1"*) found="$found ${folder#/proc/}"; break 2 ;; esac
      done < $file
    done
    while read -r name parent; do
      [ "$name" = PPid: ] && { parents="$parents $folder/status:PPid:$parent"; break; }
    done < $folder/status
  done
  [ -z "$found" ] && exit 0
"""
    + _DESCENDANTS
    + "done 2>/dev/null"
)
"""The same where no process is left for grep: slower, and by the shell alone."""

_FIRST = """
first() { for file; do [ -r "$file" ] && { cat "$file"; return; }; done; echo 0; }
"""

USAGE = (
    _FIRST
    + """
first /sys/fs/cgroup/memory.current /sys/fs/cgroup/memory/memory.usage_in_bytes
df -B1 -P /workspace | { read -r _; read -r _ _ used _; echo "$used"; }
first /sys/fs/cgroup/pids.current /sys/fs/cgroup/pids/pids.current
"""
)

# By the shell alone, since there may be no process left for another program.
OUT_OF_MEMORY = """
for file in /sys/fs/cgroup/memory.events /sys/fs/cgroup/memory/memory.oom_control; do
  [ -r $file ] && while read -r line; do echo "$line"; done < $file
done
exit 0
"""

# mkfs made lost+found; it is empty and in the way. A write that was killed with its sandbox left its part, and nobody
# writes yet; in a large workspace what is not found in that time is found at a later start.
FACTS = (
    _FIRST
    + """
rmdir /workspace/lost+found 2>/dev/null
timeout 20 find /workspace -xdev -type f -regex '.*/\\.mcp-spaces-part-[0-9]+-[0-9a-f]+' -delete >/dev/null 2>&1
echo "interfaces=$(sed 1,2d /proc/net/dev | while read -r name _; do printf '%s,' "${name%:}"; done)"
while read -r name value _; do
  case "$name" in CapEff:|CapPrm:|CapBnd:|CapAmb:|CapInh:|NoNewPrivs:|Seccomp:) echo "${name%:}=$value" ;; esac
done < /proc/self/status
while read -r name a b c _; do
  case "$name" in Uid:) echo "uid=$a,$b,$c" ;; Gid:) echo "gid=$a,$b,$c" ;; esac
done < /proc/self/status
read -r name < /proc/1/comm; echo "pid=$([ "$name" = sh ] && echo 1)"
while read -r _ at _ options _; do
  case "$at" in
    /) case ",$options," in *,ro,*) echo root_read_only=1 ;; esac ;;
    /workspace) case ",$options," in *,nosuid,nodev,*) echo workspace_flags=1,1 ;; esac ;;
  esac
done < /proc/mounts
[ -w /workspace ] && echo workspace_writable=1
echo "routes=$(sed 1d /proc/net/route | wc -l)"
echo "memory_limit=$(first /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes)"
echo "pids_limit=$(first /sys/fs/cgroup/pids.max /sys/fs/cgroup/pids/pids.max)"
set -- $(first /sys/fs/cgroup/cpu.max /sys/fs/cgroup/cpu/cpu.cfs_quota_us) $(first /sys/fs/cgroup/cpu/cpu.cfs_period_us)
case "$1" in max|-*|0) ;; *) echo "cpu_limit=$(($1 * 1000 / $2))" ;; esac
"""
)
