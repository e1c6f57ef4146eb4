# SPDX-License-Identifier: Apache-2.0
"""What the benches share: a row of results, and a program around functions that make some."""

import argparse
import json
import os
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent


def row(what, ours, against, theirs, target, at_least=False, **more):
    ratio = ours / theirs
    return {"what": what, "ours": round(ours, 3), "against": against, "theirs": round(theirs, 3), "ratio": round(ratio, 3),
            "target": target, "met": ratio >= target if at_least else ratio <= target, "at_least": at_least, **more}


def show(r):
    more = "".join(f", {k} {r[k]}" for k in ("p50", "bare") if k in r)
    print(f"{r['what']:<48} {r['ours']:>12} {r['theirs']:>12}  {r['ratio']:>6}x  (target {'at least ' if r['at_least'] else ''}"
          f"{r['target']}x){more}{'' if r['met'] else '  MISSED'}", flush=True)


def main(make, benches):
    """benches: {name: function(what make returns) -> rows}.  Those named in the arguments run, without any all.  A missed target
    is for script/bench to count."""
    ap = argparse.ArgumentParser()
    ap.add_argument("--build", default=os.environ.get("CREWD_BUILD", SOURCE / "build"))
    ap.add_argument("--json")
    ap.add_argument("which", nargs="*", metavar=" | ".join(benches))
    args = ap.parse_args()
    if unknown := set(args.which) - set(benches):
        ap.error(f"no such bench: {', '.join(unknown)}")
    b = make(args.build)
    rows = []
    try:
        for name in args.which or benches:
            for r in benches[name](b):
                rows.append(r)
                show(r)
    finally:
        b.close()
    if args.json:
        Path(args.json).write_text(json.dumps(rows, indent=1) + "\n")
