"""The frame of the page: its head and its style sheet ($title, $lead, $body and $footer are put in)."""

from __future__ import annotations

FOOTER = """Made by ros2_loc. Errors are of base_link in the map frame; a rotation error is the angle between estimate and truth.
NEES: normalized estimation error squared, with the bounds that hold its mean in 95 % of evaluations when all covariances are true."""

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light">
<title>$title</title>
<style>
:root { --ink: #1e293b; --soft: #64748b; --line: #e2e8f0; --good: #16a34a; --fair: #d97706; --bad: #dc2626; }
* { box-sizing: border-box; }
body { margin: 0; background: #f8fafc; color: var(--ink); font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto,
  "Helvetica Neue", Arial, "DejaVu Sans", sans-serif; -webkit-text-size-adjust: 100%; }
main { max-width: 1180px; margin: 0 auto; padding: 40px 20px 60px; }
header { margin-bottom: 28px; }
h1 { font-size: clamp(24px, 4vw, 34px); line-height: 1.2; letter-spacing: -0.02em; margin: 0 0 8px; overflow-wrap: anywhere; }
header p { font-size: clamp(16px, 2vw, 19px); color: var(--soft); margin: 0; max-width: 52em; }
.cards { display: grid; grid-template-columns: repeat(4, 1fr); gap: 12px; margin-bottom: 28px; }
.card { background: #fff; border: 1px solid var(--line); border-top: 3px solid #cbd5e1; border-radius: 8px; padding: 14px 16px; }
.card.good { border-top-color: var(--good); } .card.fair { border-top-color: var(--fair); } .card.bad { border-top-color: var(--bad); }
.card.bad .value { color: var(--bad); }
.card .name { font-size: 13px; color: var(--soft); }
.card .value { font-size: 23px; font-weight: 650; letter-spacing: -0.02em; line-height: 1.35; font-variant-numeric: tabular-nums; }
.card .note { font-size: 12.5px; color: var(--soft); line-height: 1.35; }
.plots { columns: 2; column-gap: 16px; }
figure { background: #fff; border: 1px solid var(--line); border-radius: 8px; margin: 0 0 16px; padding: 16px 18px 12px;
  break-inside: avoid; display: inline-block; width: 100%; }
figure h2, figure h3, .table h3 { font-size: 16px; font-weight: 650; margin: 0; }
figure p { font-size: 13.5px; color: var(--soft); margin: 2px 0 10px; overflow-wrap: anywhere; }
figure img { display: block; width: 100%; height: auto; }
figure.wide { display: block; }
h2.section { font-size: 22px; letter-spacing: -0.01em; margin: 24px 0 4px; }
p.words { color: var(--soft); margin: 0 0 14px; }
.tables { columns: 2; column-gap: 16px; margin-top: 12px; }
.table { background: #fff; border: 1px solid var(--line); border-radius: 8px; padding: 14px 18px; margin: 0 0 16px; break-inside: avoid;
  display: inline-block; width: 100%; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14px; font-variant-numeric: tabular-nums; margin-top: 6px; }
th { text-align: right; font-weight: 500; font-size: 12.5px; color: var(--soft); padding: 4px 0 4px 14px;
  border-bottom: 1px solid var(--line); }
td { text-align: right; padding: 5px 0 5px 14px; border-bottom: 1px solid #f1f5f9; overflow-wrap: anywhere; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
tr:last-child td { border-bottom: 0; }
footer { color: var(--soft); font-size: 13px; margin-top: 24px; }
@media (max-width: 820px) { main { padding: 24px 14px 40px; } .plots, .tables { columns: 1; } figure, .table { padding: 12px; }
  .cards { grid-template-columns: repeat(2, 1fr); gap: 8px; } .card { padding: 10px 12px; } .card .value { font-size: 20px; } }
@media print { body { background: #fff; } main { max-width: none; padding: 0; } }
</style>
</head>
<body>
<main>
<header><h1>$title</h1><p>$lead</p></header>
$body
<footer>$footer</footer>
</main>
</body>
</html>
"""
