#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""csv_parser_tool: {"file": "sp500.csv"} -> the rows of a date,price file of the feed, oldest first."""

import csv
import json
import sys
from datetime import datetime

FEED = "/tmp/market-data/feed"


def main():
    name = json.load(sys.stdin)["file"]  # the schema allows a bare file name only
    with open(f"{FEED}/{name}", newline="") as f:
        rows = [{"date": datetime.strptime(r["date"], "%b %d %Y").strftime("%Y-%m"), "price": float(r["price"])}
                for r in csv.DictReader(f)]
    json.dump({"rows": sorted(rows, key=lambda r: r["date"])}, sys.stdout)


if __name__ == "__main__":
    main()
