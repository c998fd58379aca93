"""The frame of a report: pieces of HTML, and how they look."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from html import escape

from PIL import Image

from sparring.report import charts

# The page may load nothing at all from anywhere: all pictures are inside it.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

STYLE = """
:root{color-scheme:light dark;--back:#f5f6f8;--card:#fff;--ink:#1c2330;--soft:#5a6472;--line:#dde1e7;
--normal:#0072b2;--odd:#b84f00;--good:#00734f;--bar:#d7dce4}
@media(prefers-color-scheme:dark){:root{--back:#12161c;--card:#1b2029;--ink:#e6e9ee;--soft:#a3adba;--line:#2f3743;
--normal:#56b4e9;--odd:#ff9d4d;--good:#4fd1a5;--bar:#3a4350}}
*{box-sizing:border-box}
body{margin:0;background:var(--back);color:var(--ink);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main,header,footer{max-width:1080px;margin:0 auto;padding:0 20px}
header{padding-top:32px}
h1{font-size:1.75rem;line-height:1.2;margin:0 0 12px;overflow-wrap:anywhere}
h2{font-size:1.25rem;margin:0 0 8px}
h3{font-size:1rem;margin:24px 0 4px}
p{margin:0 0 12px;max-width:72ch}
.soft,figcaption,footer{color:var(--soft);font-size:.875rem}
nav{display:flex;flex-wrap:wrap;gap:4px 18px;margin:12px 0 20px}
a{color:var(--normal)}
section{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:20px 22px;margin:0 0 18px}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin:0 0 16px}
.tile{border:1px solid var(--line);border-radius:10px;padding:10px 14px}
.tile b{display:block;font-size:1.6rem;line-height:1.25;font-variant-numeric:tabular-nums}
.notice{border-left:4px solid var(--odd);padding:8px 14px;background:var(--back);border-radius:0 8px 8px 0}
.holds{border-left-color:var(--good)}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,300px),1fr));gap:18px;margin:12px 0}
figure{margin:0}
figure img{display:block;max-width:100%;height:auto;border-radius:8px}
.charts img{width:100%;max-width:560px}
.strip{display:grid;grid-template-columns:repeat(auto-fill,minmax(130px,1fr));gap:14px;margin:12px 0 0}
.strip img{width:100%}
.table{overflow-x:auto;margin:0 0 12px}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:7px 14px 7px 0;border-bottom:1px solid var(--line);vertical-align:top}
thead th{color:var(--soft);font-weight:500;font-size:.875rem}
tbody th{font-weight:600}
.n{white-space:nowrap}
.made{display:grid;grid-template-columns:minmax(0,6fr) minmax(0,5fr);gap:0 24px}
.made h3{margin-top:0}
.bar{display:block;width:110px;height:6px;border-radius:3px;background:var(--bar);margin-top:6px;overflow:hidden}
.bar i{display:block;height:100%;background:var(--normal)}
.bar.odd i{background:var(--odd)}
dl{display:grid;grid-template-columns:max-content 1fr;gap:4px 20px;margin:0}
dt{color:var(--soft)}
dd{margin:0;overflow-wrap:anywhere}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(148px,1fr));gap:14px;margin:10px 0 6px}
.cards.wide{grid-template-columns:repeat(auto-fill,minmax(min(100%,228px),1fr))}
.card{border:1px solid var(--line);border-radius:10px;padding:10px;font-size:.8125rem;line-height:1.4}
.pair{display:flex;gap:6px;margin-bottom:8px}
.pair img{flex:1 1 0;min-width:0;width:100%;border-radius:6px}
.small img{image-rendering:pixelated}
.name{display:block;font-weight:600;overflow-wrap:anywhere}
.flag{color:var(--odd);font-weight:600}
.pass{color:var(--normal);font-weight:600}
@media(max-width:600px){main,header,footer{padding:0 12px}header{padding-top:20px}section{padding:16px 14px}
h1{font-size:1.4rem}dl{grid-template-columns:1fr;gap:0}dd{margin-bottom:8px}
.made{grid-template-columns:1fr;gap:20px}.n{white-space:normal}.bar{width:56px}
.metrics thead{display:none}.metrics tr{display:block;border-bottom:1px solid var(--line);padding:8px 0}
.metrics th,.metrics td{display:block;border:0;padding:1px 0}
.cards{display:flex;overflow-x:auto;padding-bottom:6px}.card{flex:0 0 46%}.wide .card{flex-basis:76%}
.strip{grid-template-columns:repeat(2,1fr)}}
@media print{body{background:#fff}section{break-inside:avoid}}
"""


def page(title: str, lead: str, sections: list[tuple[str, str, str]]) -> str:
    """The whole document.

    Args:
        title: Plain text.
        lead: HTML under the title.
        sections: (anchor, plain heading, HTML) of each.
    """
    links = "".join(f'<a href="#{anchor}">{escape(heading)}</a>' for anchor, heading, _ in sections)
    body = "".join(
        f'<section id="{a}"><h2>{escape(heading)}</h2>{content}</section>\n' for a, heading, content in sections
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f'<header><h1>{escape(title)}</h1>{lead}<nav aria-label="Sections">{links}</nav></header>\n'
        f"<main>\n{body}</main>\n<footer><p>Made by sparring. This file is complete in itself: it loads nothing "
        "from the network.</p></footer>\n</body>\n</html>\n"
    )


def embed(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode()


def embedded(image: Image.Image, most: int) -> str:
    """An image as PNG, reduced to `most` pixels a side."""
    if max(image.size) > most:
        image = image.copy()
        image.thumbnail((most, most), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, format="PNG", optimize=True)
    return embed(file.getvalue())


def chart(draw: charts.Draw, alt: str, caption: str) -> str:
    """A chart that follows the colours of the page; `alt` and `caption` are plain text."""
    light, dark = charts.both(draw)
    return (
        f'<figure><picture><source media="(prefers-color-scheme: dark)" srcset="{embed(dark)}">'
        f'<img src="{embed(light)}" alt="{escape(alt)}"></picture><figcaption>{escape(caption)}</figcaption></figure>'
    )


def tile(label: str, value: str, below: str) -> str:
    return f'<div class="tile"><span class="soft">{escape(label)}</span><b>{escape(value)}</b>' + (
        f'<span class="soft">{escape(below)}</span></div>'
    )


def table(head: Iterable[str], rows: Iterable[Iterable[str]], style: str = "") -> str:
    """A table; cells of `rows` are HTML, the first of each row is its heading."""
    titles = "".join(f'<th scope="col">{escape(title)}</th>' for title in head)
    body = ""
    for row in rows:
        first, *rest = row
        body += f'<tr><th scope="row">{first}</th>' + "".join(f"<td>{cell}</td>" for cell in rest) + "</tr>"
    whole = f'<table class="{style}"><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table>'
    return f'<div class="table">{whole}</div>'
