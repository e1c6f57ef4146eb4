#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""market_api_tool: {"symbols": [...]} -> monthly prices of each, oldest first, from the feed's stocks.csv."""

import csv
import json
import sys
from datetime import datetime

FEED = "/tmp/market-data/feed/stocks.csv"


def main():
    wanted = json.load(sys.stdin)["symbols"]
    prices = {s: [] for s in wanted}
    with open(FEED, newline="") as f:
        for row in csv.DictReader(f):
            if row["symbol"] in prices:
                month = datetime.strptime(row["date"], "%b %d %Y").strftime("%Y-%m")
                prices[row["symbol"]].append({"date": month, "price": float(row["price"])})
    unknown = [s for s in wanted if not prices[s]]
    if unknown:
        sys.exit(f"no prices for {', '.join(unknown)}")
    json.dump({"symbols": [{"symbol": s, "prices": sorted(prices[s], key=lambda p: p["date"])} for s in wanted]}, sys.stdout)


if __name__ == "__main__":
    main()
