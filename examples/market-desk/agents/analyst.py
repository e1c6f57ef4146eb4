# SPDX-License-Identifier: Apache-2.0
"""Figures of one symbol from monthly closing prices."""
import csv
import json
import math
import statistics
import sys
from pathlib import Path

symbol = json.load(sys.stdin)["input"]["symbol"]
data = Path(__file__).resolve().parent.parent / "data" / "stocks.csv"
with open(data, encoding="utf-8", newline="") as f:
    prices = [float(row["price"]) for row in csv.DictReader(f) if row["symbol"] == symbol]
if len(prices) < 2:
    sys.exit(f"no prices of {symbol}")

monthly = [math.log(b / a) for a, b in zip(prices, prices[1:])]
peak, drawdown = prices[0], 0.0
for price in prices:
    peak = max(peak, price)
    drawdown = max(drawdown, 1 - price / peak)
json.dump({
    "symbol": symbol,
    "months": len(prices),
    "annual_return": round(math.exp(12 * statistics.fmean(monthly)) - 1, 6),      # geometric, per year
    "volatility": round(statistics.stdev(monthly) * math.sqrt(12), 6),            # of monthly log returns, per year
    "max_drawdown": round(drawdown, 6),                                           # largest fall from a peak
}, sys.stdout)
