# SPDX-License-Identifier: Apache-2.0
"""Processor time and memory where no control group holds a jail: crewd does, from outside, whatever is in it tries.  As root
with the host's control groups these hold as well, by the kernel's means."""

import time

import crewd
import pytest
from crewlib import Crew, agent_status, eventually, go, state_of
from test_crew_causes import ended, rpc_crew
from test_crew_limits import enforcers, hits, limits_of, total

# Its own time and that of its children.  (A task's own clock: it stands still with it only as far as it is not a wall clock.)
SPIN = """import resource
def spin(seconds):
    t = time.monotonic()
    while time.monotonic() - t < seconds: pass
def used():
    return sum(u.ru_utime + u.ru_stime for u in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))
"""


# One of many that share a busy processor gets more than that, and is held.
SMALL = "cpu: 0.01"


def cpu_of(running, agent):
    return agent_status(running.client(), agent).cpu_ns / 1e9


def grouped(crew, agent, kind):
    return f"cgroup-{kind}" in enforcers(crew, agent)


def test_one_that_spins(runner):
    crew = Crew(runner).agent("a", limits="cpu: 0.3").agent("b", limits="cpu: 0.3").agent("c")
    with crew.start() as running:
        client = running.client()
        tasks = {"a": client.submit(agent="a", description=SPIN + "spin(4); out(used())"),
                 # Two at a time, which get no more together.
                 "b": client.submit(agent="b", description=SPIN + "p = os.fork()\nspin(4)\nif p == 0: os._exit(0)\n"
                                                                  "os.waitpid(p, 0); out(used())"),
                 # What one gets that nobody holds: on a busy machine not much.
                 "c": client.submit(agent="c", description=SPIN + "spin(4); out(used())")}
        used = {name: t.result(60) for name, t in tasks.items()}
        rows = {name: limits_of(client, name)["cpu"] for name in "ab"}
        for name in "ab":
            if used["c"] > 2:
                eventually(lambda: hits(crew, name, "cpu"))
            assert rows[name].max == 300 and rows[name].by == ("cgroup" if grouped(crew, name, "cpu") else "crewd")
            # One that was stopped at its very end may have spun a little less, and one that crewd was late for a little more.
            assert 0.4 * min(4 * 0.3, used["c"]) < used[name] < 4 * 0.3 * 1.4 + 0.5, used
        assert not hits(crew, "c", "cpu")
        assert state_of(client, "a") == crewd.AgentState.READY


# It has itself continued each millisecond: a signal of a timer is sent by the kernel, to whoever stands still.  A stop takes
# those with it that are on their way just then, so it has several, and sets them again and again.
CONTINUED = """import ctypes
class Sigevent(ctypes.Structure): _fields_ = [("value", ctypes.c_long), ("signo", ctypes.c_int), ("notify", ctypes.c_int), ("pad", ctypes.c_char * 64)]
class Spec(ctypes.Structure): _fields_ = [("times", ctypes.c_long * 4)]
libc = ctypes.CDLL(None, use_errno=True)
# A handler of libc's, with SA_RESTART, which Python's have not: where rootless evidence watches an open, a signal that comes
# before crew-evidence has taken notice ends that open with EINTR, and import does not ask again.
libc.signal(signal.SIGCONT, ctypes.cast(libc.abs, ctypes.c_void_p))
timers = [ctypes.c_long() for i in range(8)]
for timer in timers:
    assert libc.timer_create(1, ctypes.byref(Sigevent(0, signal.SIGCONT, 0)), ctypes.byref(timer)) == 0
t = time.monotonic()
while time.monotonic() - t < 12:
    for i, timer in enumerate(timers):
        assert libc.timer_settime(timer, 0, ctypes.byref(Spec((0, 1000000, 0, 1000000 + 100000 * i))), None) == 0
"""


def test_one_that_has_itself_continued(runner):
    """It is ended, for it is not to be held, unless it was held all the same."""
    crew = rpc_crew(runner, "a", "b")
    crew.files["a.yaml"] = crew.files["a.yaml"].replace("wall_time: 60s", "wall_time: 60s, cpu: 0.1")
    with crew.start() as running:
        client = running.client()
        by_group = grouped(crew, "a", "cpu")
        done = client.submit(agent="a", description=CONTINUED + SPIN + "result = used()").wait(60)
        if done.outcome == crewd.Outcome.OK:  # what it got away with is less than the second after which it is ended
            assert float(done.result) < 12 * 0.1 * 1.5 + (0 if by_group else 1.3), done
            return
        end = ended(crew, "a")
        assert done.outcome == crewd.Outcome.TERMINATED, done
        assert (end["cause"], end.get("limit")) == ("limit", "cpu"), end["reason"]
        assert end["reason"] == "it ran on although it was stopped for what it had used beyond limits.cpu (0.100)"
        assert client.submit(agent="b", description="result = 1").result(60) == 1


def test_time_that_nobody_counts(runner):
    """Children whose parent ignores their end are in no process's account."""
    code = ("signal.signal(signal.SIGCHLD, signal.SIG_IGN)\nt = time.monotonic()\nn = 0\n"
            "while time.monotonic() - t < 8:\n    if os.fork() == 0:\n        e = time.process_time()\n"
            "        while time.process_time() - e < 0.004: pass\n        os._exit(0)\n    n += 1\n    time.sleep(0.005)\nout(n)")
    crew = Crew(runner).agent("a", limits=SMALL)
    with crew.start() as running:
        client = running.client()
        n = client.submit(agent="a", description=code).result(60)
        # 4 ms each; unbounded it would be at least one each 10 ms, 3.2 s in all.
        assert n * 0.004 < 1.6, n
        eventually(lambda: hits(crew, "a", "cpu"), timeout=60)


