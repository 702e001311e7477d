"""How the page looks: on a phone, by day and by night. System fonts, no file of its own."""

STYLE = """
:root {
  --ink: #1a1a1a; --faint: #5c5c5c; --rule: #d9d9d9; --paper: #ffffff; --shade: #f4f5f7; --accent: #00568a;
  --warn: #8a4b00;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #e8e8e8; --faint: #a8a8a8; --rule: #3d4046; --paper: #16181c; --shade: #202329; --accent: #7cc0ee;
    --warn: #ffb35c;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 76rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
}
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0 0 .75rem; }
h2 { font-size: 1.3rem; margin: 2.5rem 0 .75rem; padding-top: .75rem; border-top: 2px solid var(--ink); }
h3 { font-size: 1rem; margin: 1.5rem 0 .5rem; }
p { margin: .4rem 0; max-width: 48rem; overflow-wrap: anywhere; }
nav { display: flex; flex-wrap: wrap; gap: .4rem; margin-top: 1rem; }
nav a {
  padding: .3rem .7rem; border-radius: 1rem; background: var(--shade); color: var(--accent);
  text-decoration: none; font-size: .9rem;
}
nav a:hover, nav a:focus-visible { text-decoration: underline; }
.figures {
  display: grid; gap: 2rem 1.5rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 32rem), 1fr));
}
figure { margin: 0; min-width: 0; }
img { display: block; width: 100%; height: auto; background: #fff; border-radius: 4px; }
figcaption, .table p, .source { font-size: .875rem; }
.paper { padding-left: .75rem; border-left: 3px solid var(--accent); }
.source, small { color: var(--faint); }
.source { font-size: .78rem; }
small { display: block; font-size: .75rem; font-weight: normal; white-space: nowrap; }
.warning { color: var(--warn); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
thead { border-top: 2px solid var(--ink); border-bottom: 1px solid var(--ink); }
tbody { border-bottom: 2px solid var(--ink); }
tbody tr + tr { border-top: 1px solid var(--rule); }
th, td { padding: .3rem .6rem; text-align: right; vertical-align: top; }
th { font-weight: 600; vertical-align: bottom; }
th.group { text-align: center; border-bottom: 1px solid var(--rule); }
.words { text-align: left; }
details { margin-top: .5rem; }
summary { cursor: pointer; color: var(--accent); }
details table { font-size: .8rem; }
.missing {
  margin-top: 1.5rem; padding: .75rem 1rem; border-radius: 4px; background: var(--shade); font-size: .875rem;
}
.missing h3 { margin: 0 0 .5rem; }
dl { margin: 0; }
dt { font-weight: 600; }
dd { margin: 0 0 .6rem; overflow-wrap: anywhere; }
code { font: .85em/1.4 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; color: var(--accent); }
"""
