#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The market-data service of the example: the CSV files of a directory as JSON over HTTPS, on 127.0.0.1.

    GET /v1/symbols            {"symbols": ["AAPL", ...]}
    GET /v1/quotes/SYMBOL      {"symbol": "AAPL", "prices": [{"date": "2000-01", "price": 25.94}, ...]}, oldest first

usage: market_data.py --certs DIR [--data DIR] [--port N]     (DIR: as server/make_certs leaves it; port 0: any)
Prints the port in a line of its own once it listens, and one line to standard error for each request.
"""

import argparse
import csv
import json
import ssl
import sys
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


def load(data):
    """{symbol: [{date, price}, ...]} of stocks.csv."""
    quotes = {}
    with open(data / "stocks.csv", newline="") as f:
        for row in csv.DictReader(f):
            month = datetime.strptime(row["date"], "%b %d %Y").strftime("%Y-%m")
            quotes.setdefault(row["symbol"], []).append({"date": month, "price": float(row["price"])})
    return {symbol: sorted(prices, key=lambda p: p["date"]) for symbol, prices in quotes.items()}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "market-data/1"
    timeout = 30

    def setup(self):
        self.request.do_handshake()  # here, in the connection's own thread
        super().setup()

    def do_GET(self):
        parts = self.path.partition("?")[0].split("/")
        quotes = self.server.quotes
        if parts == ["", "v1", "symbols"]:
            self.answer(200, {"symbols": sorted(quotes)})
        elif len(parts) == 4 and parts[:3] == ["", "v1", "quotes"] and parts[3] in quotes:
            self.answer(200, {"symbol": parts[3], "prices": quotes[parts[3]]})
        else:
            self.answer(404, {"error": "no such resource"})

    def answer(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, port, tls, quotes):
        super().__init__(("127.0.0.1", port), Handler)
        self.tls, self.quotes = tls, quotes

    def get_request(self):
        s, peer = super().get_request()
        s.settimeout(Handler.timeout)
        return self.tls.wrap_socket(s, server_side=True, do_handshake_on_connect=False), peer

    def handle_error(self, request, client_address):
        print(f"{client_address[0]}: {sys.exc_info()[1]}", file=sys.stderr)  # a client that goes away is no event


def main():
    ap = argparse.ArgumentParser(description="The market-data service of the financial crew.")
    ap.add_argument("--certs", type=Path, required=True)
    ap.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[1] / "data")
    ap.add_argument("--port", type=int, default=0)
    args = ap.parse_args()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.minimum_version = ssl.TLSVersion.TLSv1_2
    tls.load_cert_chain(args.certs / "server.pem", args.certs / "server.key")
    try:
        server = Server(args.port, tls, load(args.data))
    except OSError as e:
        sys.exit(f"market_data.py: cannot listen on 127.0.0.1:{args.port}: {e.strerror}")
    print(server.server_port, flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
