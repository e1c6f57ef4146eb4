#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""portfolio_reader_tool: {} -> every client portfolio, by client name."""

import json
import sys
from pathlib import Path

PORTFOLIOS = Path("/data/client-portfolios")


def main():
    json.load(sys.stdin)
    found = [json.loads(p.read_text()) for p in sorted(PORTFOLIOS.glob("*.json"))]
    json.dump({"portfolios": sorted(found, key=lambda p: p["client"])}, sys.stdout)


if __name__ == "__main__":
    main()
