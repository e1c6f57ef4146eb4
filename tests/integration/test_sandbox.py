# SPDX-License-Identifier: Apache-2.0
"""crewctl sandbox: one command, its streams, its status, its files."""

import contextlib
import errno
import os
import shutil
import signal
import socket
import stat
import subprocess
import threading
import time
from pathlib import Path

import pytest

from crewlib import eventually

CLONE3 = 435

POLICY = """
agent: {name}
sandbox:
  mode: deny-by-default
  filesystem: {{read: [{read}], write: [{write}], exec: [{exec}]}}
  network: {network}
"""


def policy(runner, name="boxed", read=(), write=(), exec=(), network="{deny_all: true}"):
    def quoted(paths):
        return ", ".join(f'"{p}"' for p in paths)

    path = runner.home / f"{name}.yaml"
    path.write_text(POLICY.format(name=name, read=quoted(read), write=quoted(write), exec=quoted(exec), network=network))
    return runner.own(path)


@pytest.fixture
def sandbox(runner):
    def run(*command, policy_file=None, options=(), **kw):
        file = policy_file or policy(runner)
        return runner.crewctl("sandbox", "--policy", file, *options, "--", *command, **kw)

    return run


@pytest.mark.parametrize("status", [0, 1, 7, 125, 255])
def test_status_is_passed_on(sandbox, status):
    assert sandbox("sh", "-c", f"exit {status}").returncode == status


def test_death_by_signal_is_128_plus_n(sandbox):
    assert sandbox("sh", "-c", "kill -TERM $$").returncode == 128 + signal.SIGTERM
    assert sandbox("python3", "-c", "import os; os.abort()").returncode == 128 + signal.SIGABRT


def test_absent_command_is_127(sandbox):
    r = sandbox("no-such-command")
    assert (r.returncode, r.stderr) == (127, "crewctl: sandbox: no-such-command: command not found\n")


def test_command_outside_the_runtime_is_126(sandbox, runner):
    prog = runner.home / "prog"
    prog.write_text("#!/bin/sh\n")
    prog.chmod(0o755)
    r = sandbox(prog)
    assert r.returncode == 126
    assert "neither in the runtime nor in filesystem.exec" in r.stderr


def test_file_that_is_no_program_is_126(sandbox):
    r = sandbox("/usr/share/common-licenses/GPL-3")
    assert r.returncode == 126
    assert "Permission denied" in r.stderr


def test_streams_are_attached_and_stay_apart(sandbox):
    r = sandbox("sh", "-c", "cat; echo oops >&2", input="through\n")
    assert (r.returncode, r.stdout, r.stderr) == (0, "through\n", "oops\n")


def test_large_output_and_input_are_whole(sandbox):
    text = "0123456789abcde\n" * 65536
    assert sandbox("cat", input=text).stdout == text


def test_nothing_is_inherited(sandbox, runner):
    r = sandbox("env", env={"SECRET_TOKEN": "x", "LD_PRELOAD": ""})
    assert dict(line.split("=", 1) for line in r.stdout.splitlines()) == {
        "PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/home/agent", "TMPDIR": "/tmp", "LANG": "C.UTF-8",
        "CREW_AGENT": "boxed"}


def test_setenv_adds_and_replaces(sandbox):
    r = sandbox("env", options=("--setenv", "A=1", "--setenv", "B=x=y", "--setenv", "LANG=C"))
    env = dict(line.split("=", 1) for line in r.stdout.splitlines())
    assert (env["A"], env["B"], env["LANG"]) == ("1", "x=y", "C")
    assert r.stdout.count("LANG=") == 1
    assert sandbox("env", options=("--setenv", "novalue")).returncode == 125


def test_inherited_descriptor_does_not_reach_the_command(sandbox, runner):
    with open("/etc/passwd", encoding="utf-8") as f:
        fd = f.fileno()
        r = sandbox("sh", "-c", "ls /proc/self/fd", pass_fds=(fd,))
    assert r.stdout.split() == ["0", "1", "2", "3"]  # 3: ls reading the directory


