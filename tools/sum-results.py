#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Adds up junit files (*.xml) and single steps (*.step) of one test run; prints skips by reason, then the closing line."""

import sys
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path


def main(directory):
    passed = failed = 0
    skips = Counter()
    for f in sorted(Path(directory).glob("*.step")):
        if f.read_text().strip() == "pass":
            passed += 1
        else:
            failed += 1
    for f in sorted(Path(directory).glob("*.xml")):
        for case in ET.parse(f).getroot().iter("testcase"):
            skip = case.find("skipped")
            if case.find("failure") is not None or case.find("error") is not None:
                failed += 1
                print(f"failed: {f.stem}: {case.get('classname', '')} {case.get('name')}")
            elif skip is not None:
                skips[skip.get("message") or "no reason given"] += 1
            else:
                passed += 1
    for reason, n in sorted(skips.items()):
        print(f"skipped {n}: {reason}")
    total = sum(skips.values())
    print(f"{passed} passed, {failed} failed" + (f", {total} skipped" if total else ""))
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
