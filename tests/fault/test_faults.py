# SPDX-License-Identifier: Apache-2.0
"""One library call of crewd (or a helper) fails: crewd never crashes, never hangs, leaves nothing, and somebody is told.

Each run is a whole life of a crew.  A sample of the calls is tried, the same each time; CREWD_FAULT_ALL=1 tries every one
(about fifteen minutes).
"""

import os
import random

import pytest

from faultrun import FaultRun, become_subreaper

EXITS = {0, 1, 2, 69}
ALL = bool(os.environ.get("CREWD_FAULT_ALL"))
BOUND_S = 25  # a start is given up after 20 s
# libuv aborts when it cannot grow its table of watchers, libnng and the loader may crash without memory for a thread.
# Where the call that failed is theirs, a death of crewd is accepted; what it must not leave is not.
NOT_OURS = ("libuv.so", "libnng.so", "ld-linux")


def sample(count, n, seed):
    """n of the numbers 1..count: the first, the last, and some in between that stay the same."""
    if ALL or count <= n:
        return range(1, count + 1)
    rng = random.Random(seed)
    late = range(count * 2 // 3, count + 1)  # loading files takes most of the calls; what comes after is more interesting
    return sorted({1, count, *rng.sample(range(1, count + 1), n // 2), *rng.sample(late, min(len(late), n // 2))})


@pytest.fixture
def faults(runner, library):
    become_subreaper()
    f = FaultRun(runner, library)
    yield f
    after = f.run("malloc", 0)
    assert after.whole, f"the crew does not run any more: {after}"
    verify = runner.crewctl("audit", "verify")
    assert verify.returncode == 0, verify.stdout + verify.stderr


def judge(f, out):
    f.seen += out.fired
    dies = isinstance(out.status, int) and out.status < 0 and any(lib in out.fault for lib in NOT_OURS)
    assert out.status in EXITS or dies, out
    assert out.left == {}, out
    assert out.seconds < BOUND_S, out
    assert out.whole or out.said or dies, f"nobody was told: {out}"
    if dies:
        next_one = f.run("malloc", 0)
        assert next_one.whole and "did not end in order" in next_one.log, next_one


def sweep(f, call, n, program="crewd", forever=False, own=False):
    count = f.run(call, 0, program, own=own).count
    assert count > 0, f"{program} never calls {call}"
    f.seen = 0
    for nth in sample(count, n, call):
        judge(f, f.run(call, nth, program, forever, own))
    assert f.seen > 0, "nothing failed: the test is empty"


def test_an_allocation_that_fails(faults):
    sweep(faults, "malloc", 100)


@pytest.mark.parametrize("call", ["socket", "accept", "open", "write", "fsync", "fallocate", "fork", "thread"])
def test_a_call_that_fails_once(faults, call):
    sweep(faults, call, 6)


@pytest.mark.parametrize("call", ["recv", "send"])
def test_a_message_to_a_helper_that_fails(faults, call):
    """libnng takes a failed send for sent; that ends with the 20 s of a start, too long for the sample."""
    sweep(faults, call, 6, own=not ALL)


@pytest.mark.parametrize("call", ["malloc", "socket", "open", "write", "fsync", "fallocate", "fork", "thread"])
def test_a_call_that_fails_from_then_on(faults, call):
    """No more memory, a full disk, a full table of descriptors, no more processes."""
    sweep(faults, call, 24 if call == "malloc" else 3, forever=True)


@pytest.mark.parametrize("program", ["crew-evidence", "crew-gateway"])
def test_a_helper_without_memory(faults, program):
    sweep(faults, "malloc", 4, program)
