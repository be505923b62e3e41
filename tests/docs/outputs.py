"""What the Python blocks of a page print; ``PYTHONPATH=. python tests/docs/outputs.py docs/tutorial.md`` writes it in.

A block ```` ```text ```` right after a block ```` ```python ```` holds what that prints. All blocks of a page run one
after the other, as a reader would type them. `test_readme.py` asserts that the pages hold what is printed.
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
import tempfile
from pathlib import Path

BLOCK = re.compile(r"^```python\n(?P<code>.*?)^```$(?:\n\n(?P<open>```text\n)(?P<said>.*?)^```$)?", re.M | re.S)


def run(blocks: list[str]) -> list[str]:
    """Run blocks in one namespace and return what each prints, without blanks at the ends of lines."""
    space, said = {"__name__": "__main__"}, []
    for i, block in enumerate(blocks):
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec(compile(block, f"block {i + 1}", "exec"), space)
        said.append("".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines()))
    return said


def written(text: str) -> str:
    """Return a page with what its blocks print."""
    said = iter(run([match["code"] for match in BLOCK.finditer(text)]))

    def block(match: re.Match[str]) -> str:
        printed = next(said)
        return f"```python\n{match['code']}```" + (f"\n\n```text\n{printed}```" if match["open"] else "")

    return BLOCK.sub(block, text)


def main(pages: list[Path]) -> None:
    for page in pages:
        text = page.read_text("utf-8")
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            text = written(text)
        page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main([Path(page).resolve() for page in sys.argv[1:]])
