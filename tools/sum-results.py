#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Adds up what one test run left: junit files (*.xml), single steps (*.step) and lines of tests/vm/results.py (*.lines).

Prints skips by reason, then the closing line.
"""

import sys
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path


class Sums:
    def __init__(self):
        self.passed = self.failed = 0
        self.skips = Counter()

    def fail(self, *what):
        self.failed += 1
        print("failed:", *what)

    def step(self, path):
        if path.read_text().strip() == "pass":
            self.passed += 1
        else:
            self.failed += 1

    def junit(self, path):
        for case in ET.parse(path).getroot().iter("testcase"):
            skip = case.find("skipped")
            if case.find("failure") is not None or case.find("error") is not None:
                self.fail(f"{path.stem}:", case.get("classname", ""), case.get("name"))
            elif skip is not None:
                self.skips[skip.get("message") or case.findtext("system-out") or "no reason given"] += 1
            else:
                self.passed += 1

    def lines(self, path):
        """A test has one result, the worst.  What began and has none, or did not end, was cut short: that is a failure."""
        rank = ["begun", "passed", "ended", "skipped", "failed"]
        found = {}
        for line in path.read_text(errors="replace").split("\n")[:-1]:
            word, step, test, reason, *_ = line.split("\t") + ["", "", ""]
            was = found.get((step, test), ("begun", ""))
            found[step, test] = max(was, (word, reason), key=lambda r: rank.index(r[0]))
        for (step, test), (word, reason) in found.items():
            if word == "begun":
                self.fail(f"{step}:", test or "the step", "did not end")
            elif word == "failed":
                self.fail(f"{step}:", test)
            elif word == "skipped":
                self.skips[reason or "no reason given"] += 1
            elif word == "passed":
                self.passed += 1


def main(directory):
    sums = Sums()
    for kind, read in (("step", sums.step), ("xml", sums.junit), ("lines", sums.lines)):
        for f in sorted(Path(directory).glob(f"*.{kind}")):
            read(f)
    for reason, n in sorted(sums.skips.items()):
        print(f"skipped {n}: {reason}")
    total = sum(sums.skips.values())
    print(f"{sums.passed} passed, {sums.failed} failed" + (f", {total} skipped" if total else ""))
    return 1 if sums.failed or not sums.passed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
