# SPDX-License-Identifier: Apache-2.0
"""State directories on their way: into archives while agents work and whatever they have made, and out of anybody's tar."""

import json
import multiprocessing
import os
import random
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest

from crewlib import Crew, eventually, state_of
import crewd


def top(crew, agent):
    return crew.runner.home / "lib" / crew.name / "state" / agent


def tar_of(runner, form, name="in.tar", **files):
    """An archive by tar(1) of the files; their names have underscores for slashes."""
    tree = runner.tree({name.replace("__", "/"): text for name, text in files.items()}, "files")
    path = runner.home / name
    subprocess.run(["tar", f"--format={form}", "-cf", path, "-C", tree, "."], check=True, capture_output=True)
    os.chmod(path, 0o644)
    return path


def imported(runner, path, *more, agent="a"):
    return runner.crewctl("state", "import", "--agent", agent, *more, path)


LONG = "n" * 120  # more than a name of a header holds
FORMATS = {
    "v7": {"d__f": "one", "e": "two"},
    "oldgnu": {f"{LONG}__{LONG}__f": "one", "d__e": "two"},
    "gnu": {f"{LONG}__{LONG}__f": "one", "d__e": "two"},
    "ustar": {f"{LONG[:90]}__{LONG[:90]}__f": "one", "d__e": "two"},
    "posix": {f"{LONG}__{LONG}__f": "one", "d__e": "two"},
}


@pytest.mark.parametrize("form", FORMATS)
def test_import_takes_what_tar_makes(runner, form):
    crew = Crew(runner).agent("a")
    crew.start().stop()
    r = imported(runner, tar_of(runner, form, **FORMATS[form]))
    assert r.returncode == 0, r.stderr
    there = {str(p.relative_to(top(crew, "a"))): p.read_text() for p in top(crew, "a").rglob("*") if p.is_file()}
    assert there == {name.replace("__", "/"): text for name, text in FORMATS[form].items()}


def test_times_in_a_gnu_header_are_no_part_of_its_name(runner):
    crew = Crew(runner).agent("a")
    crew.start().stop()
    tree = runner.tree({"f": "one"}, "files")
    path = runner.home / "in.tar"
    subprocess.run(["tar", "--format=gnu", "--incremental", "-cf", path, "-C", tree, "f"], check=True)
    os.chmod(path, 0o644)
    r = imported(runner, path)
    assert r.returncode == 0, r.stderr
    assert os.listdir(top(crew, "a")) == ["f"]


def test_long_gnu_names_are_as_plain_as_short_ones(runner):
    crew = Crew(runner).agent("a")
    crew.start().stop()
    tree = runner.tree({"f": "one"}, "files")
    os.symlink("x" * 150, tree / "l")
    path = runner.home / "evil.tar"

    def refused(why, *args):
        subprocess.run(["tar", "--format=gnu", "-cPf", path, "-C", tree, *args], check=True, capture_output=True)
        os.chmod(path, 0o644)
        r = imported(runner, path)
        assert r.returncode == 2 and why in r.stderr and "nothing was changed" in r.stderr, r.stderr
        assert os.listdir(top(crew, "a")) == []

    refused("is not a plain relative path", "--transform", f"s,f,{LONG}/../../f,", "f")
    refused("is an absolute path", "--transform", f"s,f,/{LONG}/f,", "f")
    refused("is the long target of a link", "l")
    refused("lies too deep", "--transform", f"s,f,{'d/' * 128}f,", "f")


DEEP = """
s = os.environ['CREW_STATE']
os.chdir(s)
for _ in range(60):
    os.mkdir('d' * 200); os.chdir('d' * 200)
open('bottom', 'w').write('far down')
out(1)
"""


def bottom(crew, agent):
    at = os.open(top(crew, agent), os.O_PATH)
    for _ in range(60):
        at, last = os.open("d" * 200, os.O_PATH, dir_fd=at), at
        os.close(last)
    with open(os.open("bottom", os.O_RDONLY, dir_fd=at)) as f:
        os.close(at)
        return f.read()


def test_a_deep_tree_comes_back(runner):
    crew = Crew(runner).agent("a").agent("b")
    archive = runner.home / "a.tar"
    with crew.start() as running:
        running.client().submit(agent="a", description=DEEP).result(60)
    r = runner.crewctl("state", "export", "--agent", "a", archive)
    assert r.returncode == 0 and r.stderr == "", r.stderr
    r = imported(runner, archive, agent="b")
    assert r.returncode == 0, r.stderr
    assert bottom(crew, "b") == "far down"
    r = runner.crewctl("state", "reset", "--agent", "b", "--yes")
    assert r.returncode == 0, r.stderr


def test_what_import_would_not_take_is_left_out(runner):
    crew = Crew(runner).agent("a").agent("b")
    crew.start().stop()
    for name, size in (("small", 1000), ("sparse", 65 << 30)):
        with open(top(crew, "a") / name, "wb") as f:
            f.truncate(size)
    runner.own(top(crew, "a"))
    archive = runner.home / "a.tar"
    r = runner.crewctl("state", "export", "--agent", "a", archive)
    assert r.returncode == 0 and "left out: sparse (too large)" in r.stderr, r.stderr
    r = imported(runner, archive, agent="b")
    assert r.returncode == 0 and "1 file" in r.stdout, r.stderr


