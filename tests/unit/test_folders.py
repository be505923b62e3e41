"""A folder is the old set or the new one, whatever stops the program and wherever: every step is made to fail."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from alliance_meta import files
from alliance_meta.errors import CannotRunError, InputError
from alliance_meta.files import write_folder

OLD = {"results.json": b"1", "page.html": b"one", "tables/a.csv": b"1\n", "tables/gone.csv": b"1\n"}
NEW = {"results.json": b"22", "page.html": b"two", "tables/a.csv": b"2\n", "figures/f.svg": b"<svg/>"}
MINE = {"mine.txt": b"mine", "tables/mine.csv": b"m\n"}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "out" / "own"
    write_folder(folder, OLD)
    for name, data in MINE.items():
        (folder / name).write_bytes(data)
    return folder


class Trap:
    """Raise at the n-th call that reaches the file system; an audit hook sees each before it happens."""

    def __init__(self) -> None:
        self.left, self.error = -1, OSError()

    def __call__(self, event: str, _: object) -> None:
        if self.left >= 0 and event.startswith(("open", "os.", "shutil.", "tempfile.", "ctypes.")):
            self.left -= 1
            if self.left < 0:
                raise self.error


TRAP = Trap()


@pytest.fixture(scope="module", autouse=True)
def audited() -> None:
    sys.addaudithook(TRAP)


def failing_at_every_step(error: BaseException, target: Path) -> Iterator[int]:
    """Write the new set with each step failing in turn, until a run gets through."""
    for step in range(500):
        TRAP.left, TRAP.error = step, error
        try:
            write_folder(target, NEW, ours=set(OLD))
        except (type(error), CannotRunError):
            yield step
        else:
            if TRAP.left >= 0:
                return
            yield step
        finally:
            TRAP.left = -1
    raise AssertionError("no run got through")


@pytest.mark.parametrize("exchange", [True, False])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
def test_an_error_at_any_step_leaves_one_of_the_two_sets(
    target: Path, error: BaseException, exchange: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exchange:
        monkeypatch.setattr(files, "_exchange", lambda *_: False)
    states = []
    for _ in failing_at_every_step(error, target):
        states.append(contents(target) == NEW | MINE)
        assert states[-1] or contents(target) == OLD | MINE
        write_folder(target, OLD, ours={*OLD, *NEW})
        assert os.listdir(target.parent) == ["own"]
    assert len(states) > 30
    assert True in states
    assert False in states


@pytest.mark.parametrize("half", [0, 1])
def test_a_full_disk_leaves_the_old_set(target: Path, half: int, monkeypatch: pytest.MonkeyPatch) -> None:
    write = Path.write_bytes
    for full in range(len(NEW)):
        count = iter(range(len(NEW)))

        def fail(path: Path, data: bytes, full: int = full, count: Iterator[int] = count) -> int:
            if next(count) < full:
                return write(path, data)
            write(path, data[: half * len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(Path, "write_bytes", fail)
        with pytest.raises(CannotRunError, match="No space left"):
            write_folder(target, NEW, ours=set(OLD))
        assert contents(target) == OLD | MINE
        assert os.listdir(target.parent) == ["own"]


KILLED = """
import os, signal, sys
from pathlib import Path
from alliance_meta import files
from tests.unit.test_folders import MINE, NEW, OLD, TRAP, contents

class Kill(BaseException):
    def __init__(self): pass

target, exchange = Path(sys.argv[1]), sys.argv[2] == "one step"
if not exchange:
    files._exchange = lambda *_: False

class Trap(type(TRAP)):
    @property
    def error(self):
        os.kill(os.getpid(), signal.SIGKILL)
    @error.setter
    def error(self, _):
        pass

trap = Trap()
sys.addaudithook(trap)
seen = set()
for step in range(500):
    child = os.fork()
    if child == 0:
        trap.left = step
        files.write_folder(target, NEW, ours=set(OLD))
        os._exit(7 if trap.left >= 0 else 8)
    status = os.waitpid(child, 0)[1]
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) == 7:
        break
    assert os.WIFSIGNALED(status), status
    found = contents(target) if target.exists() else None
    assert found in (OLD | MINE, NEW | MINE) or (found is None and not exchange), (step, found)
    seen.add("missing" if found is None else "new" if found == NEW | MINE else "old")
    files.write_folder(target, OLD, ours=set(NEW) | set(OLD))
    assert contents(target) == OLD | MINE, (step, contents(target))
    assert os.listdir(target.parent) == ["own"], (step, os.listdir(target.parent))
