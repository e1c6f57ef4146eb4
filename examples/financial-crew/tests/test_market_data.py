# SPDX-License-Identifier: Apache-2.0
"""The market-data service and the tool that asks it: over HTTPS, from a real jail, with certificates verified."""

import csv
import json
import subprocess
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).resolve().parents[1]
POLICY = """agent: "data-collector"
sandbox:
  mode: deny-by-default
  filesystem: {read: [], write: []}
  network: {allowed_endpoints: ["api.marketdata.com:443"], deny_all_other: true}
  tools: {allowed: ["market_api_tool"], denied: ["*"]}
  allow_degraded: [evidence]
"""
CREW = """crew: quotes
process: sequential
policies: .
endpoints:
  "api.marketdata.com:443": {{connect_to: "127.0.0.1:{port}"}}
tools:
  market_api_tool:
    description: Quotes
    command: ["${{CREW_DIR}}/tools/market_api.py", "${{CREW_DIR}}/certs/ca.pem"]
    input: market_api.in.json
    output: market_api.out.json
    timeout: 10s
agents:
  data-collector: {{policy: data-collector.yaml, role: r, goal: g, command: ["python3", "${{CREW_DIR}}/agent.py"], driver: exec-json}}
tasks:
  ask: {{agent: data-collector, description: Ask for quotes, input: {{symbols: {symbols}}}, timeout: 30s}}
"""
AGENT = """import json, subprocess, sys
doc = json.load(sys.stdin)
r = subprocess.run(["crew-call", "tool", "market_api_tool"], input=json.dumps(doc["input"]), capture_output=True, text=True)
json.dump(json.loads(r.stdout), sys.stdout)
"""


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """(port, directory of its certificates) of a running service."""
    certs = tmp_path_factory.mktemp("certs")
    subprocess.run([EXAMPLE / "server/make_certs", certs], check=True, timeout=30)
    p = subprocess.Popen(["/usr/bin/python3", EXAMPLE / "server/market_data.py", "--certs", certs], stdout=subprocess.PIPE,
                         stderr=subprocess.DEVNULL, text=True)
    yield int(p.stdout.readline()), certs
    p.kill()
    p.wait()
    p.stdout.close()


def ask(runner, port, ca, symbols):
    files = {
        "crew.yaml": CREW.format(port=port, symbols=json.dumps(symbols)),
        "data-collector.yaml": POLICY,
        "agent.py": AGENT,
        "certs/ca.pem": (ca / "ca.pem").read_text(),
        "tools/market_api.py": (EXAMPLE / "tools/market_api.py").read_text(),
    }
    for name in ("market_api.in.json", "market_api.out.json"):
        files[name] = (EXAMPLE / "schemas" / name).read_text()
    r = runner.crewctl("run", "--json", runner.tree(files) / "crew.yaml", timeout=60)
    assert r.stdout, r.stderr
    return json.loads(r.stdout)["tasks"][0]["result"]


def csv_prices(symbol):
    with open(EXAMPLE / "data/stocks.csv") as f:
        return [float(row["price"]) for row in csv.DictReader(f) if row["symbol"] == symbol]


def test_quotes_come_over_https_as_they_stand_in_the_files(runner, service):
    got = ask(runner, *service, ["IBM", "GOOG"])
    assert [s["symbol"] for s in got["symbols"]] == ["IBM", "GOOG"]
    for s in got["symbols"]:
        assert [p["price"] for p in s["prices"]] == csv_prices(s["symbol"])
        assert [p["date"] for p in s["prices"]] == sorted(p["date"] for p in s["prices"])
    text = runner.crewctl("logs", "--crew", "quotes", "--agent", "data-collector", "--filter", "network").stdout
    assert "NETWORK: ALLOWED -> api.marketdata.com:443" in text
    assert text.count("NETWORK: CLOSED -> api.marketdata.com:443") == 1, text


def test_an_unknown_symbol_is_an_answer_with_its_name(runner, service):
    got = ask(runner, *service, ["IBM", "NOPE"])
    assert "no prices for NOPE" in got["error"]["message"] + json.dumps(got["error"].get("data"))


def test_a_server_that_the_ca_did_not_sign_is_not_believed(runner, service, tmp_path):
    subprocess.run([EXAMPLE / "server/make_certs", tmp_path], check=True, timeout=30)
    got = ask(runner, service[0], tmp_path, ["IBM"])
    assert "CERTIFICATE_VERIFY_FAILED" in json.dumps(got["error"])


def test_a_certificate_for_another_name_is_not_believed(runner, tmp_path):
    subprocess.run([EXAMPLE / "server/make_certs", tmp_path, "elsewhere.example"], check=True, timeout=30)
    p = subprocess.Popen(["/usr/bin/python3", EXAMPLE / "server/market_data.py", "--certs", tmp_path], stdout=subprocess.PIPE,
                         stderr=subprocess.DEVNULL, text=True)
    try:
        got = ask(runner, int(p.stdout.readline()), tmp_path, ["IBM"])
    finally:
        p.kill()
        p.wait()
        p.stdout.close()
    assert "CERTIFICATE_VERIFY_FAILED" in json.dumps(got["error"])
