"""Process 1 of a sandbox: opens the workspace, greets the daemon, serves calls until the stream ends."""

from __future__ import annotations

import gc
import os

from mcp_spaces.sandbox.agent import calls, dialing, door, files, probe, processes, running, supervisor, trees, wire
from mcp_spaces.sandbox.agent.loop import Loop
from mcp_spaces.sandbox.agent.paths import Refused, Workspace
from mcp_spaces.sandbox.agent.proxy_ports import Proxies

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Sequence
else:
    import _signal as signal

SPARES = 2
"""Supervisors that wait for an order, so that the next command need not wait for a fork."""
TREES = {b"list": trees.list_tree, b"glob": trees.glob_tree, b"search": trees.search_tree, b"remove": trees.remove_tree}


class Agent:
    def __init__(self, root: str) -> None:
        self.root = os.fsencode(root)
        self.workspace = Workspace(root)
        self.loop = Loop(0, 1)
        self.loop.on_frame = self._on_frame
        self.calls: dict[int, calls.Call] = {}
        self.commands: dict[int, running.Running] = {}
        self.spares: list[supervisor.Supervisor] = []
        self.others: set[int] = set()
        self.env = {key: value for key, value in os.environb.items() if key not in (b"HOSTNAME", b"LC_CTYPE", b"PWD")}
        self.kills = probe.OutOfMemoryKills()
        self.subreaper = False
        self.hunting = False
        self.proxies = Proxies(self.loop, self.calls)
        self.door = door.Door(self.loop)

    def run(self) -> None:
        os.umask(0o022)
        # Process 1 is deaf to signals without a handler, and must stay so: anybody inside may send them.
        for number in (signal.SIGINT, signal.SIGPIPE):
            signal.signal(number, signal.SIG_IGN)
        woken, wake = os.pipe()
        os.set_blocking(woken, False)
        os.set_blocking(wake, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        self.loop.watch(woken, lambda: self._on_child(woken))
        processes.take_name()
        # Closes /proc/1 to the commands, which run under the same user.
        processes.prctl(processes.PR_SET_DUMPABLE, 0)
        self.subreaper = processes.prctl(processes.PR_SET_CHILD_SUBREAPER, 1)
        processes.keep_one_descriptor()
        try:
            # mkfs made it; it is empty and in the way.
            os.rmdir("lost+found", dir_fd=self.workspace.fd)
        except OSError:
            pass
        gc.collect()
        gc.freeze()
        gc.disable()
        self.loop.send(wire.HELLO, 0, wire.pack([wire.VERSION, wire.whole(int(self.subreaper))]))
        self.loop.later(0.001, self._refill)
        self.loop.run()

    def _refill(self) -> None:
        while len(self.spares) < SPARES:
            try:
                self.spares.append(supervisor.hire(self.root, self.env))
            except OSError:
                return

    def _on_child(self, woken: int) -> None:
        try:
            os.read(woken, 4096)
        except BlockingIOError:
            pass
        while True:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self._reaped(pid)

    def _reaped(self, pid: int) -> None:
        command = self.commands.pop(pid, None)
        if command is not None:
            command.on_reaped()
            command.worker.close()
            if not self.hunting:
                self.hunting = True
                self._hunt_orphans()
        self.others.discard(pid)
        for spare in list(self.spares):
            if spare.pid == pid:
                self.spares.remove(spare)
                spare.close()
                self.loop.later(0.05, self._refill)

    def _released(self, worker: supervisor.Supervisor) -> None:
        """Nothing is left of its command."""
        del self.commands[worker.pid]
        if len(self.spares) < SPARES:
            self.spares.append(worker)
        else:
            # It ends when it finds its socket closed.
            self.others.add(worker.pid)
            worker.close()

    def _hunt_orphans(self) -> None:
        """Somebody inside killed a supervisor. What it looked after are our children now, and nobody's."""
        known = {spare.pid for spare in self.spares} | set(self.commands) | self.others
        if processes.kill_orphans(known):
            self.loop.later(0.002, self._hunt_orphans)
        else:
            self.hunting = False

    def _ended(self, channel: int) -> None:
        self.calls.pop(channel, None)

    def _on_frame(self, kind: int, channel: int, payload: bytes) -> None:
        if kind == wire.OPEN:
            self._open(channel, wire.unpack(payload))
            return
        call = self.calls.get(channel)
        if call is None:
            # It ended while this frame was on its way.
            return
        if kind == wire.CONTENT:
            call.on_content(payload)
        elif kind == wire.END:
            call.on_end()
        elif kind == wire.KILL:
            call.on_kill()
        elif kind == wire.RESIZE:
            fields = wire.unpack(payload)
            call.on_resize(wire.number(fields, 0), wire.number(fields, 1))
        elif kind == wire.ROOM:
            call.on_room(wire.number(wire.unpack(payload), 0))

    def _open(self, channel: int, fields: list[bytes]) -> None:
        verb, rest = fields[0], fields[1:]
        if verb == b"run":
            self._run(channel, rest)
        elif verb == b"write":
            writing = calls.Writing(self.loop, channel, self._ended)
            self.calls[channel] = writing
            # Counted, it would be the name of what a former agent of this workspace left when it was killed.
            writing.begin(self.workspace, rest, os.urandom(8).hex().encode())
        elif verb == b"read":
            reading = calls.Reading(self.loop, channel, self._ended)
            self.calls[channel] = reading
            reading.run(files.read(self.workspace, rest, lambda piece: reading.send(wire.REPLY, piece)))
        elif verb == b"dial":
            dialled = dialing.Dialing(self.loop, channel, self._ended)
            self.calls[channel] = dialled
            dialled.begin(wire.number(rest, 0), self.proxies)
        elif verb in TREES:
            self._fork(channel, TREES[verb], rest)
        else:
            call = calls.Call(self.loop, channel, self._ended)
            try:
                call.close(wire.RESULT, wire.pack(self._answer(verb, rest)))
            except (OSError, Refused) as error:
                call.fail(error)

    def _answer(self, verb: bytes, fields: Sequence[bytes]) -> Sequence[bytes]:
        if verb == b"stat":
            return files.look(self.workspace, fields)
        if verb == b"delete":
            return files.remove(self.workspace, fields)
        if verb == b"usage":
            return [wire.whole(value) for value in (probe.memory_bytes(), probe.disk_bytes(self.root), probe.pids())]
        if verb == b"probe":
            return probe.probe(self.root, fields)
        if verb == b"ping":
            return ()
        if verb == b"open door":
            self.door.open(fields[0])
            return ()
        if verb == b"shut door":
            self.door.shut()
            return ()
        if verb == b"listen":
            return [wire.whole(self.proxies.listen(wire.number(fields, 0)))]
        if verb == b"withdraw":
            self.proxies.withdraw(wire.number(fields, 0))
            return ()
        raise Refused("unknown")

    def _fork(
        self,
        channel: int,
        operation: Callable[[Workspace, Sequence[bytes], Callable[[bytes], None]], Sequence[bytes]],
        fields: Sequence[bytes],
    ) -> None:
        call = calls.Forked(self.loop, channel, self._ended)
        self.calls[channel] = call
        call.begin(lambda report: operation(self.workspace, fields, report), self.workspace.fd)
        if call.pid > 0:
            self.others.add(call.pid)

    def _run(self, channel: int, fields: list[bytes]) -> None:
        """Fields: cwd, rows, columns (0 without a terminal), whether it is fed (1 or 0), number of arguments, arguments,
        `key=value` pairs."""
        cwd, rows, columns, fed, count = fields[0], *[wire.number(fields, at) for at in range(1, 5)]
        argv_and_pairs = fields[5:]
        if rows:
            argv_and_pairs.insert(count, b"TERM=xterm-256color")
        marker = b"" if self.subreaper else b"%d.%d" % (channel, os.getpid())
        call = calls.Call(self.loop, channel, self._ended)
        try:
            worker = self.spares.pop() if self.spares else supervisor.hire(self.root, self.env)
        except OSError as error:
            call.fail(error)
            return
        try:
            streams = running.Streams((rows, columns) if rows else None, fed=bool(fed))
        except OSError as error:
            self.spares.append(worker)
            call.fail(error)
            return
        killed_before = self.kills.count()
        try:
            order = [marker, cwd, wire.whole(int(bool(rows))), wire.whole(count)]
            worker.order(streams.theirs, order + argv_and_pairs)
        except (BrokenPipeError, ConnectionResetError):
            # Somebody inside killed the supervisor; the command's end is told when it is reaped.
            pass
        except OSError as error:
            streams.close((*streams.theirs, streams.stdin, streams.stdout, streams.stderr))
            self.spares.append(worker)
            call.fail(error)
            return
        streams.close(streams.theirs)
        # While the program starts, everything else that it needs.
        command = running.Running(
            self.loop,
            channel,
            self._ended,
            worker=worker,
            streams=streams,
            terminal=bool(rows),
            out_of_memory=lambda: self.kills.count() > killed_before,
            marker=marker,
            release=self._released,
        )
        self.calls[channel] = self.commands[worker.pid] = command
        if not self.spares:
            self.loop.later(0.001, self._refill)


def main(root: str) -> None:
    Agent(root).run()
    if os.getpid() != 1:
        # Only a fake runs the agent like this; process 1 takes its whole namespace along.
        for left in processes.kill_below(os.getpid()):
            if not left:
                break
    os._exit(0)
