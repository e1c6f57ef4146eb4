#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""analysis_tool: {"portfolio": ..., "market": ...} -> value, return and risk figures of one portfolio.

Observations are the months for which every holding and the index have a price.  V_t is the value of the (constant)
holdings in month t, r_t = V_t / V_(t-1) - 1 its simple return, m_t the index's.  n months, so n - 1 returns.

  value           V_n = sum of shares x price                                       (mark to market)
  total_return    V_n / V_1 - 1                                                     (holding-period return)
  annual_return   (V_n / V_1) ^ (12 / (n-1)) - 1                                    (GIPS, geometric linking)
  volatility      sample standard deviation of r, times sqrt(12)                    (Hull, Options, Futures..., ch. 15)
  max_drawdown    min over t of V_t / max(V_1..V_t) - 1                             (Magdon-Ismail & Atiya 2004)
  beta            cov(r, m) / var(m), sample                                        (Sharpe 1964)
  concentration   sum of squared weights by value                                   (Herfindahl 1950, Hirschman 1945)
  value_at_risk   -V_n x 5 % quantile of r, linear between order statistics         (historical simulation, Hull ch. 22;
                  (Hyndman & Fan 1996, type 7); 0 when the quantile is a gain        one month, 95 %)
"""

import json
import math
import sys


def mean(xs):
    return math.fsum(xs) / len(xs)


def covariance(xs, ys):
    mx, my = mean(xs), mean(ys)
    return math.fsum((x - mx) * (y - my) for x, y in zip(xs, ys)) / (len(xs) - 1)


def returns(values):
    return [b / a - 1 for a, b in zip(values, values[1:])]


def quantile(xs, p):
    """Type 7 of Hyndman and Fan."""
    s = sorted(xs)
    at = (len(s) - 1) * p
    low = math.floor(at)
    high = min(low + 1, len(s) - 1)
    return s[low] + (at - low) * (s[high] - s[low])


def drawdown(values):
    peak, worst = values[0], 0.0
    for v in values:
        peak = max(peak, v)
        worst = min(worst, v / peak - 1)
    return worst


def analyze(portfolio, market):
    prices = {s["symbol"]: {p["date"]: p["price"] for p in s["prices"]} for s in market["symbols"]}
    index = {p["date"]: p["price"] for p in market["index"]}
    held = [(h["symbol"], h["shares"]) for h in portfolio["holdings"]]
    missing = [s for s, _ in held if s not in prices]
    if missing:
        raise SystemExit(f"no prices for {', '.join(missing)}")
    months = sorted(set(index).intersection(*(prices[s] for s, _ in held)))
    if len(months) < 3:
        raise SystemExit(f"{portfolio['client']}: only {len(months)} months in common")
    values = [math.fsum(n * prices[s][m] for s, n in held) for m in months]
    r, im = returns(values), returns([index[m] for m in months])
    last = months[-1]
    weights = [n * prices[s][last] / values[-1] for s, n in held]
    return {
        "client": portfolio["client"], "name": portfolio["name"],
        "months": len(months), "from": months[0], "to": last,
        "value": values[-1],
        "total_return": values[-1] / values[0] - 1,
        "annual_return": (values[-1] / values[0]) ** (12 / len(r)) - 1,
        "volatility": math.sqrt(covariance(r, r) * 12),
        "max_drawdown": drawdown(values),
        "beta": covariance(r, im) / covariance(im, im),
        "concentration": math.fsum(w * w for w in weights),
        "value_at_risk": max(0.0, -values[-1] * quantile(r, 0.05)),
        "holdings": [{"symbol": s, "shares": n, "price": prices[s][last], "weight": w} for (s, n), w in zip(held, weights)],
        "series": [{"date": m, "value": v} for m, v in zip(months, values)],
    }


def main():
    task = json.load(sys.stdin)
    json.dump(analyze(task["portfolio"], task["market"]), sys.stdout)


if __name__ == "__main__":
    main()