def test_refusal_reads_as_in_any_program(sandbox):
    r = sandbox("python3", "-c", 'open("/etc/shadow")')
    assert r.returncode == 1
    assert r.stderr.endswith("PermissionError: [Errno 13] Permission denied: '/etc/shadow'\n")


def test_what_it_writes_belongs_to_the_operator(sandbox, runner):
    out = runner.home / "out"
    file = policy(runner, write=[f"{out}/"])
    r = sandbox("sh", "-c", f"umask; echo result > {out}/file; id -u", policy_file=file)
    assert (r.returncode, r.stdout) == (0, "0022\n1000\n"), r.stderr
    st, top = (out / "file").stat(), out.stat()
    assert (out / "file").read_text() == "result\n"
    assert st.st_uid == top.st_uid == runner.home.stat().st_uid
    assert stat.S_IMODE(top.st_mode) == 0o700  # made at start


def test_private_file_of_the_operator_can_be_granted(sandbox, runner):
    d = runner.home / "in"
    d.mkdir()
    (d / "private").write_text("mine")
    (d / "private").chmod(0o600)
    runner.own(d)
    r = sandbox("cat", f"{d}/private", policy_file=policy(runner, read=[f"{d}/"]))
    assert (r.returncode, r.stdout) == (0, "mine"), r.stderr


def test_it_starts_where_it_was_called_if_the_view_has_that(sandbox, runner):
    d = runner.home / "in"
    (d / "sub").mkdir(parents=True)
    runner.own(d)
    assert sandbox("pwd", policy_file=policy(runner, read=[f"{d}/"]), cwd=d / "sub").stdout == f"{d}/sub\n"
    assert sandbox("pwd", cwd=d / "sub").stdout == "/home/agent\n"


def own_address():
    """An address of this host that is not loopback; no packet is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        try:
            s.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this host has no network: a route to the outside")
        return s.getsockname()[0]


@pytest.fixture
def server():
    """(address, port) of something that greets whoever connects."""
    with socket.create_server((own_address(), 0)) as s:
        def serve():
            with contextlib.suppress(OSError):
                while True:
                    c, _ = s.accept()
                    with c:
                        c.sendall(b"hello")

        threading.Thread(target=serve, daemon=True).start()
        yield s.getsockname()
        s.shutdown(socket.SHUT_RDWR)


DIAL = """import socket
for to in {targets}:
    try:
        with socket.create_connection(to, timeout=20) as s:
            print(s.recv(9).decode())
    except OSError as e:
        print(type(e).__name__)
