"""The style sheet of the report."""

CSS = """
:root { color-scheme: light; --ink: #1f2933; --faint: #6b7785; --line: #e3e7ec; --good: #1a7f4b; --bad: #b42318; }
* { box-sizing: border-box; }
body { margin: 0; background: #f6f7f9; color: var(--ink); font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto,
  "DejaVu Sans", sans-serif; }
header, main { max-width: 1120px; margin: 0 auto; padding: 0 20px; }
header { padding-top: 28px; }
h1 { font-size: 26px; margin: 0; letter-spacing: -0.01em; }
h2 { font-size: 18px; margin: 0 0 12px; }
h3 { font-size: 14px; margin: 18px 0 4px; }
header p { color: var(--faint); margin: 4px 0 20px; overflow-wrap: anywhere; }
p { color: var(--faint); font-size: 13px; margin: 10px 0; overflow-wrap: anywhere; }
p b { color: var(--ink); font-weight: 600; }
section, .tile { background: white; border: 1px solid var(--line); border-radius: 10px; }
section { padding: 18px 20px; margin: 16px 0; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(200px, 1fr)); gap: 14px; }
.tile { padding: 14px 16px; }
.name, .change { color: var(--faint); font-size: 13px; }
.value { font-size: 28px; font-weight: 650; letter-spacing: -0.01em; font-variant-numeric: tabular-nums; }
.value.long { font-size: 21px; line-height: 37px; }
.unit { font-size: 14px; font-weight: 400; color: var(--faint); margin-left: 6px; }
.better { color: var(--good); font-weight: 600; }
.worse { color: var(--bad); font-weight: 600; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th { text-align: right; font-weight: 600; font-size: 13px; color: var(--faint); }
th, td { padding: 7px 10px; border-bottom: 1px solid var(--line); white-space: nowrap; }
td { text-align: right; }
th:first-child, td:first-child { text-align: left; padding-left: 0; white-space: normal; }
tbody tr:last-child td { border-bottom: 0; }
.card thead { display: none; }
.card td { text-align: left; white-space: normal; overflow-wrap: anywhere; }
.card td:first-child { color: var(--faint); width: 25%; min-width: 110px; }
.definition { display: block; color: var(--faint); font-size: 12px; }
.gallery { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 430px), 1fr)); gap: 12px 24px; }
img { display: block; max-width: 100%; height: auto; margin: 0 auto; }
img.wide { max-width: none; margin: 0; }
@media (min-width: 1120px) { img.wide { max-width: 100%; } }
details { margin-top: 14px; }
summary { cursor: pointer; font-weight: 600; font-size: 14px; }
details .scroll { max-height: 480px; overflow: auto; margin-top: 8px; }
@media (max-width: 520px) { .card thead { display: none; }
.card td { text-align: left; white-space: normal; overflow-wrap: anywhere; }
.card td:first-child { color: var(--faint); width: 25%; min-width: 110px; }
.definition { display: none; } header, main { padding: 0 10px; } section { padding: 14px 12px; }
  th, td { padding: 6px 6px; } }
@media print { body { background: white; } section { break-inside: avoid; } }
"""
