"""Tables for other programs: CSV with a column for each number, Markdown, LaTeX."""

import csv
import io

from dfm_lightning.report.tables import NOTHING, Cell, Table

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "–": "--", "−": "$-$", "°": r"\textdegree{}",
    "±": r"$\pm$", "×": r"$\times$", "→": r"$\to$", "Π": r"$\Pi$",
}  # fmt: skip


def as_csv(table: Table) -> str:
    """Write comma-separated values; a column of estimates becomes four: mean, ends of the interval, scenes."""
    estimates = [any(row[column].estimate for row in table.rows) for column in range(len(table.head))]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    head: list[str] = []
    for name, several in zip(table.head, estimates, strict=True):
        head += [name, f"{name} low", f"{name} high", f"{name} scenes"] if several else [name]
    writer.writerow(head)
    for row in table.rows:
        cells: list[object] = []
        for cell, several in zip(row, estimates, strict=True):
            cells += _numbers(cell) if several else [cell.text]
        writer.writerow(cells)
    return text.getvalue()


def _numbers(cell: Cell) -> list[object]:
    if cell.estimate is None:
        return ["" if cell.text == NOTHING else cell.text, "", "", ""]
    mean, low, high, scenes = cell.estimate
    return [repr(mean), "" if low is None else repr(low), "" if high is None else repr(high), scenes]


def as_markdown(table: Table) -> str:
    """Write a table in GitHub's Markdown; the best is bold."""
    lines = [[_markdown(name) for name in table.head], ["---"] * len(table.head)]
    lines += [[_marked(cell, _markdown(cell.text), "**{}**") for cell in row] for row in table.rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def as_latex(table: Table) -> str:
    """Write a tabular with the rules of booktabs; the best is bold."""
    columns = "l" * sum(not any(row[c].estimate for row in table.rows) for c in range(len(table.head)))
    columns += "r" * (len(table.head) - len(columns))
    body = [[_latex(name) for name in table.head]]
    body += [[_marked(cell, _latex(cell.text), r"\textbf{{{}}}") for cell in row] for row in table.rows]
    rows = [" & ".join(row) + r" \\" for row in body]
    lines = [
        "% needs \\usepackage{booktabs}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        rows[0],
        r"\midrule",
        *rows[1:],
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def _marked(cell: Cell, text: str, template: str) -> str:
    return template.format(text) if cell.mark in ("best", "better") else text


def _markdown(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", r"\|").replace("\n", " ")


def _latex(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in text)
