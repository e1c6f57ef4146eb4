#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""market_api_tool: {"symbols": [...]} -> monthly prices of each, oldest first, from the market-data service.

usage: market_api.py CA.pem     the certificates to trust, instead of the system's; everything else is as on the Internet:
the name is looked up, the port is 443, the server's certificate is verified against the name.
"""

import http.client
import json
import ssl
import sys
from urllib.parse import quote

HOST = "api.marketdata.com"
TIMEOUT_S = 5


def fetch(connection, symbol):
    connection.request("GET", f"/v1/quotes/{quote(symbol, safe='')}", headers={"Accept": "application/json"})
    r = connection.getresponse()
    body = r.read()
    if r.status == 404:
        sys.exit(f"no prices for {symbol}")
    if r.status != 200:
        sys.exit(f"{HOST} answered {r.status} {r.reason}")
    return json.loads(body)


def main():
    wanted = json.load(sys.stdin)["symbols"]
    trusted = ssl.create_default_context(cafile=sys.argv[1])
    connection = http.client.HTTPSConnection(HOST, timeout=TIMEOUT_S, context=trusted)
    try:
        found = [fetch(connection, s) for s in wanted]  # one connection for all of them
    except OSError as e:
        sys.exit(f"{HOST}: {e}")
    finally:
        connection.close()
    json.dump({"symbols": found}, sys.stdout)


if __name__ == "__main__":
    main()
