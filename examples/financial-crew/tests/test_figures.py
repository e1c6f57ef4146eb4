# SPDX-License-Identifier: Apache-2.0
"""The analysis tool's figures against an independent computation (numpy, from the CSV files, other formulas where possible)."""

import csv
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

EXAMPLE = Path(__file__).resolve().parents[1]
PORTFOLIOS = sorted((EXAMPLE / "portfolios").glob("*.json"))
MONTHS = {m: i for i, m in enumerate("Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), 1)}


def month(text):
    name, _, year = text.split()
    return int(year) * 12 + MONTHS[name] - 1


def feed():
    prices, index = {}, {}
    with open(EXAMPLE / "data/stocks.csv") as f:
        for r in csv.DictReader(f):
            prices.setdefault(r["symbol"], {})[month(r["date"])] = float(r["price"])
    with open(EXAMPLE / "data/sp500.csv") as f:
        for r in csv.DictReader(f):
            index[month(r["date"])] = float(r["price"])
    return prices, index


def text_month(m):
    return f"{m // 12}-{m % 12 + 1:02d}"


def tool_figures(portfolio):
    prices, index = feed()
    market = {
        "symbols": [{"symbol": s, "prices": [{"date": text_month(m), "price": p} for m, p in sorted(ps.items())]}
                    for s, ps in prices.items()],
        "index": [{"date": text_month(m), "price": p} for m, p in sorted(index.items())],
    }
    r = subprocess.run(["/usr/bin/python3", str(EXAMPLE / "tools/analysis.py")], text=True, capture_output=True,
                       input=json.dumps({"portfolio": portfolio, "market": market}), timeout=30)
    assert r.returncode == 0, r.stderr
    return json.loads(r.stdout)


def independent(portfolio):
    prices, index = feed()
    held = portfolio["holdings"]
    common = np.array(sorted(set.intersection(set(index), *(set(prices[h["symbol"]]) for h in held))))
    shares = np.array([h["shares"] for h in held], float)
    matrix = np.array([[prices[h["symbol"]][m] for m in common] for h in held])
    v = shares @ matrix
    m = np.array([index[c] for c in common])
    # Log returns exponentiated give the simple ones by another route.
    r, rm = np.expm1(np.diff(np.log(v))), np.expm1(np.diff(np.log(m)))
    w = shares * matrix[:, -1] / v[-1]
    slope = np.linalg.lstsq(np.column_stack([np.ones_like(rm), rm]), r, rcond=None)[0][1]  # beta as an OLS slope
    return {
        "months": len(common), "value": v[-1], "total_return": np.prod(1 + r) - 1,
        "annual_return": np.exp(np.mean(np.log1p(r)) * 12) - 1, "volatility": np.std(r, ddof=1) * 12 ** 0.5,
        "max_drawdown": np.min(v / np.maximum.accumulate(v)) - 1, "beta": slope,
        "concentration": 1 - (1 - np.dot(w, w)), "value_at_risk": max(0.0, -v[-1] * np.percentile(r, 5)),
    }


@pytest.mark.parametrize("path", PORTFOLIOS, ids=lambda p: p.stem)
def test_figures_equal_an_independent_computation(path):
    portfolio = json.loads(path.read_text())
    got, want = tool_figures(portfolio), independent(portfolio)
    for key, value in want.items():
        assert got[key] == pytest.approx(value, rel=1e-9), key


def test_a_drawdown_is_measured_from_the_peak_before_it():
    p = {"client": "x", "name": "x", "currency": "USD", "holdings": [{"symbol": "AMZN", "shares": 1}]}
    f = tool_figures(p)
    values = [s["value"] for s in f["series"]]
    worst = min(b / a - 1 for i, a in enumerate(values) for b in values[i:])
    assert f["max_drawdown"] == pytest.approx(worst, rel=1e-12)


def test_an_unknown_symbol_is_an_error_with_its_name():
    prices = [{"date": f"2000-0{i}", "price": 1.0} for i in range(1, 5)]
    r = subprocess.run(["/usr/bin/python3", str(EXAMPLE / "tools/analysis.py")], text=True, capture_output=True, timeout=30,
                       input=json.dumps({"portfolio": {"client": "x", "name": "x", "holdings": [{"symbol": "NOPE", "shares": 1}]},
                                         "market": {"symbols": [{"symbol": "IBM", "prices": prices}], "index": prices}}))
    assert r.returncode != 0 and "no prices for NOPE" in r.stderr


def test_the_data_is_what_its_source_note_says():
    prices, index = feed()
    assert sorted(prices) == ["AAPL", "AMZN", "GOOG", "IBM", "MSFT"]
    assert sum(map(len, prices.values())) == 560 and len(index) == 123
