# SPDX-License-Identifier: Apache-2.0
"""A state directory has a version, and a command in the agent's own jail brings it up to date: whole, or not at all."""

import json
import os
import signal
import subprocess
import tarfile
import time

import pytest

import crewd
from crewlib import Crew, agent_status, alive, eventually, outside, state_of
from egresslib import Tcp, echo

PUT = "open(os.environ['CREW_STATE'] + '/n', 'w').write('one'); out(1)"
SHOW = "s = os.environ['CREW_STATE']\nout({n: open(s + '/' + n).read() for n in sorted(os.listdir(s)) if os.path.isfile(s + '/' + n)})"
# The files: what they say, and who has written them.
UP = """import os, sys
s = os.environ['CREW_STATE']
text = open(s + '/n').read()
open(s + '/n', 'w').write(text + ' %s>%s' % (os.environ['CREW_STATE_FROM'], os.environ['CREW_STATE_TO']))
print('migrating', text)
"""


def top(crew, agent="a"):
    return crew.runner.home / "lib" / crew.name / "state" / agent


def version(crew, agent="a"):
    path = top(crew).parent / f"{agent}.version"
    return path.read_text() if path.exists() else None


def beside(crew):
    """What is there beside the directory itself; what was put aside is removed sooner or later."""
    return sorted(n for n in os.listdir(top(crew).parent) if not n.startswith(".old-"))


def make(runner, number=None, migrate=None, **keys):
    crew = Crew(runner)
    if number:
        keys["state"] = {"version": number}
    if migrate:
        keys["state"]["migrate"] = ["python3", "${CREW_DIR}/migrate.py"]
        crew.files["migrate.py"] = migrate
    timeout = keys.pop("timeout", None)
    if timeout:
        keys["state"]["timeout"] = timeout
    return crew.agent("a", **keys).agent("b")


def fill(crew, code=PUT):
    with crew.start() as running:
        assert running.client().submit(agent="a", description=code).result(60) == 1


def refused(crew):
    """A crew that does not start, for its first agent."""
    running = crew.start(wait=False)
    try:
        assert running.proc.wait(60) == 1, running.log()
        return running.log()
    finally:
        running.stop()


def show(crew):
    with crew.start() as running:
        return running.client().submit(agent="a", description=SHOW).result(60)


def test_versions_follow_one_another(runner):
    fill(make(runner))
    assert version(make(runner)) is None
    crew = make(runner, 2, UP)
    assert show(crew) == {"n": "one 0>2"} and version(crew) == "2\n"
    [r] = crew.records("a", "state.migrated")
    assert (r["version"], r["to_version"]) == (0, 2)
    assert any(s.get("tool") == "migrate" and s["text"] == "migrating one\n" for s in crew.records("a", "agent.stderr"))
    # It is what it should be: nothing is run again.
    assert show(crew) == {"n": "one 0>2"}
    crew = make(runner, 5, UP)
    assert show(crew) == {"n": "one 0>2 2>5"} and version(crew) == "5\n"
    assert len(crew.records("a", "state.migrated")) == 2
    st = os.stat(top(crew) / "n")
    assert st.st_uid == os.stat(crew.top).st_uid
    eventually(lambda: sorted(os.listdir(top(crew).parent)) == ["a", "a.lock", "a.version", "b", "b.lock"])
    assert runner.crewctl("audit", "verify").returncode == 0


def test_one_that_begins_with_nothing_has_the_version_at_once(runner):
    crew = make(runner, 3, "raise SystemExit('not needed')")
    assert show(crew) == {} and version(crew) == "3\n" and not crew.records("a", "state.migrated")


def test_another_version_without_a_way_there_is_refused(runner):
    fill(make(runner, 2))
    log = refused(make(runner, 3))
    assert "is of version 2, the crew file wants 3, and has no `migrate`" in log and "crewctl state reset --agent a" in log
    log = refused(make(runner, 1, UP))
    assert "is of version 2, and the crew file's is older, 1" in log
    assert "is of version 2, and the crew file's is not given" in refused(make(runner))
    crew = make(runner, 2)
    assert show(crew) == {"n": "one"} and version(crew) == "2\n"
    # One way out that was named.
    crew = make(runner, 3)
    assert runner.crewctl("state", "reset", "--agent", "a", "--yes").returncode == 0
    assert show(crew) == {} and version(crew) == "3\n"


