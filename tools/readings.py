"""Write into docs/registry.md where the digits of the registry were read a second time."""

from __future__ import annotations

import csv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "registry.md"
BEGIN, END = "<!-- readings: made by tools/readings.py -->", "<!-- end of readings -->"


def table() -> str:
    """Return the table of all entries, in the order of the registry."""
    first = {row["id"]: row for row in _rows("results")}
    lines = ["| entry | first reading | second reading | outcome |", "|---|---|---|---|"]
    for row in _rows("readings"):
        entry = first[row["id"]]
        read = f"{entry['evidence_level']}: {entry['evidence_location']}"
        again = f"{row['second_reading']} ({row['date']})" if row["second_reading"] else ""
        lines.append(f"| `{row['id']}` | {read} | {again} | {row['outcome']} |")
    return "\n".join(lines)


def written(page: str) -> str:
    """Return the page with the table between its two marks."""
    before, _, rest = page.partition(BEGIN)
    after = rest.partition(END)[2]
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}"


def _rows(name: str) -> list[dict[str, str]]:
    with (ROOT / "data" / "published" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
