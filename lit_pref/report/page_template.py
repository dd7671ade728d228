"""The page of a report as a template: one file, nothing from elsewhere. Knows HTML; every value is escaped."""

STYLE = """
:root { color-scheme: light dark; --text: #1b1d20; --soft: #5c6370; --page: #ffffff; --line: #d9dde3; --box: #f6f7f9; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e4e6ea; --soft: #a3aab6; --page: #14161a; --line: #353a43; --box: #1c1f25; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 62rem; background: var(--page); color: var(--text);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .5rem; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .5rem; border-bottom: 1px solid var(--line); padding-bottom: .25rem; }
h3 { font-size: 1rem; margin: 1.5rem 0 .4rem; }
p { margin: .5rem 0; } .soft, figcaption { color: var(--soft); font-size: .875rem; }
.opening { border-left: 4px solid #0072B2; padding: .1rem 0 .1rem 1rem; margin: 1rem 0; font-size: 1.05rem; }
.scroll, .plot { overflow-x: auto; background: linear-gradient(to right, var(--page) 30%, transparent) 0 0 / 3rem 100%,
    linear-gradient(to left, var(--page) 30%, transparent) 100% 0 / 3rem 100%,
    linear-gradient(to right, var(--line), transparent) 0 0 / 1rem 100%,
    linear-gradient(to left, var(--line), transparent) 100% 0 / 1rem 100%;
  background-repeat: no-repeat; background-attachment: local, local, scroll, scroll; }
.scroll { border: 1px solid var(--line); border-radius: 6px; margin: .75rem 0; }
@media (min-width: 64rem) { .wide { --wide: min(50vw - 1rem, 40rem); margin-inline: calc(50% - var(--wide)); } }
table { border-collapse: collapse; width: 100%; font-size: .85rem; font-variant-numeric: tabular-nums;
  overflow-wrap: normal; }
th, td { padding: .4rem .6rem; text-align: right; vertical-align: top; border-bottom: 1px solid var(--line); }
th { background: var(--box); font-weight: 600; } thead th { vertical-align: bottom; }
thead th.long { min-width: 5.2rem; }
tr:last-child > * { border-bottom: 0; } th:first-child, .texts td, .texts th { text-align: left; }
tbody th { position: sticky; left: 0; min-width: 6.5rem; max-width: 9rem; overflow-wrap: break-word; }
.texts tbody th { min-width: 0; }
td small { display: block; color: var(--soft); white-space: nowrap; } td.strong { font-weight: 700; }
.texts td { min-width: 6rem; } .texts td.long { min-width: 15rem; white-space: normal; }
figure { margin: 1rem 0 2rem; } figure svg { display: block; width: 100%; min-width: 35rem; max-width: 60rem;
  height: auto; }
figure svg * { stroke-linejoin: round; stroke-linecap: butt; }
figure svg [id$="-background"] path { fill: none !important; }
ul { padding-left: 1.2rem; } li { margin: .25rem 0; }
@media print { body { max-width: none; } .scroll, .plot { overflow: visible; border: 0; }
  figure svg { min-width: 0; } figure { break-inside: avoid; } }
"""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="referrer" content="no-referrer">
<title>{{ title }}</title>
<style>{{ style }}</style>
</head>
<body>
{%- macro table(data, caption) %}
<div class="scroll wide" tabindex="0" role="region" aria-label="{{ caption }}"><table>
<thead><tr>
{%- for head in data.head %}<th scope="col"{% if " " in head %} class="long"{% endif %}>{{ head }}</th>{% endfor %}</tr>
</thead>
<tbody>
{%- for arm, cells in data.rows %}
<tr><th scope="row">{{ plain(arm, 60) }}</th>
{%- for cell in cells %}<td{% if cell.strong %} class="strong"{% endif %}>{{ cell.value }}
{%- for line in cell.detail %}<small>{{ line }}</small>{% endfor %}</td>{% endfor %}</tr>
{%- endfor %}
</tbody></table></div>
{%- endmacro %}
{%- macro reasons(lines) %}
<ul>{% for name, why in lines %}<li><b>{{ plain(name, 200) }}</b>: {{ plain(why, 300) }}</li>{% endfor %}</ul>
{%- endmacro %}
<h1>{{ title }}</h1>
<p class="soft">{{ document.counts }}</p>
<div class="opening">{% for sentence in document.sentences %}<p>{{ sentence }}</p>{% endfor %}</div>
<h2>Numbers</h2>
{{ table(document.means, "means of every arm") }}
<p class="soft">{{ document.about_means }}</p>
{%- if document.differences.rows %}
<h2>Differences from {{ plain(document.comparison.baseline.name, 60) }}</h2>
{{ table(document.differences, "differences from the first arm") }}
<p class="soft">{{ document.about_differences }}</p>
{%- endif %}
{%- if document.drawings %}
<h2>Figures</h2>
{%- for drawing, svg in document.drawings %}
<figure><h3>{{ drawing.title }}</h3>
<div class="plot" tabindex="0" role="region" aria-label="{{ drawing.title }}">{{ svg | safe }}</div>
<figcaption>{{ drawing.caption }} Numbers: figures/{{ drawing.name }}.csv</figcaption></figure>
{%- endfor %}
{%- endif %}
{%- if document.moved %}
<h2>Pairs whose chosen response fell most</h2>
<p class="soft">Changes of log-probability in nats at the last validation; of each arm's seeds the largest falls.
Texts are cut where there is an ellipsis.</p>
{%- for arm, rows in document.moved.items() %}
<h3>{{ plain(arm, 60) }}</h3>
<div class="scroll" tabindex="0" role="region" aria-label="pairs that fell most"><table class="texts">
<thead><tr><th scope="col">row</th><th scope="col">seed</th><th scope="col">chosen (nats)</th>
<th scope="col">rejected (nats)</th><th scope="col">prompt</th><th scope="col">chosen</th>
<th scope="col">rejected</th></tr></thead>
<tbody>{% for row in rows %}
<tr><th scope="row">{{ row.row }}</th><td>{{ row.seed }}</td><td>{{ row.chosen_change }}</td>
<td>{{ row.rejected_change }}</td><td class="long">{{ row.prompt }}</td><td>{{ row.chosen }}</td>
<td>{{ row.rejected }}</td></tr>
{%- endfor %}</tbody></table></div>
{%- endfor %}
{%- endif %}
<h2>What was not compared, and why</h2>
{%- if document.omissions %}
<h3>Runs that are left out</h3>
{{ reasons(document.omissions) }}
{%- else %}
<p>No run was left out.</p>
{%- endif %}
{%- if document.missing %}
<h3>Figures that are not here</h3>
{{ reasons(document.missing) }}
{%- endif %}
{%- if document.remarks %}
<h3>To be known about the rest</h3>
{{ reasons(document.remarks) }}
{%- endif %}
<p class="soft">lit-pref {{ version }}. The same runs give the same page.
Beside it: report.md, table.csv, table.tex, figures/.</p>
</body>
</html>
"""