def test_it_has_no_network_no_tools_and_no_others(runner):
    code = """
import json, socket, subprocess
def dial(*at):
    try:
        socket.create_connection(at, timeout=3)
        return 'connected'
    except OSError as e:
        return type(e).__name__
def call(*args):
    r = subprocess.run(['crew-call', *args], input='{}', text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    return [r.returncode, r.stdout]
def note():
    with socket.socket(socket.AF_UNIX) as c:
        c.connect(os.environ['CREW_SOCKET'])
        c.sendall(b'{"jsonrpc":"2.0","method":"crew/send","params":{"target":"b","payload":1}}\\n{"jsonrpc":"2.0","id":1,"method":"ping"}\\n')
        return json.loads(c.makefile().readline())
seen = {'net': [dial('one.migrate.test', 80), dial('198.18.0.1', 80), dial('192.0.2.1', 80)], 'send': call('send', 'b'), 'note': note(), 'tool': call('tool', 'echo'), 'uid': os.getuid(),
        'host': os.path.exists('/etc/shadow') and os.access('/etc/shadow', os.W_OK), 'other': os.path.exists(%r)}
open(s + '/seen', 'w').write(json.dumps(seen))
"""
    plain = make(runner)
    fill(plain)
    crew = make(runner, 2, UP + code % str(top(plain, "b")), targets=["b"], tools=["echo"])
    crew.tool("echo", "#!/bin/sh\ncat\n")
    with Tcp(echo) as server:  # the agent itself may go there
        crew.files["a.yaml"] = crew.files["a.yaml"].replace("{deny_all: true}", '{allowed_endpoints: ["one.migrate.test:80"]}')
        crew.extra = f'endpoints:\n  "one.migrate.test:80": {{connect_to: "{server.address}"}}\n'
        dial = "import socket; socket.create_connection(('one.migrate.test', 80), timeout=5); " + SHOW
        with crew.start() as running:
            seen = json.loads(running.client().submit(agent="a", description=dial).result(60)["seen"])
    assert "connected" not in seen["net"] and seen["uid"] == 1000 and not seen["host"] and not seen["other"]
    for what in ("send", "tool"):
        status, said = seen[what]
        assert status == 3 and "is being migrated" in said, said
    assert seen["note"]["id"] == 1 and "is being migrated" in crew.records("a", "message.sent")[0]["reason"]
    assert not crew.records("a", "tool.call") and not crew.records("b", "message.received")


ORDERS = [["agents"], ["submit", "a"], ["release", "lead"], ["wait", "t-1"], ["result", "t-1"], ["cancel", "t-1"],
          ["reprioritise", "t-1"], ["terminations"], ["seen", "1"], ["spawn", "a"], ["retire", "a#2"]]


def test_that_of_a_manager_gives_no_orders(runner):
    code = """
import json, subprocess
said = [subprocess.run(['crew-call', *words], input='{"priority": 1}' if words[0] == 'reprioritise' else '{}', text=True,
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE) for words in %r]
open(s + '/seen', 'w').write(json.dumps([[r.returncode, r.stdout] for r in said]))
"""
    def crew_of(**state):
        crew = Crew(runner).agent("boss", targets=["a"], **state).agent("a", max_instances=2).task("lead", "boss", PUT)
        crew.process = "hierarchical\nmanager: {agent: boss}"
        crew.files["migrate.py"] = UP + code % ORDERS
        return crew
    with crew_of().start() as running:
        running.client().run()
    crew = crew_of(state={"version": 2, "migrate": ["python3", "${CREW_DIR}/migrate.py"]})
    with crew.start() as running:
        shown = running.client().submit(agent="boss", description=SHOW).result(60)
    answers = json.loads(shown["seen"])
    assert len(answers) == len(ORDERS) and not crew.records("boss", "manager.order")
    for words, (status, said) in zip(ORDERS, answers):
        assert status == 3 and "is being migrated" in said, (words, said)