def test_who_stood_still_before_does_so_after(runner):
    code = SPIN + ("p = os.fork()\nif p == 0:\n    os.kill(os.getpid(), signal.SIGSTOP)\n    os._exit(7)\n"
                   "os.waitpid(p, os.WUNTRACED)\nspin(2)\ntime.sleep(1)\nstate = open(f'/proc/{p}/stat').read().split()[2]\n"
                   "os.kill(p, signal.SIGKILL); out(state)")
    crew = Crew(runner).agent("a", limits="cpu: 0.05")
    with crew.start() as running:
        client = running.client()
        assert client.submit(agent="a", description=code).result(60) == "T"
        eventually(lambda: hits(crew, "a", "cpu"))


def test_frozen_meanwhile(runner):
    """An operator's freeze is not undone when what was owed is made up for."""
    crew = Crew(runner).agent("a", limits=SMALL)
    with crew.start() as running:
        client = running.client()
        task = client.submit(agent="a", description="while not os.path.exists(os.environ['CREW_STATE'] + '/go'): pass\nout(1)")
        eventually(lambda: hits(crew, "a", "cpu"), timeout=60)
        assert runner.crewctl("kill", "--agent", "a", "--freeze").returncode == 0
        time.sleep(1.5)  # status may be of the second before
        before = cpu_of(running, "a")
        time.sleep(3)
        assert cpu_of(running, "a") - before < 0.02
        go(crew, "a")
        assert runner.crewctl("thaw", "--agent", "a").returncode == 0
        assert task.result(60) == 1


def test_too_much_memory(runner):
    """The largest process is killed, whatever kind of memory it holds; the cause is the same as in a control group."""
    grow = ("import mmap\nm = mmap.mmap(-1, 300 << 20, mmap.MAP_SHARED | mmap.MAP_ANONYMOUS)\n"
            "for i in range(0, 300 << 20, 4096): m[i] = 1\ntime.sleep(30)")
    crew = rpc_crew(runner, "a").agent("b").agent("c")
    with crew.start() as running:
        client = running.client()
        by_group = grouped(crew, "a", "memory")
        ok = client.submit(agent="c", description="x = bytearray(200 << 20)\nx[::4096] = b'x' * len(x[::4096])\ntime.sleep(2)\nout(1)")
        with pytest.raises(crewd.AgentTerminated) as e:
            client.submit(agent="a", description="x = bytearray(300 << 20)\nx[::4096] = b'x' * len(x[::4096])\ntime.sleep(30)").result(60)
        assert (e.value.cause, e.value.record.limit) == (crewd.Cause.OOM, "memory")
        end = ended(crew, "a")
        assert (end["cause"], end["limit"], end["initiator"]) == ("out of memory", "memory", "kernel" if by_group else "crewd")
        done = client.submit(agent="b", description=grow).wait(60)
        assert (done.outcome, done.error) == (crewd.Outcome.FAILED, "out of memory: limits.memory is 262144 KiB")
        eventually(lambda: total(hits(crew, "b", "memory")) == 1)
        killed = client.submit(agent="b", description="os.kill(os.getpid(), signal.SIGKILL)").wait(60)
        assert killed.outcome == crewd.Outcome.FAILED and killed.error.startswith("killed by SIGKILL, not by us")
        assert state_of(client, "b") == crewd.AgentState.READY
        assert client.submit(agent="b", description="out(2)").result(60) == 2
        assert ok.result(60) == 1 and not hits(crew, "c", "memory")
        eventually(lambda: hits(crew, "a", "memory"))
        assert total(hits(crew, "a", "memory")) == 1 == total(hits(crew, "b", "memory"))
        assert limits_of(client, "b")["memory"].by == ("cgroup" if by_group else "crewd and rlimit")


def test_changed_while_it_runs(runner):
    crew = Crew(runner).agent("a")
    with crew.start() as running:
        client = running.client()
        text = crew.files["a.yaml"].replace("wall_time: 60s", "wall_time: 60s, cpu: 0.2")
        (crew.top / "a.yaml").write_text(text)
        r = runner.crewctl("policy", "reload", "--agent", "a")
        assert r.returncode == 0 and "restart" not in r.stdout, r.stdout + r.stderr
        assert client.submit(agent="a", description=SPIN + "spin(4); out(used())").result(60) < 4 * 0.2 * 1.4 + 0.5
        assert agent_status(client, "a").incarnation == 1


def test_what_is_swapped_out_is_still_held(runner):
    if len(open("/proc/swaps").readlines()) < 2:
        pytest.skip("no swap here")
    code = ("import mmap\nm = [mmap.mmap(-1, 8 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) for i in range(45)]\n"
            "for x in m:\n    x[::4096] = b'x' * len(x[::4096])\n    x.madvise(21)\ntime.sleep(10)\nout(1)")
    crew = Crew(runner).agent("a")
    with crew.start() as running:
        client = running.client()
        if grouped(crew, "a", "memory"):
            return  # the group says itself whether swap counts
        done = client.submit(agent="a", description=code).wait(60)
        assert (done.outcome, done.error) == (crewd.Outcome.FAILED, "out of memory: limits.memory is 262144 KiB")
