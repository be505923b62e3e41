"""What a user installs: the wheel carries the data, and PyMC and ArviZ fit together on this Python."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    return ZipFile(path)


def test_wheel_holds_the_package_and_the_data_only(wheel: ZipFile) -> None:
    data = {
        f"alliance_meta/_data/{path.relative_to(ROOT / 'data').as_posix()}"
        for path in (ROOT / "data").rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }
    names = set(wheel.namelist())
    assert len(data) > 10
    assert data <= names
    assert {name.split("/")[0].split("-")[0] for name in names} == {"alliance_meta"}


def test_data_load_from_the_wheel_alone(wheel: ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path)
    program = (
        "import alliance_meta as am; from pathlib import Path; "
        "print(Path(am.__file__).parent.parent == Path.cwd(), [len(am.load_dataset(x).frame) for x in ['molloy2014']])"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["True", "[16]"]


def test_pymc_and_arviz_fit_together() -> None:
    program = "import pymc, arviz; print(pymc.__version__.split('.')[0], arviz.__version__.split('.')[0])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == (["6", "1"] if sys.version_info >= (3, 12) else ["5", "0"])
