#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""In a VM of script/vm: tells of each test as soon as it is over, for a VM may be powered off before the last one is.

One line each on the descriptor CREWD_VM_RESULTS: WORD, STEP, TEST and for a skipped one REASON, with tabs between them.
WORD is begun, passed, failed or skipped; begun and ended without TEST are of the whole step.  tools/sum-results.py reads
them.

As a pytest plugin it also shows a failure when it happens and runs one slice of the tests; as a program it runs meson's
tests.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest


def tell(word, *fields):
    line = "\t".join([word, *[" ".join(str(f).split()) for f in fields]])
    os.write(int(os.environ["CREWD_VM_RESULTS"]), line.encode() + b"\n")


def pytest_addoption(parser):
    group = parser.getgroup("script/vm")
    group.addoption("--step", default="pytest", help="the step these tests belong to")
    group.addoption("--slice", default="1/1", help="I/N: only the I-th of N parts")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    i, n = map(int, config.getoption("--slice").split("/"))
    if not 1 <= i <= n:
        raise pytest.UsageError(f"--slice {i}/{n}: there is no such part")
    items[:] = items[len(items) * (i - 1) // n:len(items) * i // n]


def pytest_configure(config):
    if not hasattr(config, "workerinput"):  # xdist's workers report to the one that started them
        config.pluginmanager.register(Teller(config))


class Teller:
    def __init__(self, config):
        self.step, self.plugins = config.getoption("--step"), config.pluginmanager

    def pytest_runtest_logstart(self, nodeid):
        tell("begun", self.step, nodeid)

    def pytest_runtest_logreport(self, report):
        if report.failed:
            tell("failed", self.step, report.nodeid)
            self.show(report)
        elif report.skipped:
            tell("skipped", self.step, report.nodeid, report.longrepr[2].removeprefix("Skipped: "))
        elif report.when == "call":
            tell("passed", self.step, report.nodeid)

    def pytest_collectreport(self, report):
        if report.failed:
            tell("failed", self.step, report.nodeid)
            self.show(report)

    def show(self, report):
        terminal = self.plugins.get_plugin("terminalreporter")
        terminal.ensure_newline()
        terminal.section(f"{report.when} of {report.nodeid} failed")
        terminal.write_line(report.longreprtext)


def outcomes(test):
    """(WORD, TEST, REASON) of each of the tests that one program of meson's is made of."""
    name, rows = test["name"].removeprefix("crewd:unit / "), []
    for line in test.get("stdout", "").split("\n"):
        m = re.match(r"(not )?ok \d+ (- |# SKIP ?)?(.*)", line)
        if m and (m[2] or "").startswith("# SKIP"):  # cmocka says "not ok" to those
            rows.append(("skipped", f"{name}: {m[3]}", "needs what this kernel or machine has not"))
        elif m:
            rows.append(("failed" if m[1] else "passed", f"{name}: {m[3]}", ""))
    word = {"OK": "passed", "SKIP": "skipped"}.get(test["result"], "failed")
    unexplained = word == "failed" and test["returncode"] != 0 and not any(r[0] == "failed" for r in rows)
    return rows if rows and not unexplained else [*rows, (word, name, "")]


def main(step, log, command):
    """Runs meson's tests; its log has a line for each program that has ended."""
    Path(log).unlink(missing_ok=True)
    told = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace") as p:
        for line in p.stdout:
            if line.strip():
                print(line, end="", flush=True)
            told = tell_new(step, log, told)
    tell_new(step, log, told)
    if p.returncode < 0 or not Path(log).exists():
        tell("failed", step, "meson")


def tell_new(step, log, told):
    lines = Path(log).read_text(errors="replace").split("\n")[:-1] if Path(log).exists() else []
    for line in lines[told:]:
        for word, test, reason in outcomes(json.loads(line)):
            tell(word, step, test, reason)
    return len(lines)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
