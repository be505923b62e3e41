"""What a user installs: the wheel carries the data that are free, and PyMC and ArviZ fit together on this Python."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import warnings
from importlib import import_module
from pathlib import Path
from zipfile import ZipFile

import pytest

from alliance_meta.effects.datasets import NOT_INSTALLED

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    return ZipFile(path)


def licences(folder: Path) -> set[str]:
    return {entry["name"] for entry in json.loads((folder / "datapackage.json").read_text("utf-8"))["licenses"]}


def test_wheel_holds_the_package_and_the_free_data_only(wheel: ZipFile) -> None:
    data = {
        f"alliance_meta/_data/{path.relative_to(ROOT / 'data').as_posix()}"
        for path in (ROOT / "data").rglob("*")
        if path.is_file() and not path.name.startswith(".") and path.parent.name not in NOT_INSTALLED
    }
    names = set(wheel.namelist())
    assert len(data) > 10
    assert data == {name for name in names if name.startswith("alliance_meta/_data/")}
    assert {name.split("/")[0].split("-")[0] for name in names} == {"alliance_meta"}


def test_the_licence_of_the_wheel_names_every_licence_in_it(wheel: ZipFile) -> None:
    folders = [path.parent for path in (ROOT / "data").rglob("datapackage.json")]
    under_gpl = {folder.name for folder in folders if any("GPL" in name for name in licences(folder))}
    assert under_gpl == set(NOT_INSTALLED)
    inside = {name for folder in folders if folder.name not in NOT_INSTALLED for name in licences(folder)}
    (metadata,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    stated = re.search(r"^License-Expression: (.*)$", wheel.read(metadata).decode(), re.M)
    assert stated is not None
    assert set(stated[1].split(" AND ")) == inside | {"BSD-3-Clause"}


def test_data_load_from_the_wheel_alone(wheel: ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path)
    program = (
        "import alliance_meta as am; from pathlib import Path; "
        "print(Path(am.__file__).parent.parent == Path.cwd(), len(am.load_dataset('kolden2011').frame))\n"
        "try: am.load_dataset('molloy2014')\n"
        "except am.CannotRunError as error: print(error)"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    first, second = done.stdout.splitlines()
    assert first == "True 16"
    assert second.startswith("molloy2014 is under the GNU General Public License")
    assert "data/validation/molloy2014" in second


def test_pymc_and_arviz_fit_together() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = [import_module(name).__version__.split(".")[0] for name in ("pymc", "arviz")]
    assert found == (["6", "1"] if sys.version_info >= (3, 12) else ["5", "0"])