HOSTILE = {
    "exit": ("raise SystemExit('no such schema')", "exit status 1: no such schema"),
    "signal": ("os.kill(os.getpid(), 9)", "signal 9"),
    "timeout": ("time.sleep(600)", "no end within 1500 ms"),
    "deaf": ("signal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(600)", "no end within 1500 ms"),
    # On a fast machine its memory ends before its time.
    "fork bomb": ("while True:\n    try:\n        os.fork()\n    except OSError:\n        pass", "no end within 1500 ms|signal 9"),
    "worker": ("for pid in (1, os.getppid(), -1):\n    for sig in (15, 19, 9):\n        try:\n            os.kill(pid, sig)\n"
               "        except OSError:\n            pass\nraise SystemExit(7)", "exit status 7"),
    "output": ("for i in range(20000): print('x' * 1000)\nraise SystemExit('enough')", "exit status 1: enough"),
    "too large": ("open(s + '/big', 'wb').write(b'x' * (8 << 20))", "state_max is 4096 KiB"),
    "too large for long": ("open(s + '/big', 'wb').write(b'x' * (8 << 20))\nimport time; time.sleep(20)", "state_max is 4096 KiB"),
    "absent": (None, "exit status 2"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_failure_leaves_everything_as_it_was(runner, case):
    code, why = HOSTILE[case]
    keep = ("s = os.environ['CREW_STATE']\nos.makedirs(s + '/d/e'); open(s + '/d/e/f', 'w').write('deep')\n"
            "os.symlink('/etc/passwd', s + '/link'); open(s + '/x', 'w').close(); os.chmod(s + '/x', 0o755)\n" + PUT)
    plain = make(runner)
    fill(plain, keep)
    before = snapshot(top(plain))
    mess = "import os, sys, time, signal\ns = os.environ['CREW_STATE']\nos.unlink(s + '/n'); os.rename(s + '/d', s + '/gone')\n"
    crew = make(runner, 2, mess + code if code else UP, timeout="1500ms" if "no end" in why else "60s",
                state_max="4MiB", limits="output: 64MiB")
    if code is None:
        crew.agents["a"]["state"]["migrate"] = ["python3", "/no/such/file.py"]
    log = refused(crew)
    assert f"is still of version 0, as it was: migrating it to 2 failed: " in log and any(w in log for w in why.split("|")), log
    assert snapshot(top(crew)) == before and version(crew) is None
    [r] = crew.records("a", "state.migrate_failed")
    assert any(w in r["reason"] for w in why.split("|")) and (r["version"], r["to_version"]) == (0, 2)
    end = crew.records("a", "agent.terminated")[-1]
    assert (end["cause"], end["action"]) == ("start failed", "fail_task")
    said = [s for s in crew.records("a", "agent.stderr") if s.get("tool") == "migrate"]
    assert sum(len(s["text"]) for s in said) <= 65536 and (case != "output" or any(s.get("dropped") for s in said))
    # The agent runs as before, and nothing is left of the attempt.
    with make(runner).start() as running:
        read = "out(open(os.environ['CREW_STATE'] + '/n').read())"
        assert running.client().submit(agent="a", description=read).result(60) == "one"
    assert snapshot(top(crew)) == before
    eventually(lambda: beside(crew) == sorted(os.listdir(top(crew).parent)))


def snapshot(path):
    found = {}
    for p in sorted(path.rglob("*")):
        st = p.lstat()
        found[str(p.relative_to(path))] = (st.st_ino, oct(st.st_mode), st.st_mtime_ns,
                                           os.readlink(p) if p.is_symlink() else p.read_bytes() if p.is_file() else None)
    return found


def test_links_lead_nowhere(runner):
    """What the agent left, and what the command leaves: no link is followed, on neither side of the copy."""
    secret = runner.tree({"secret": "top"}, name="outside") / "secret"
    keep = (f"s = os.environ['CREW_STATE']\nos.symlink({str(secret)!r}, s + '/l'); os.symlink('/', s + '/root')\n"
            "open(s + '/h', 'w').write('h'); os.link(s + '/h', s + '/h2')\n"
            "os.mkfifo(s + '/pipe')\nf = open(s + '/sparse', 'wb'); f.truncate(1 << 22); f.close()\n" + PUT)
    fill(make(runner, limits="output: 8MiB"), keep)
    code = ("import os\ns = os.environ['CREW_STATE']\nassert os.stat(s + '/h').st_nlink == 1\n"
            "assert os.path.getsize(s + '/sparse') == 1 << 22 and os.stat(s + '/sparse').st_blocks < 64\n"
            "assert os.readlink(s + '/root') == '/'\nos.symlink('/etc', s + '/etc'); os.unlink(s + '/l')\n"
            f"os.symlink({str(secret)!r}, s + '/l2')\n"
            "assert not os.path.exists(s + '/pipe')\n"
            "try:\n    os.mknod(s + '/dev', 0o20666, os.makedev(1, 3)); raise SystemExit('made a device')\nexcept OSError: pass\n")
    crew = make(runner, 2, code, limits="output: 8MiB")
    with crew.start() as running:
        names = "out(sorted(os.listdir(os.environ['CREW_STATE'])))"
        assert set(running.client().submit(agent="a", description=names).result(60)) >= {"h", "h2", "n", "sparse"}
    assert os.readlink(top(crew) / "l2") == str(secret) and secret.read_text() == "top"
    assert sorted(os.listdir(top(crew))) == ["etc", "h", "h2", "l2", "n", "root", "sparse"]


def test_a_crash_in_the_middle_changes_nothing(runner):
    fill(make(runner))
    crew = make(runner, 2, "import os, time\ns = os.environ['CREW_STATE']\nos.unlink(s + '/n')\nopen(s + '/up', 'w').close()\n"
                           "time.sleep(600)\n")
    before = snapshot(top(crew))
    running = crew.start(wait=False)
    eventually(lambda: list(top(crew).parent.glob(".old-*/up")) if runner.mode == "root" or os.geteuid() == 0 else True)
    tree = outside(running.proc.pid)
    running.proc.send_signal(signal.SIGKILL)
    running.proc.wait()
    eventually(lambda: not alive(tree))
    assert snapshot(top(crew)) == before and version(crew) is None
    crew = make(runner, 2, UP)
    assert show(crew) == {"n": "one 0>2"} and len(crew.records("a", "state.migrated")) == 1
    eventually(lambda: beside(crew) == sorted(os.listdir(top(crew).parent)))


@pytest.mark.parametrize("loss", ["terminate", "hold"])
def test_what_was_done_and_not_said_is_said_at_the_next_start(runner, loss):
    fill(make(runner))
    crew = make(runner, 1, UP)
    crew.extra = f"on_supervisor_loss: {loss}\n"
    assert show(crew) == {"n": "one 0>1"} and version(crew) == "1\n"
    assert len(crew.records("a", "state.migrated")) == 1
    # As crewd leaves it that is killed when the directory has just taken its place.
    there = top(crew).stat()
    (top(crew).parent / "a.version").write_text(f"0 1 {there.st_dev} {there.st_ino} unsaid\n")
    for _ in range(2):
        assert show(crew) == {"n": "one 0>1"} and version(crew) == "1\n"
        [_, found] = crew.records("a", "state.migrated")
        assert (found["version"], found["to_version"]) == (0, 1) and "crewd before" in found["reason"]


def test_killed_around_it_a_migration_is_done_once_and_said(runner):
    crew = make(runner)
    crew.extra = "on_supervisor_loss: hold\n"
    fill(crew)
    for number in range(1, 9):
        crew = make(runner, number, UP)
        crew.extra = "on_supervisor_loss: hold\n"
        running = crew.start(wait=False)
        # On a busy machine it may be over before anybody looks.
        eventually(lambda: any(n.startswith(".old-") for n in os.listdir(top(crew).parent)) or version(crew) == f"{number}\n")
        time.sleep(0.05 + 0.02 * number)
        running.proc.kill()
        running.proc.wait()
        text = show(crew)["n"].split()
        assert text == ["one"] + [f"{k}>{k + 1}" for k in range(number)], text
        said = [(r["version"], r["to_version"]) for r in crew.records("a", "state.migrated")]
        assert set(said) == {(k, k + 1) for k in range(number)} and said.count((number - 1, number)) <= 2


def test_a_stop_in_the_middle_stops_it(runner):
    fill(make(runner))
    crew = make(runner, 2, "import time\nprint('at it', flush=True)\ntime.sleep(600)\n")
    before = snapshot(top(crew))
    running = crew.start(wait=False)
    eventually(lambda: list(top(crew).parent.glob(".old-*")))
    time.sleep(1)
    running.stop(timeout=20)
    assert not crew.records("a", "state.migrated")
    assert snapshot(top(crew)) == before and version(crew) is None and show(make(runner)) == {"n": "one"}


def test_a_new_version_comes_with_a_restart(runner):
    """The directory is brought up to date when the next instance begins, and a failure then is for good."""
    fill(make(runner))
    crew = make(runner, 2, UP, restart={"max": 3, "within": "60s"})
    with crew.start() as running:
        client = running.client()
        assert client.submit(agent="a", description=SHOW).result(60) == {"n": "one 0>2"}
        # What crewd holds against a directory that changed under it: the version is looked at with each start.
        (top(crew).parent / "a.version").write_text("1\n")
        client.kill("a")
        eventually(lambda: state_of(client, "a") == crewd.AgentState.READY)
        assert client.submit(agent="a", description=SHOW).result(60) == {"n": "one 0>2 1>2"}
        (top(crew).parent / "a.version").write_text("1\n")
        (crew.top / "migrate.py").write_text("raise SystemExit('broken')\n")
        client.kill("a")
        [end] = eventually(lambda: [r for r in crew.records("a", "agent.terminated") if r["cause"] == "start failed"])
        eventually(lambda: state_of(client, "a") == crewd.AgentState.TERMINATED)
        assert state_of(client, "b") == crewd.AgentState.READY
        assert "exit status 1: broken" in end["reason"]
    assert show(make(runner, 1)) == {"n": "one 0>2 1>2"}


def test_archives_carry_the_version(runner):
    crew = make(runner, 2)
    fill(crew)
    old, new, none = (runner.home / n for n in ("old.tar", "new.tar", "none.tar"))

    def listed():
        rows = json.loads(runner.crewctl("state", "list", "--json", check=True).stdout)["state"]
        return {r["agent"]: r["version"] for r in rows}

    assert listed() == {"a": 2, "b": 0}
    runner.crewctl("state", "export", "--agent", "a", old, check=True)
    with tarfile.open(old) as tar:
        assert tar.pax_headers == {"CREWD.state.version": "2"} and tar.getnames() == ["n"]
    assert show(make(runner, 3, UP)) == {"n": "one 2>3"}
    runner.crewctl("state", "export", "--agent", "a", new, check=True)
    runner.crewctl("state", "import", "--agent", "a", old, check=True)
    assert listed()["a"] == 2 and show(make(runner, 3, UP)) == {"n": "one 2>3"}
    # To another agent that had none, and from an archive that does not say.
    runner.crewctl("state", "import", "--agent", "b", new, check=True)
    assert listed() == {"a": 3, "b": 3} and (top(crew, "b") / "n").read_text() == "one 2>3"
    runner.crewctl("state", "reset", "--agent", "b", "--yes", check=True)
    with tarfile.open(none, "w", format=tarfile.PAX_FORMAT) as tar:
        tar.add(top(crew) / "n", "n")
    os.chmod(none, 0o644)
    runner.crewctl("state", "import", "--agent", "a", none, check=True)
    assert listed()["a"] == 0 and version(crew) in (None, "0\n")
    assert show(make(runner, 4, UP)) == {"n": "one 2>3 0>4"}
    runner.crewctl("state", "reset", "--agent", "a", "--yes", check=True)
    assert version(crew) is None
    with tarfile.open(none, "w", format=tarfile.PAX_FORMAT, pax_headers={"CREWD.state.version": "many"}) as tar:
        tar.addfile(tarfile.TarInfo("x"))
    r = runner.crewctl("state", "import", "--agent", "a", none)
    assert r.returncode == 2 and "a version that is no number" in r.stderr and "nothing was changed" in r.stderr
    assert b"VERSION" in runner.crewctl("state", "list", check=True).stdout.encode()


def test_what_the_crew_file_may_say(runner):
    def check(state):
        crew = Crew(runner).agent("a", state=state)
        crew.write()
        r = runner.crewctl("policy", "check", crew.top / "crew.yaml")
        return r.returncode, r.stdout + r.stderr

    assert check({"version": 1})[0] == 0
    for state, what in (({}, "missing key 'version'"), ({"version": 0}, "out of range"), ({"version": "x"}, "expected"),
                        ({"version": 1, "timeout": "5s"}, "'timeout' without 'migrate' limits nothing"),
                        ({"version": 1, "migrat": []}, "did you mean 'migrate'"), ("kept", "known: keep, fresh"),
                        ({"version": 1, "migrate": ["/no/such/program"]}, "a"),
                        ({"version": 1, "migrate": ["nosuchprogram"]}, "there is no program 'nosuchprogram'")):
        status, text = check(state)
        assert status == 2 and what in text, (state, status, text)


# --- a changed crew file for a crew that runs ---

def in_state(client, agent="a"):
    return client.submit(agent=agent, description=SHOW).result(60)


def to_version(crew, number, migrate=UP):
    """The running crew's file asks for another version."""
    keys = {"version": number, "migrate": ["python3", "${CREW_DIR}/migrate.py"]}
    if migrate:
        (crew.top / "migrate.py").write_text(migrate)
    path = crew.top / "crew.yaml"
    doc = [line if not line.startswith("  a: ") else
           "  a: " + json.dumps({**json.loads(line[5:]), "state": keys}) + "\n" for line in path.read_text().splitlines(True)]
    path.write_text("".join(doc))
    crew.runner.own(crew.top)


def break_b(crew):
    path = crew.top / "crew.yaml"
    path.write_text(path.read_text().replace('  b: {"policy": "b.yaml", "command": ["python3", ',
                                             '  b: {"policy": "b.yaml", "driver": "stdio-rpc", "command": ["false", '))


def test_what_is_too_large_to_copy_stays(runner):
    fill(make(runner, state_max="16MiB", limits="output: 64MiB"),
         "open(os.environ['CREW_STATE'] + '/big', 'wb').write(b'x' * (8 << 20))\n" + PUT)
    crew = make(runner, 2, UP, state_max="4MiB")
    before = snapshot(top(crew))
    log = refused(crew)
    assert "is still of version 0, as it was" in log and "a copy would hold more than state_max" in log, log
    assert snapshot(top(crew)) == before and version(crew) is None
    eventually(lambda: beside(crew) == sorted(os.listdir(top(crew).parent)))


@pytest.mark.skipif(os.geteuid() != 0, reason="a file system of its own needs root")
@pytest.mark.parametrize("who", ["copy", "command"])
def test_a_full_disk_changes_nothing(runner, who):
    lib = runner.home / "lib"
    lib.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m,mode=0755", "tmpfs", lib], check=True)
    try:
        runner.own(lib)
        fill(make(runner, state_max="64MiB", limits="output: 64MiB"),
             f"open(os.environ['CREW_STATE'] + '/big', 'wb').write(b'x' * ({14 if who == 'copy' else 4} << 20))\n" + PUT)
        greedy = UP + "\nf = open(s + '/more', 'wb')\nwhile True: f.write(b'y' * (1 << 20)); f.flush()\n"
        crew = make(runner, 2, UP if who == "copy" else greedy, state_max="64MiB", limits="output: 64MiB")
        before = snapshot(top(crew))
        log = refused(crew)
        assert "is still of version 0, as it was" in log and "No space left on device" in log, log
        assert snapshot(top(crew)) == before and version(crew) is None
        # There is room again, and nothing is left of it.
        eventually(lambda: beside(crew) == sorted(os.listdir(top(crew).parent)))
        crew = make(runner, state_max="64MiB", limits="output: 64MiB")
        with crew.start() as running:
            assert running.client().submit(agent="a", description="out(sorted(os.listdir(os.environ['CREW_STATE'])))"
                                           ).result(60) == ["big", "n"]
        assert runner.crewctl("audit", "verify").returncode == 0
    finally:
        runner.stop_all()
        subprocess.run(["umount", "-l", lib], check=True)


@pytest.mark.parametrize("after", [0, 0.05, 0.2])
def test_a_kill_at_any_moment_leaves_the_one_or_the_other(runner, after):
    """While it is copied, while the command runs, while what it left is looked at: never something in between, and no start."""
    many = "for i in range(1000): open(os.environ['CREW_STATE'] + '/%d' % i, 'w').close()\n"
    crew = make(runner, 1)
    fill(crew, many + PUT)
    with crew.start() as running:
        client, other = running.client(), running.client()
        to_version(crew, 2, UP + "\nfor i in range(1000): os.rename(s + '/%d' % i, s + '/m%d' % i)\n")
        before = snapshot(top(crew))
        seq = other._send("apply_crew", crewd.codec.Message("ApplyCrew", grace_ms=1000))
        eventually(lambda: agent_status(client, "a").incarnation >= 2, every=0.005)  # on a busy machine it may be over
        time.sleep(after)
        client.kill("a", "now")
        outcome = other._answer(seq, ("crew_applied",), 60)[1].outcome
        done = outcome == crewd.codec.ENUMS["ApplyOutcome"]["DONE"]
        eventually(lambda: state_of(client, "a") in (crewd.AgentState.READY, crewd.AgentState.TERMINATED))
        ends = [r["cause"] for r in crew.records("a", "agent.terminated")]
        assert "operator" in ends, ends
        if done:  # it had started by then
            assert version(crew) == "2\n" and (top(crew) / "m999").exists() and not (top(crew) / "0").exists()
        else:
            assert snapshot(top(crew)) == before and version(crew) == "1\n"
            assert in_state(client)["n"] == "one"
        eventually(lambda: beside(crew) == sorted(os.listdir(top(crew).parent)))
    assert runner.crewctl("audit", "verify").returncode == 0


@pytest.mark.parametrize("state", ["up", "down", "new"])
def test_what_a_changed_file_has_migrated_is_taken_back_with_it(runner, state):
    crew = make(runner, 1)
    fill(crew)
    with crew.start() as running:
        client = running.client()
        good = (crew.top / "crew.yaml").read_text()
        if state == "down":
            client.stop_agent("a", 5000)
        elif state == "new":  # its name comes back
            (crew.top / "crew.yaml").write_text("".join(x for x in good.splitlines(True) if not x.startswith("  a: ")))
            assert runner.crewctl("up", crew.top / "crew.yaml").returncode == 0
            (crew.top / "crew.yaml").write_text(good)
        before = snapshot(top(crew))
        to_version(crew, 2)
        break_b(crew)
        r = runner.crewctl("up", "--json", crew.top / "crew.yaml")
        answer = json.loads(r.stdout)
        assert r.returncode == 1 and answer["outcome"] == "undone" and "agent b" in answer["error"], r.stdout
        assert not any(a["error"] for a in answer["agents"])
        assert [(m["version"], m["to_version"]) for m in crew.records("a", "state.migrated")] == [(1, 2), (2, 1)]
        assert snapshot(top(crew)) == before and version(crew) == "1\n"
        (crew.top / "crew.yaml").write_text(good)
        if state == "up":
            assert in_state(client) == {"n": "one"}
        # And with a file that works out it is done for good.
        to_version(crew, 2)
        r = runner.crewctl("up", crew.top / "crew.yaml")
        assert r.returncode == 0, r.stderr
        assert in_state(client) == {"n": "one 1>2"} and version(crew) == "2\n"
        eventually(lambda: beside(crew) == sorted(os.listdir(top(crew).parent)))
    assert runner.crewctl("audit", "verify").returncode == 0


def test_a_changed_file_whose_migration_fails_is_taken_back(runner):
    crew = make(runner, 1)
    fill(crew)
    with crew.start() as running:
        client = running.client()
        before = snapshot(top(crew))
        to_version(crew, 2, "raise SystemExit('no such schema')")
        r = runner.crewctl("up", crew.top / "crew.yaml")
        assert r.returncode == 1 and "no such schema" in r.stderr and "everything is as it was" in r.stderr
        assert snapshot(top(crew)) == before and version(crew) == "1\n"
        assert in_state(client) == {"n": "one"}


def test_an_archive_that_was_imported_meanwhile_stays(runner):
    """What is taken back is what the migration has made, and nothing that an operator has put in its place."""
    crew = make(runner, 1)
    fill(crew)
    with crew.start() as running:
        client, other = running.client(), running.client()
        archive = crew.runner.home / "a.tar"
        runner.crewctl("state", "export", "--agent", "a", archive, check=True)
        before = snapshot(top(crew))["n"]
        busy = client.submit(agent="b", description="time.sleep(600)")
        eventually(lambda: state_of(client, "b") == crewd.AgentState.WORKING)
        to_version(crew, 2)
        break_b(crew)
        seq = other._send("apply_crew", crewd.codec.Message("ApplyCrew", grace_ms=600000))
        eventually(lambda: crew.records("a", "state.migrated"))
        eventually(lambda: agent_status(client, "a").incarnation == 3 and state_of(client, "a") == crewd.AgentState.READY)
        client.stop_agent("a", 5000)
        runner.crewctl("state", "import", "--agent", "a", archive, check=True)
        busy.cancel("let it be restarted")
        assert other._answer(seq, ("crew_applied",), 60)[1].outcome == crewd.codec.ENUMS["ApplyOutcome"]["UNDONE"]
        assert in_state(client) == {"n": "one"} and version(crew) == "1\n"
        assert snapshot(top(crew))["n"] != before
        assert [(m["version"], m["to_version"]) for m in crew.records("a", "state.migrated")] == [(1, 2)]
        eventually(lambda: beside(crew) == sorted(os.listdir(top(crew).parent)))