"""


def test_listed_endpoints_are_reached_and_refusals_are_said(sandbox, runner, server):
    address, port = server
    file = policy(runner, network=f'{{allowed_endpoints: ["{address}:{port}"]}}')
    targets = [(address, port), (address, port - 1), ("exfil.test", 443)]
    r = sandbox("python3", "-c", DIAL.format(targets=targets), policy_file=file)
    assert (r.returncode, r.stdout) == (0, "hello\nConnectionResetError\nConnectionResetError\n"), r.stderr
    said = r.stderr.splitlines()
    assert f"crewctl: sandbox: network denied: {address}:{port - 1} (not in allowed_endpoints)" in said
    assert "crewctl: sandbox: network denied: exfil.test:443 (not in allowed_endpoints)" in said


def test_what_is_listed_is_out_of_reach_without_a_policy_for_it(sandbox, server):
    r = sandbox("python3", "-c", DIAL.format(targets=[server]))
    assert (r.returncode, r.stdout) == (0, "OSError\n"), (r.stdout, r.stderr)


def test_nobody_is_asked_in_a_sandbox(sandbox, runner):
    file = policy(runner, network='{allowed_endpoints: ["a.example:443"], on_unlisted: ask}')
    started = time.monotonic()
    r = sandbox("python3", "-c", DIAL.format(targets=[("b.example", 443)]), policy_file=file)
    assert r.stdout == "ConnectionResetError\n" and time.monotonic() - started < 20
    assert r.stderr == "crewctl: sandbox: network denied: b.example:443 (not in allowed_endpoints, and a sandbox has nobody to ask)\n"


@pytest.mark.parametrize("endpoint, lacks", [('{host: a.example, port: 443, tls: inspect}', "'tls: inspect'"),
                                             ('{host: a.example, port: 80, credential: key}', "a credential")])
def test_what_only_a_crew_has_is_refused(sandbox, runner, endpoint, lacks):
    r = sandbox("true", policy_file=policy(runner, network=f"{{allowed_endpoints: [{endpoint}]}}"))
    assert r.returncode == 2 and f"the policy's endpoints need {lacks}, which only a crew has" in r.stderr


def test_its_gateway_ends_with_it(sandbox, runner, server):
    file = policy(runner, network=f'{{allowed_endpoints: ["{server[0]}:{server[1]}"]}}')

    def gateways():
        ours = os.fsencode(runner.stage / "bin/crew-gateway")
        return {p for p in Path("/proc").glob("[0-9]*") if read_bytes(p / "cmdline").startswith(ours)}

    before = gateways()
    r = sandbox("sh", "-c", "sleep 0.5; kill -9 $$", policy_file=file)
    assert r.returncode == 128 + signal.SIGKILL
    eventually(lambda: gateways() <= before, 20)  # its resolver goes a moment later


@pytest.mark.parametrize("end", ["by itself", "killed"])
def test_process_1_ends_with_its_caller(runner, end):
    """It waits for its caller's end, not to be in its way; however the caller ends, it does not stay."""
    file = os.fsencode(policy(runner, name=f"ends-{end.replace(' ', '-')}"))

    def theirs():  # a fork of crewctl, so with its arguments
        return [p for p in Path("/proc").glob("[0-9]*") if file in read_bytes(p / "cmdline")]

    p = runner.popen(runner.program("crewctl"), "sandbox", "--policy", os.fsdecode(file), "--", "sh", "-c", "echo up; read x",
                     stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)
    assert p.stdout.readline() == "up\n"
    assert len(theirs()) >= 2
    if end == "killed":
        p.kill()
    p.communicate("go\n" if end == "by itself" else None, timeout=30)
    eventually(lambda: not theirs(), 20)


def read_bytes(path):
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_loopback_is_the_commands_own(sandbox):
    code = ("import socket,threading; s=socket.create_server(('127.0.0.1',0)); c=socket.create_connection(s.getsockname());"
            "p,_=s.accept(); p.send(b'hi'); print(c.recv(2).decode())")
    r = sandbox("python3", "-c", code)
    assert (r.returncode, r.stdout) == (0, "hi\n"), r.stderr


@pytest.mark.parametrize("code", [
    "import multiprocessing as m; q=m.Queue(); p=m.Process(target=q.put, args=(1,)); p.start(); assert q.get()==1; p.join()",
    "import tempfile; f=tempfile.NamedTemporaryFile(); f.write(b'x'); f.flush(); assert open(f.name).read()=='x'",
    "import sqlite3; c=sqlite3.connect('/tmp/x.db'); c.execute('create table t(a)'); c.commit()",
    "import ssl; assert ssl.create_default_context().cert_store_stats()['x509_ca'] >= 0",
    "import threading; t=threading.Thread(target=lambda: None); t.start(); t.join()",
    "import subprocess; assert subprocess.check_output(['echo','a'])==b'a\\n'",
    "import os; assert os.sysconf('SC_NPROCESSORS_ONLN') > 0; open('/proc/meminfo').read(); open('/proc/cpuinfo').read()",
    "import pwd,os; assert pwd.getpwuid(os.getuid()).pw_name=='agent'",
])
def test_python_works(sandbox, code):
    r = sandbox("python3", "-c", code)
    assert r.returncode == 0, r.stderr


@pytest.mark.skipif(not shutil.which("node", path="/usr/local/bin:/usr/bin:/bin"), reason="no node")
def test_node_works(sandbox):
    r = sandbox("node", "-e", "setTimeout(() => require('fs').writeFile('/tmp/x', 'y', () => console.log('ok')), 10)")
    assert (r.returncode, r.stdout) == (0, "ok\n"), r.stderr


