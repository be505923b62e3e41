"""What the guide shows but does not run with the tests, because it takes long, runs too."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

PAGE = Path(__file__).parents[2] / "docs" / "bayes.md"


def test_the_models_for_pymc_run_as_shown(tmp_path: Path) -> None:
    blocks = re.findall(r"^```(python|py)\n(.*?)^```$", PAGE.read_text("utf-8"), re.M | re.S)
    long = [body for language, body in blocks if language == "py"]
    assert long
    code = "\n".join([blocks[0][1], *long])
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Leave-one-out comparison of 2 models" in done.stdout
