# SPDX-License-Identifier: Apache-2.0
"""What is said at the end of script/test and script/vm, also of a run that was cut short."""

import importlib.util
import os
import subprocess
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent.parent


def results():
    spec = importlib.util.spec_from_file_location("results", TOP / "tests/vm/results.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def summed(directory):
    r = subprocess.run(["/usr/bin/python3", TOP / "tools/sum-results.py", directory], stdout=subprocess.PIPE, text=True,
                       check=False)
    return r.returncode, r.stdout.split("\n")[:-1]


def lines(tmp_path, *rows):
    (tmp_path / "vm.lines").write_text("".join("\t".join(r) + "\n" for r in rows))
    return summed(tmp_path)


def test_all_that_ended_is_counted_once(tmp_path):
    assert lines(tmp_path, ("begun", "s", ""), ("begun", "s", "a"), ("passed", "s", "a"), ("begun", "s", "b"),
                 ("skipped", "s", "b", "no kernel"), ("ended", "s", "")) == (
                     0, ["skipped 1: no kernel", "1 passed, 0 failed, 1 skipped"])


def test_what_did_not_come_to_its_end_is_named(tmp_path):
    status, said = lines(tmp_path, ("begun", "s", ""), ("begun", "s", "a"), ("passed", "s", "a"), ("begun", "s", "b"))
    assert status == 1
    assert said == ["failed: s: the step did not end", "failed: s: b did not end", "1 passed, 2 failed"]


def test_a_failure_after_the_test_is_a_failure(tmp_path):
    assert lines(tmp_path, ("begun", "s", "a"), ("passed", "s", "a"), ("failed", "s", "a")) == (
        1, ["failed: s: a", "0 passed, 1 failed"])


def test_a_line_that_was_cut_off_is_no_result(tmp_path):
    (tmp_path / "vm.lines").write_text("begun\ts\ta\npassed\ts")
    assert summed(tmp_path) == (1, ["failed: s: a did not end", "0 passed, 1 failed"])


def program(stdout, result, status):
    return results().outcomes({"name": "crewd:unit / x", "stdout": stdout, "result": result, "returncode": status})


def test_each_test_of_a_program_is_told(tmp_path):
    assert program("1..2\nok 1 - a\nnot ok 2 - b\n", "ERROR", 1) == [("passed", "x: a", ""), ("failed", "x: b", "")]


def test_what_cmocka_skips_is_not_failed(tmp_path):
    assert [r[:2] for r in program("1..1\nnot ok 1 # SKIP a\n", "FAIL", 0)] == [("skipped", "x: a")]


def test_a_program_that_broke_off_is_failed(tmp_path):
    assert program("1..2\nok 1 - a\n", "TIMEOUT", -15)[-1] == ("failed", "x", "")
    assert program("", "FAIL", 1) == [("failed", "x", "")]
    assert program("", "OK", 0) == [("passed", "x", "")]


def test_a_failure_is_shown_and_told_when_it_happens(tmp_path):
    (tmp_path / "test_x.py").write_text("def test_a(): assert 'seen' == 1\ndef test_b(): pass\n")
    with open(tmp_path / "vm.lines", "w") as out:
        r = subprocess.run(["/usr/bin/python3", "-m", "pytest", "-c", TOP / "tests/pytest.ini", "-p", "results", "--step", "s",
                            "--slice", "1/2", "--no-summary", tmp_path / "test_x.py"], stdout=subprocess.PIPE, text=True,
                           pass_fds=[out.fileno()], check=False,
                           env={**os.environ, "PYTHONPATH": str(TOP / "tests/vm"), "CREWD_VM_RESULTS": str(out.fileno())})
    assert r.returncode == 1 and "assert 'seen' == 1" in r.stdout
    status, said = summed(tmp_path)
    assert status == 1 and said[-1] == "0 passed, 1 failed"  # the second half was not asked for