else:
    raise AssertionError("no run got through")
print(step, *sorted(seen))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
@pytest.mark.parametrize(("how", "states"), [("one step", ["new", "old"]), ("two steps", ["missing", "new", "old"])])
def test_killed_at_any_step(target: Path, how: str, states: list[str]) -> None:
    """Where the system cannot swap in one step a moment has no folder; the next run then finds the old set."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", KILLED, str(target), how]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    steps, *seen = done.stdout.split()
    assert int(steps) > 30
    assert seen == states


def test_this_system_swaps_in_one_step(target: Path) -> None:
    other = target.with_name("other")
    write_folder(other, NEW)
    if not sys.platform.startswith(("linux", "darwin")):
        pytest.skip("two steps here")
    assert files._exchange(target, other)
    assert contents(target) == NEW
    assert contents(other) == OLD | MINE


def test_files_of_others_stay_and_are_renamed_where_their_name_is_needed(target: Path, tmp_path: Path) -> None:
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim/f.svg").write_bytes(b"victim")
    (target / "figures").symlink_to(tmp_path / "victim")
    (target / "empty").mkdir()
    (target / "report.pdf").mkdir()
    (target / "report.pdf/inside").write_bytes(b"inside")
    renamed = write_folder(target, NEW | {"report.pdf": b"%PDF"}, ours={"page.html", "tables/gone.csv"})
    assert renamed == {
        "figures": "figures.kept",
        "report.pdf": "report.pdf.kept",
        "results.json": "results.json.kept",
        "tables/a.csv": "tables/a.csv.kept",
    }
    assert (target / "results.json.kept").read_bytes() == b"1"
    assert (target / "report.pdf.kept/inside").read_bytes() == b"inside"
    assert (target / "figures.kept").readlink() == tmp_path / "victim"
    assert (tmp_path / "victim/f.svg").read_bytes() == b"victim"
    assert (target / "empty").is_dir()
    assert not (target / "tables/gone.csv").exists()
    assert contents(target).items() >= MINE.items()


def test_a_folder_that_holds_nothing_of_others_goes_with_our_files(target: Path) -> None:
    write_folder(target, {"results.json": b"3"}, ours=set(OLD))
    assert contents(target) == {"results.json": b"3"} | MINE
    (target / "tables/mine.csv").unlink()
    write_folder(target, {"results.json": b"4", "tables/a.csv": b"4"}, ours={"results.json"})
    write_folder(target, {"results.json": b"5"}, ours={"results.json", "tables/a.csv"})
    assert not (target / "tables").exists()


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "", "a\\b", "c:x", "a\0b", ".."])
def test_no_name_leads_out_of_the_folder(target: Path, name: str) -> None:
    with pytest.raises(InputError, match="no name of a file"):
        write_folder(target, {name: b""})
    assert contents(target.parent.parent) == {f"out/own/{key}": value for key, value in (OLD | MINE).items()}


def test_the_folder_that_one_is_in_is_not_swapped_away(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(target / "tables")
    with pytest.raises(CannotRunError, match="you are in this folder"):
        write_folder(target, NEW)


def test_what_another_run_is_writing_is_not_swept(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill: Callable[..., None] = files._fill
    nested: list[bool] = []

    def fill_while_another_runs(folder: Path, files: dict[str, bytes]) -> None:
        if not nested:
            nested.append(True)
            write_folder(target, OLD, ours=set(OLD))
            assert folder.is_dir()
        fill(folder, files)

    monkeypatch.setattr(files, "_fill", fill_while_another_runs)
    write_folder(target, NEW, ours=set(OLD))
    assert contents(target) == NEW | MINE


def test_a_target_that_is_a_link_or_a_file(target: Path) -> None:
    link = target.with_name("link")
    link.symlink_to(target)
    write_folder(link, NEW, ours=set(OLD))
    assert link.is_symlink()
    assert contents(target) == NEW | MINE
    with pytest.raises(CannotRunError, match="Not a directory"):
        write_folder(target / "page.html", NEW)
