"""The report's look, on screen and on paper."""

CSS = """
:root { --ink: #1c1c1c; --faint: #5b5b5b; --line: #d6d6d6; --accent: #0b5394; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 0 1.5rem 4rem; max-width: 76rem; color: var(--ink); background: #fff;
  font: 16px/1.5 system-ui, sans-serif; }
h1 { margin: 1.5rem 0 .2rem; font-size: 1.7rem; } h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); }
h3 { margin: 1.5rem 0 .3rem; }
a { color: var(--accent); } a.skip { position: absolute; left: -99rem; } a.skip:focus { left: 1rem; background: #fff; }
nav ul { display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; padding: 0; list-style: none; }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
.note, .small { color: var(--faint); font-size: .85rem; margin: .3rem 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; margin: .6rem 0; }
caption { text-align: left; font-weight: 600; padding: .3rem 0; }
th, td { padding: .25rem .7rem .25rem 0; text-align: left; border-bottom: 1px solid #eee; vertical-align: top; }
thead th { border-bottom: 2px solid var(--line); } .number { text-align: right; }
.bars td.bar { width: 18rem; } .bars .bar span { display: block; height: .8rem; background: #0072b2; }
fieldset { border: 1px solid var(--line); border-radius: .3rem; margin: .8rem 0; padding: .4rem 1rem; }
fieldset label { margin-right: 1.2rem; white-space: nowrap; } .swatch { font-weight: 700; }
select { font: inherit; } .controls label { margin-right: 1.5rem; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 1rem; }
.pair > div { min-width: 0; }
#chosen { min-height: 6rem; border-left: 4px solid #d00; padding-left: 1rem; font-size: .9rem;
  columns: 20rem; }
#chosen > * { break-inside: avoid; } #chosen p { margin: 0; column-span: all; }
details.card { border: 1px solid var(--line); border-radius: .3rem; margin: .5rem 0; padding: .4rem 1rem; }
summary { cursor: pointer; } dl { display: grid; grid-template-columns: minmax(14rem, 1fr) 2fr; gap: .2rem 1rem; }
dt { font-weight: 600; } dd { margin: 0; } .open { color: #8a4b00; } .doubt { color: #9b0000; }
.answered { color: inherit; } pre { background: #f6f6f6; padding: 1rem; overflow-x: auto; font-size: .8rem; }
figure.fronts { margin: .6rem 0; } figure.fronts svg { width: 100%; max-width: 60rem; height: auto; }
[hidden] { display: none !important; }
@media print {
  nav, fieldset input, #count, #chosen, .controls, a.skip, .modebar { display: none !important; }
  body { max-width: none; padding: 0; font-size: 10pt; } section { break-inside: auto; }
  tr, details.card, .chart { break-inside: avoid; } .scroll { overflow: visible; }
  table { font-size: 6pt; } th, td { padding: .1rem .15rem; }
  .pair { display: block; } h2, h3 { break-after: avoid; }
}
"""