BUSY = """
import random
s = os.environ['CREW_STATE']
os.chdir(s)
def toss(f, *a):
    try:
        f(*a)
    except OSError:
        pass
names = ['n%d' % i for i in range(40)]
def fill(p):
    with open(p, 'w') as f:
        f.write('x' * random.choice([0, 1, 511, 512, 513, 40000, 300000]))
beat = 0
while True:
    a, b = random.sample(names, 2)
    match = random.randrange(8)
    if match <= 2: toss(fill, a)
    elif match == 3: toss(os.truncate, a, random.randrange(100000))
    elif match == 4: toss(os.rename, a, b)
    elif match == 5: toss(os.unlink, a)
    elif match == 6: toss(os.mkdir, a); toss(fill, a + '/' + b)
    else: toss(shutil.rmtree, a)
    beat += 1
    if beat == 500: open('beat', 'w').close()
"""


def test_what_is_exported_while_the_agent_writes_can_be_taken_back(runner):
    crew = Crew(runner).agent("a", limits="output: 1GiB").agent("b")
    with crew.start() as running:
        client = running.client()
        client.submit(agent="a", description="import shutil\n" + BUSY)
        client.stop_agent("b")
        eventually(lambda: (top(crew, "a") / "beat").exists())
        for i in range(10):
            archive = runner.home / f"a{i}.tar"
            r = runner.crewctl("state", "export", "--json", "--agent", "a", archive)
            assert r.returncode == 0, r.stderr
            said = json.loads(r.stdout)
            with tarfile.open(archive) as tar:
                sizes = {m.name: m.size for m in tar.getmembers() if m.isfile()}
                assert all(len(tar.extractfile(m).read()) == m.size for m in tar.getmembers() if m.isfile())
            assert (said["files"], said["bytes"]) == (len(sizes), sum(sizes.values()))
            r = imported(runner, archive, agent="b")
            assert r.returncode == 0, r.stderr
            there = {str(p.relative_to(top(crew, "b"))): p.stat().st_size for p in top(crew, "b").rglob("*") if p.is_file()}
            assert there == sizes
        assert state_of(client, "a") == crewd.AgentState.WORKING


def churn(at, names):
    """Such a directory takes several calls to read, and a tmpfs tells some names once more when others are renamed to them."""
    os.chdir(at)
    while True:
        name = random.choice(names)
        try:
            os.rename(name, random.choice(names))
            if random.randrange(10):
                open(name, "w").close()
            else:
                os.mkdir(name)
        except OSError:
            pass


@pytest.fixture
def on_tmpfs(runner):
    if not os.path.isdir("/dev/shm"):
        pytest.skip("no tmpfs in /dev/shm")
    home = Path(tempfile.mkdtemp(prefix="crewd-t-", dir="/dev/shm"))
    yield home
    shutil.rmtree(home)


def test_what_a_walk_meets_twice_is_exported_once(runner, on_tmpfs):
    at = on_tmpfs / "lib/t/state/a"
    at.mkdir(parents=True)
    for agent in "ab":
        (on_tmpfs / "lib/t/audit" / agent).mkdir(parents=True)
        (on_tmpfs / "lib/t/audit" / agent / "log.jsonl").touch()
    names = ["n" * 200 + str(i) for i in range(1500)]
    for name in names:
        (at / name).touch()
    runner.own(on_tmpfs)
    archive = on_tmpfs / "a.tar"
    busy = multiprocessing.Process(target=churn, args=(at, names))
    busy.start()
    try:
        for _ in range(40):
            r = runner.crewctl("state", "export", "--agent", "a", archive, env={"CREWD_HOME": str(on_tmpfs)})
            assert r.returncode == 0, r.stderr
            r = runner.crewctl("state", "import", "--agent", "b", archive, env={"CREWD_HOME": str(on_tmpfs)})
            assert r.returncode == 0, r.stderr
    finally:
        busy.kill()
        busy.join()


def test_import_before_the_crew_has_ever_run(runner):
    crew = Crew(runner).agent("a").agent("b")
    crew.write()
    archive = tar_of(runner, "posix", n="41")
    r = imported(runner, archive)
    assert r.returncode == 3 and "no crew has run here" in r.stderr, r.stderr
    r = imported(runner, archive, "--crew", "t")
    assert r.returncode == 0 and "crew t has not run here yet" in r.stderr, r.stderr
    assert imported(runner, archive, "--crew", "t", agent="b").returncode == 0  # the first one is no reason to refuse it
    for name in ("../x", "x/y", ".", "", "B"):
        r = imported(runner, archive, "--crew", "t", agent=name)
        assert r.returncode == 2 and "cannot be the name of an agent" in r.stderr, r.stderr
        assert imported(runner, archive, "--crew", name).returncode == 3
    lib = runner.home / "lib"
    assert sorted(os.listdir(lib)) == ["t"] and os.listdir(lib / "t") == ["state"]
    for p, mode in ((lib, 0o755), (lib / "t", 0o700), (lib / "t/state", 0o700), (lib / "t/state/a", 0o700)):
        st = os.stat(p)
        assert (st.st_uid, st.st_mode & 0o7777) == (os.stat(crew.top).st_uid, mode), p
    shown = json.loads(runner.crewctl("state", "list", "--crew", "t", "--json", check=True).stdout)["state"]
    assert [(s["agent"], s["files"]) for s in shown] == [("a", 1), ("b", 1)]
    with crew.start() as running:
        read = "p = os.environ['CREW_STATE'] + '/n'\nn = int(open(p).read()) + 1\nopen(p, 'w').write(str(n))\nout(n)"
        assert running.client().submit(agent="a", description=read).result(60) == 42
    r = imported(runner, archive, "--crew", "t", agent="x")
    assert r.returncode == 3 and "agents: a, b" in r.stderr and "start it once" in r.stderr, r.stderr
