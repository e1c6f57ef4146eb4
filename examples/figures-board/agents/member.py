# SPDX-License-Identifier: Apache-2.0
"""Proposes a figure, or votes on another's by working it out itself."""
import csv
import json
import math
import statistics
import sys
from pathlib import Path

STEP = int(sys.argv[1]) if len(sys.argv) > 1 else 1
DATA = Path(__file__).resolve().parent.parent / "data" / "stocks.csv"


def volatility(symbol):
    """Standard deviation of monthly log returns, per year."""
    with open(DATA, encoding="utf-8", newline="") as f:
        prices = [float(row["price"]) for row in csv.DictReader(f) if row["symbol"] == symbol][::STEP]
    return round(statistics.stdev(math.log(b / a) for a, b in zip(prices, prices[1:])) * math.sqrt(12), 6)


asked = json.load(sys.stdin)
if asked["kind"] == "task":
    symbol = asked["input"]["symbol"]
    figure = volatility(symbol)
    answer = {"symbol": symbol, "volatility": figure, "summary": f"{symbol} {figure:.1%}"}
else:
    proposal = asked["input"]["proposal"]
    own = volatility(proposal["symbol"])
    same = math.isclose(own, proposal["volatility"], abs_tol=1e-6)
    answer = {"vote": "approve" if same else "reject", "reason": f"own figure {own}"}
json.dump(answer, sys.stdout)
