"""Somebody's text, made harmless for the medium it is shown in. Knows characters; nothing of what the text means.

Prompts, responses, tokens and names of runs come from data and folders, and may hold anything: markup, formulas,
escape sequences, marks that turn the direction of writing. HTML is escaped by its template, behind ``plain``.
"""

import re

from ..data.excerpts import printable

ELLIPSIS = "…"
_BLANKS = {" ": "␣", "\n": "⏎", "\r": "␍", "\t": "⇥"}
_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "[": "{[}", "]": "{]}", "−": "$-$", "…": r"\ldots{}",
    "-": "{-}", "`": r"\textasciigrave{}", "'": r"\textquotesingle{}",
}  # fmt: skip
# Characters of Markdown's own, and those by which it makes links and mentions on its own.
_MARKDOWN = re.compile(r"[\\`*_{}\[\]()#+!|<>&~$@:^=\"'-]")


def plain(text: object, limit: int = 80) -> str:
    """One line of printable characters, cut with an ellipsis beyond ``limit``."""
    raw = str(text)
    shown = printable(raw[: 4 * limit])
    cut = len(shown) > limit or len(raw) > 4 * limit
    return shown[: limit - 1].rstrip() + ELLIPSIS if cut else shown


def token_text(text: str, limit: int = 16) -> str:
    """A token in which blanks can be seen: " Sure" and "Sure" are two; of nothing printable, its code points."""
    seen = "".join(_BLANKS.get(c, c) for c in text[: 4 * limit])
    return plain(seen, limit) or " ".join(f"U+{ord(c):04X}" for c in text[:3]) or "(empty)"


def csv_cell(value: object) -> object:
    """A cell that no spreadsheet takes for a formula: text that begins like one begins with an apostrophe."""
    if not isinstance(value, str):
        return value
    shown = plain(value, 2000)
    return f"'{shown}" if shown[:1] in ("=", "+", "-", "@", "'", "−") else shown


def latex(text: str) -> str:
    """Text that LaTeX sets as it is."""
    return "".join(_LATEX.get(c, c) for c in plain(text, 200))


def markdown(text: str) -> str:
    """Text that Markdown shows as it is: no markup, no link, no mention, no new cell of a table."""
    return _MARKDOWN.sub(lambda found: f"&#{ord(found[0])};", plain(text, 2000)).replace("www.", "www&#46;")
