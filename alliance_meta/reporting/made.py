"""What a report was made of, in ``.made`` in its folder, and whether that is still so.

``make reports`` runs this file as a program, without the package: it builds the reports that something changed for.
It imports the standard library alone, because a run with nothing to do must end at once.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

RECORD = ".made"
RESULTS = "results.json"
FORMATS = ("html", "pdf", "docx", "figures", "tables", "methods")
SCHEMA = "alliance_meta/made/1"
LONGEST_ID = 80
ID = rf"[a-z][a-z0-9_]{{0,{LONGEST_ID - 1}}}"
# The only names that a report gives to its files, and so the only ones it ever removes.
OUTPUT = re.compile(
    rf"{re.escape(RESULTS)}|report\.(html|pdf|docx)|methods\.txt|references\.bib|figures/{ID}(-\d+)?(-page\d+)?\.(svg|png|html)|tables/{ID}(-\d+)?\.csv"
)


def named_by(*words: str) -> str:
    """Return the id of an item that has none, from what it shows.

    >>> named_by("statistics", "a", "b"), named_by("reproduce", "My sheet.csv")
    ('statistics_a_b', 'reproduce_my_sheet_csv')
    """
    return re.sub(r"[^a-z0-9_]+", "_", "_".join(words).lower())[:LONGEST_ID]


def fingerprint(declaration: Path, inputs: Iterable[str]) -> dict[str, Any]:
    """Return hashes of all that a report depends on; taken before it is made, so that a change meanwhile shows.

    `inputs` are as seen from the declaration's folder; one that is not there counts as such.
    """
    names = sorted({declaration.name, *inputs})
    return {"package": package_hash(), "inputs": {name: _hash(declaration.parent / name) for name in names}}


def record(made_of: Mapping[str, Any], *, formats: Iterable[str], outputs: Iterable[str]) -> bytes:
    """Return the record of a report: what it was made of, the formats asked for, the names of its files."""
    made = {"schema": SCHEMA, **made_of, "formats": sorted(formats), "outputs": sorted(outputs)}
    return (json.dumps(made, ensure_ascii=False, indent=1) + "\n").encode("utf-8", "surrogatepass")


def read_record(folder: Path) -> dict[str, Any] | None:
    """Return the record in a report's folder; None where there is none, or none that a report wrote."""
    try:
        made = json.loads((folder / RECORD).read_bytes().decode("utf-8", "surrogatepass"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(made, dict) or made.get("schema") != SCHEMA:
        return None
    texts = isinstance(made.get("inputs"), dict) and all(
        isinstance(made.get(key), list) and all(isinstance(one, str) for one in made[key])
        for key in ("formats", "outputs")
    )
    return made if texts and all(map(OUTPUT.fullmatch, made["outputs"])) else None


def is_fresh(declaration: Path, folder: Path) -> bool:
    """Return whether the report is there, whole, and made of what is there now."""
    made = read_record(folder)
    return (
        made is not None
        and declaration.name in made["inputs"]
        and made["formats"] == sorted(FORMATS)
        and {name: made.get(name) for name in ("package", "inputs")} == fingerprint(declaration, made["inputs"])
        and all((folder / name).is_file() for name in made["outputs"])
    )


@cache
def package_hash() -> str:
    """Return one hash of this package, its data, the lock of its dependencies and the Python that runs."""
    package = Path(__file__).resolve().parents[1]
    checkout = package.parent
    roots = [package, *([checkout / "data"] if (checkout / "data" / "published").is_dir() else [])]
    walked = (os.path.join(at, name) for root in roots for at, _, names in os.walk(root) for name in names)
    files = [path for path in walked if not path.endswith(".pyc")]
    whole = hashlib.sha256(repr(sys.version_info[:3]).encode())
    for path in sorted([*files, str(checkout / "requirements.lock")]):
        whole.update(f"{path[len(str(checkout)) :]} {_hash(path)}\n".encode("utf-8", "surrogateescape"))
    return whole.hexdigest()


def main(command: str, folder: str) -> int:
    """Build the reports declared in `folder` that something changed for, with `command`; list those that are there."""
    declarations = [path for path in sorted(Path(folder).glob("*.toml")) if not path.name.startswith(".")]
    worst = 0
    for declaration in declarations:
        if not is_fresh(declaration, default_folder(declaration)):
            worst = max(worst, abs(subprocess.run([command, "report", "--", declaration], check=False).returncode))
    there = [folder for folder in map(default_folder, declarations) if (folder / "report.html").is_file()]
    for page in [*(folder / "report.html" for folder in there), *([write_index(there)] if there else [])]:
        print(page)
    return worst


INDEX = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Reports</title>
<link rel="icon" href="data:,">
<style>
:root { color-scheme: light dark; background: light-dark(#fff, #16181b); color: light-dark(#1b1f24, #e7e6e1); }
body { font: 1.05rem/1.5 Georgia, serif; max-width: 44rem; margin: 2rem auto; padding: 0 1rem; }
li { margin: 0 0 1.2rem; }
p { margin: .2rem 0; }
a { color: light-dark(#0645ad, #9ec5ff); }
</style>
</head>
<body>
<main>
<h1>Reports</h1>
<ul>
%s
</ul>
</main>
</body>
</html>
"""
OTHERS = {"report.pdf": "PDF", "report.docx": "Word", RESULTS: "every number"}


def write_index(folders: Iterable[Path]) -> Path:
    """Write the list of the reports in these folders beside them, and return where it is."""
    listed = []
    for folder in folders:
        place = quote(folder.name)
        files = {other: words for other, words in OTHERS.items() if (folder / other).is_file()}
        links = ", ".join(f'<a href="{place}/{other}">{words}</a>' for other, words in files.items())
        listed.append(f'<li><a href="{place}/report.html">{escape(_title(folder))}</a><p>{links}</p></li>')
        index = folder.parent / "index.html"
    index.write_text(INDEX % "\n".join(listed), "utf-8", "surrogateescape")
    return index


def _title(folder: Path) -> str:
    try:
        return str(json.loads((folder / RESULTS).read_bytes())["report"]["title"])
    except (OSError, ValueError, LookupError, TypeError):
        return folder.name


def default_folder(declaration: Path) -> Path:
    """Return where a report goes that no folder is named for."""
    return declaration.parent / "build" / declaration.stem


def _hash(path: str | Path) -> str | None:
    # A pipe would be waited for.
    if not os.path.isfile(path):
        return None
    try:
        with open(path, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return None


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
