# SPDX-License-Identifier: Apache-2.0
"""Rows in, one table out."""
import json
import sys

rows = sorted(json.load(sys.stdin)["input"]["rows"], key=lambda r: -r["annual_return"])
lines = [f"{'symbol':<8}{'return':>9}{'volat.':>9}{'drawdown':>10}"]
lines += [f"{r['symbol']:<8}{r['annual_return']:>9.1%}{r['volatility']:>9.1%}{r['max_drawdown']:>10.1%}" for r in rows]
json.dump({"rows": rows, "text": "\n".join(lines), "summary": f"{len(rows)} rows"}, sys.stdout)