def test_shell_pipelines_work(sandbox):
    r = sandbox("bash", "-c", "diff <(seq 3) <(seq 3) && seq 1000 | sort -rn | head -1 | tee /tmp/x && cat < /tmp/x")
    assert (r.returncode, r.stdout) == (0, "1000\n1000\n"), r.stderr


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1])
def test_signals_are_passed_on(runner, sig):
    p = runner.popen(runner.program("crewctl"), "sandbox", "--policy", str(policy(runner)), "--", "sh", "-c",
                     "echo up; exec sleep 100", stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    assert p.stdout.readline() == "up\n"
    p.send_signal(sig)
    assert p.wait(30) == 128 + sig


def test_signal_right_after_the_start_is_not_lost(runner):
    for delay in (0.002, 0.004, 0.006, 0.01):
        p = runner.popen(runner.program("crewctl"), "sandbox", "--policy", str(policy(runner)), "--", "sleep", "20",
                         stdin=subprocess.DEVNULL)
        time.sleep(delay)
        p.send_signal(signal.SIGTERM)
        assert p.wait(30) in (-signal.SIGTERM, 128 + signal.SIGTERM)


def test_command_may_handle_the_signal(runner):
    p = runner.popen(runner.program("crewctl"), "sandbox", "--policy", str(policy(runner)), "--", "sh", "-c",
                     "trap 'exit 9' TERM; echo up; while :; do sleep 0.05; done", stdout=subprocess.PIPE,
                     stdin=subprocess.DEVNULL, text=True)
    assert p.stdout.readline() == "up\n"
    p.send_signal(signal.SIGTERM)
    assert p.wait(30) == 9


def test_many_at_once_share_nothing(runner):
    file = policy(runner)
    ps = [runner.popen(runner.program("crewctl"), "sandbox", "--policy", str(file), "--", "sh", "-c",
                       f"echo {i} > /tmp/x; sleep 0.2; cat /tmp/x", stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
          for i in range(8)]
    assert [p.communicate(timeout=60)[0] for p in ps] == [f"{i}\n" for i in range(8)]


def test_shipped_role_is_found_by_name(sandbox):
    r = sandbox("sh", "-c", "echo $CREW_AGENT", policy_file="supervisor")
    assert (r.returncode, r.stdout) == (0, "supervisor\n"), r.stderr


def test_bad_policy_is_shown_with_its_place(sandbox, runner):
    bad = runner.home / "bad.yaml"
    bad.write_text("agent: x\nsandbox:\n  mode: deny-by-default\n  filesytem: {}\n")
    r = sandbox("true", policy_file=bad)
    assert r.returncode == 2
    assert f"{bad}:4:3: unknown key 'filesytem'" in r.stderr and "filesystem" in r.stderr


def test_no_policy_or_no_command_is_a_usage_error(runner):
    assert runner.crewctl("sandbox", "--", "true").returncode == 2
    assert runner.crewctl("sandbox", "--policy", policy(runner)).returncode == 2
    assert runner.crewctl("sandbox", "--policy", runner.home / "none.yaml", "--", "true").returncode == 2


def test_kernel_without_user_namespaces_is_refused(runner):
    launcher = runner.tree({"without_calls.py": (Path(__file__).parent / "without_calls.py").read_text()}) / "without_calls.py"
    r = runner.run("/usr/bin/python3", "-I", launcher, f"{CLONE3}={errno.EPERM}", "--", runner.program("crewctl"), "sandbox",
                   "--policy", policy(runner), "--", "true")
    assert r.returncode == 125
    assert "user namespaces are restricted here" in r.stderr and "crewctl doctor" in r.stderr, r.stderr


def test_jail_starts_from_a_removed_directory(sandbox, runner):
    d = runner.own(runner.home / "gone") if (runner.home / "gone").mkdir() is None else None
    r = runner.run("sh", "-c", f"cd {d} && rmdir {d} && exec {runner.program('crewctl')} sandbox --policy {policy(runner)} -- pwd")
    assert (r.returncode, r.stdout) == (0, "/home/agent\n"), r.stderr
