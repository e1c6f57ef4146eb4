#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""report-writer: one PDF per client with a chart of its value, and summary.json over all clients."""

import json
import sys

from reportlab.graphics.charts.lineplots import LinePlot
from reportlab.graphics.shapes import Drawing, String
from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import getSampleStyleSheet
from reportlab.lib.units import mm
from reportlab.platypus import Paragraph, SimpleDocTemplate, Spacer, Table

OUTPUT = "/tmp/reports"
FIGURES = [
    ("Value", "value", lambda v: f"{v:,.2f} USD", "shares times last price, summed"),
    ("Total return", "total_return", lambda v: f"{v:.2%}", "last value over first value, minus 1"),
    ("Annualised return", "annual_return", lambda v: f"{v:.2%}", "geometric mean growth per year"),
    ("Volatility", "volatility", lambda v: f"{v:.2%}", "standard deviation of monthly returns, times the root of 12"),
    ("Maximum drawdown", "max_drawdown", lambda v: f"{v:.2%}", "largest fall from a previous peak"),
    ("Beta", "beta", lambda v: f"{v:.3f}", "covariance with the S&P 500 over its variance"),
    ("Concentration", "concentration", lambda v: f"{v:.3f}", "Herfindahl index of the weights; 1 is a single holding"),
    ("Value at risk", "value_at_risk", lambda v: f"{v:,.2f} USD", "95 %, one month, historical simulation"),
]


def chart(series):
    """Value by month, as a line; x is the number of years since the first month."""
    d = Drawing(170 * mm, 70 * mm)
    plot = LinePlot()
    plot.x, plot.y, plot.width, plot.height = 22 * mm, 10 * mm, 142 * mm, 52 * mm
    plot.data = [[(i / 12, p["value"]) for i, p in enumerate(series)]]
    plot.lines[0].strokeColor = colors.HexColor("#1f4e79")
    plot.lines[0].strokeWidth = 1.2
    plot.yValueAxis.labelTextFormat = lambda v: f"{v / 1000:,.0f} k"
    plot.xValueAxis.labelTextFormat = lambda v: f"{v:.0f}"
    plot.xValueAxis.valueMin = 0
    d.add(plot)
    d.add(String(22 * mm, 65 * mm, f"Value, {series[0]['date']} to {series[-1]['date']} (x: years)", fontSize=9))
    return d


def write_pdf(f, path):
    styles = getSampleStyleSheet()
    doc = SimpleDocTemplate(path, pagesize=A4, title=f"Risk report: {f['name']}", author="report-writer")
    rows = [[label, show(f[key]), how] for label, key, show, how in FIGURES]
    holdings = [["Symbol", "Shares", "Price", "Weight"]] + [
        [h["symbol"], f"{h['shares']:,}", f"{h['price']:,.2f}", f"{h['weight']:.1%}"] for h in f["holdings"]]
    grid = [("GRID", (0, 0), (-1, -1), 0.25, colors.grey), ("FONTSIZE", (0, 0), (-1, -1), 9)]
    doc.build([
        Paragraph(f["name"], styles["Title"]),
        Paragraph(f"{f['months']} monthly observations, {f['from']} to {f['to']}", styles["Normal"]),
        Spacer(1, 6 * mm), Table(rows, style=grid, hAlign="LEFT"),
        Spacer(1, 6 * mm), chart(f["series"]),
        Spacer(1, 6 * mm), Table(holdings, style=[*grid, ("BACKGROUND", (0, 0), (-1, 0), colors.whitesmoke)], hAlign="LEFT"),
    ])


def main():
    task = json.load(sys.stdin)
    files, summary = [], []
    for c in task["context"]["analyze"]["clients"]:
        with open(c["file"]) as f:
            figures = json.load(f)
        path = f"{OUTPUT}/{c['client']}.pdf"
        write_pdf(figures, path)
        files.append(path)
        summary.append({k: figures[k] for k in ("client", "name", "from", "to", "months", *(key for _, key, _, _ in FIGURES))})
        print(f"wrote {path}", file=sys.stderr)
    with open(f"{OUTPUT}/summary.json", "w") as f:
        json.dump({"clients": summary}, f, indent=1)
    json.dump({"files": files, "summary_file": f"{OUTPUT}/summary.json", "summary": f"{len(files)} PDFs"}, sys.stdout)


if __name__ == "__main__":
    main()
