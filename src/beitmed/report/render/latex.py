"""Tables for a paper: LaTeX with booktabs, which pdfLaTeX, XeLaTeX and LuaLaTeX set alike."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from beitmed.report.document import Table, columns_of_numbers, plain, text

ROWS_OF_A_PAGE = 40  # more need a table that breaks across pages
_SPECIAL = {
    **{character: f"\\{character}" for character in "{}$&#_%"},
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "'": r"\textquotesingle{}",
    "`": r"\textasciigrave{}",
    "-": "-{}",  # else two of them become a dash
    "\u00a0": "~",
    "–": r"\textendash{}",
    "—": r"\textemdash{}",
    "…": r"\ldots{}",
    "‘": r"\textquoteleft{}",
    "’": r"\textquoteright{}",
    "“": r"\textquotedblleft{}",
    "”": r"\textquotedblright{}",
    "−": "$-$",
    "×": r"$\times$",
    "±": r"$\pm$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "≠": r"$\neq$",
    "≈": r"$\approx$",
    "→": r"$\rightarrow$",
    "·": r"$\cdot$",
    "²": r"$^2$",
    "°": r"$^\circ$",
    "µ": r"$\mu$",
    "χ": r"$\chi$",
    "α": r"$\alpha$",
    "κ": r"$\kappa$",
    "Δ": r"$\Delta$",
}


@lru_cache(maxsize=10_000)  # a table of pairs names each variant many times
def escape(string: str) -> str:
    """Return the text as LaTeX sets it; a letter that pdfLaTeX lacks is shown as `[U+6F22]`."""
    # A hyphen before a number is its sign.
    return "".join(
        _character(c) for c in re.sub(r"(?<![^\s\[(<>≤≥])-(?=[\d.])", "−", plain(string))
    )


def _character(c: str) -> str:
    if c in _SPECIAL:
        return _SPECIAL[c]
    # Letters of Western and Central Europe are in T1 fonts, which is what pdfLaTeX has.
    if c.isascii() or (ord(c) < 0x180 and unicodedata.category(c)[0] == "L"):
        return c
    return f"[U+{ord(c):04X}]"


def table(content: Table) -> str:
    """Return the table with caption, label `tab:<id>` and notes, ready for `\\input`.

    Needs booktabs, textcomp and T1 fonts, and longtable if it has more than 40 rows. Numbers are
    rounded to their column's digits, as everywhere but in the CSV.
    """
    heads = [escape(column.label) for column in content.columns]
    rows = [
        [
            escape(text(cell, column.digits))
            for cell, column in zip(row, content.columns, strict=True)
        ]
        for row in content.rows
    ]
    spec = "".join("r" if numeric else "l" for numeric in columns_of_numbers(content))
    head = rf"\toprule{chr(10)}{_line(heads)}{chr(10)}\midrule"
    caption = rf"\caption{{{escape(content.title)}}}\label{{tab:{content.id}}}"
    body = [_line(row) for row in rows]
    notes = [rf"{{\footnotesize {escape(note)}\par}}" for note in content.notes]
    if len(rows) > ROWS_OF_A_PAGE:
        begin = [rf"\begin{{longtable}}{{{spec}}}", rf"{caption}\\", head,
                 r"\endhead", r"\bottomrule", r"\endfoot"]  # fmt: skip
        end = [r"\end{longtable}", *notes]
    else:
        begin = [r"\begin{table}[htbp]", r"\centering", caption,
                 rf"\begin{{tabular}}{{{spec}}}", head]  # fmt: skip
        end = [r"\bottomrule", r"\end{tabular}\par\smallskip", *notes, r"\end{table}"]
    packages = "booktabs,textcomp" + ",longtable" * (len(rows) > ROWS_OF_A_PAGE)
    needs = rf"% \usepackage[T1]{{fontenc}} \usepackage{{{packages}}}"
    return "\n".join([needs, *begin, *body, *end]) + "\n"


def _line(cells: list[str]) -> str:
    # In braces, as `\\` would take a bracket that begins the next row for its own argument.
    return " & ".join(re.sub(r"^(\[.*)", r"{\1}", cell) for cell in cells) + r" \\"
