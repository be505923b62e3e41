"""The explorer: its answers are those of our fits, its words say what is wrong, and it serves nobody else."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from alliance_meta import RandomEffectsModel, escalc, load_dataset
from alliance_meta.cli import main
from alliance_meta.cli.explorer.answers import METHODS, Asked, Explorer
from alliance_meta.cli.explorer.server import MOST_BYTES, Server
from alliance_meta.cli.fit import RANDOM
from alliance_meta.errors import CannotRunError, InputError
from alliance_meta.models.recipes import che
from alliance_meta.tables.format import format_estimate

SHEET = """study,r,n,rater,odd name,note,spread
Ada <b>x</b>,.31,48,client,1,=1+1,.022222
Bo,-.02,120,observer,2,a,.008547
Bo,.18,61,client,3,b,.017241
Di,.25,70,observer,5,c,.014925
"""


OF_FEW = pytest.mark.filterwarnings("ignore::alliance_meta.errors.AllianceMetaWarning")


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Explorer:
    path = tmp_path_factory.mktemp("explore") / "own.csv"
    path.write_text(SHEET, encoding="utf-8")
    return Explorer(str(path))


def plain(explorer: Explorer, monkeypatch: pytest.MonkeyPatch, **given: Any) -> dict[str, Any]:
    """Ask without drawing, which takes most of the time."""
    monkeypatch.setattr("alliance_meta.cli.explorer.answers._drawn", lambda plot, fit: {"svg": "", "alt": ""})
    return explorer.answer(Asked.of({"source": explorer.own or "molloy2014", **given}))


def printed(fit: Any) -> str:
    row = fit.predict(scale="r").iloc[0]
    return f"r = {format_estimate(row['pred'], row['ci_lb'], row['ci_ub'], 3)}; 95% prediction interval "


def test_the_estimate_is_that_of_the_fit_and_beside_it_that_of_every_row(monkeypatch):
    effects = escalc(load_dataset("molloy2014"))
    found = plain(Explorer(), monkeypatch, left_out=[0, 3], method="DL", test="z")
    kept = [i for i in range(effects.k) if i not in (0, 3)]
    assert found["estimate"].startswith(printed(RandomEffectsModel(effects.take(kept), method="DL", test="z").fit()))
    every = printed(RandomEffectsModel(effects, method="DL", test="z").fit())
    assert found["every"].startswith(f"With every row: {every}")
    assert found["every"].partition(": ")[2] != f"{found['estimate']}."
    assert found["counted"] == "k = 14 effects; 2 left out"
    assert plain(Explorer(), monkeypatch)["every"] == ""


@OF_FEW
def test_dependent_effects_get_their_model_and_a_moderator_its_test(own, monkeypatch):
    effects, _ = own.read(own.own)
    assert plain(own, monkeypatch, rho=0.4)["estimate"].startswith(printed(che(effects, rho=0.4)))
    assert "che" in plain(own, monkeypatch)["model"]
    found = plain(own, monkeypatch, model="random", moderator="odd name")
    fit = RandomEffectsModel(effects, mods="`odd name`").fit()
    assert f"F({fit.QMdf[0]}, {fit.QMdf[1]:g})" in found["estimate"]
    assert "odd name" in found["summary"]


def test_a_sheet_shows_its_rows_its_moderators_and_no_effects_among_them(own):
    found = own.sheet(own.own)
    assert [row["label"] for row in found["rows"]] == ["Ada <b>x</b>", "Bo a", "Bo b", "Di"]
    # tanh(atanh(.31) -+ 1.96 / sqrt(48 - 3))
    assert found["rows"][0]["effect"] == ".31 [.03, .55]"
    assert found["moderators"] == ["n", "rater", "odd name"]


@pytest.mark.parametrize("method", METHODS[RANDOM])
def test_every_estimator_of_the_list_can_be_had(method, monkeypatch):
    assert plain(Explorer(), monkeypatch, method=method)["estimate"].startswith("r = .1")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"left_out": [0, 1, 2, 3]}, "no row is ticked"),
        ({"left_out": [7]}, "has no row 7"),
        ({"moderator": "rate"}, "did you mean 'rater'"),
        ({"moderator": "__import__('os')"}, "there is no column"),
        ({"source": "/etc/passwd"}, "none of the data sets"),
        ({"source": "molloy"}, "none of the data sets"),
        ({"model": "lm"}, "model: "),
        ({"method": "reml"}, "method: "),
        ({"left_out": ["0"]}, "left_out.0: "),
        ({"extra": 1}, "extra: "),
        ({"rho": "x"}, "rho: "),
        ({"model": "random", "rho": 0.5}, "does nothing"),
        ({"left_out": [1, 2, 3], "model": "che"}, "one cluster"),
        ({"left_out": [0, 2], "model": "random", "moderator": "rater"}, "rater"),
    ],
)
def test_what_cannot_be_done_says_why(own, monkeypatch, given, words):
    with pytest.raises(InputError) as error:
        plain(own, monkeypatch, **given)
    assert words in str(error.value)


def test_one_row_is_a_defined_answer(own, monkeypatch):
    found = plain(own, monkeypatch, left_out=[1, 2, 3], model="random")
    assert found["counted"] == "k = 1 effect; 3 left out"
    assert "nan" not in json.dumps(found).lower()


@pytest.fixture(scope="module")
def served(own: Explorer) -> Iterator[Server]:
    with Server(own) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def request(server: Server, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any, str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
    kind = {} if body is None else {"Content-Type": "application/json"}
    data = body if body is None or isinstance(body, str) else json.dumps(body)
    connection.request(method, path, data, kind | {name.replace("_", "-"): value for name, value in headers.items()})
    reply = connection.getresponse()
    text = reply.read().decode("utf-8")
    connection.close()
    return reply.status, reply.headers, text


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "127.0.0.1"},
        {"Host": "127.0.0.1.evil.example:{port}"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "https://127.0.0.1:{port}"},
    ],
)
@pytest.mark.parametrize(("method", "path"), [("GET", "/"), ("POST", "/sheet")])
def test_no_other_name_and_no_other_page_is_served(served, headers, method, path):
    named = {name: value.format(port=served.server_port) for name, value in headers.items()}
    body = {"source": served.explorer.own} if method == "POST" else None
    status, _, text = request(served, method, path, body, **named)
    assert status == 403
    assert text == f"only as {served.url}"


def test_it_listens_on_this_computer_only_and_its_page_may_load_nothing_else(served):
    assert served.server_address[0] == "127.0.0.1"
    for path in ("/", "/page.css", "/page.js"):
        status, headers, text = request(served, "GET", path, Host=f"localhost:{served.server_port}")
        assert status == 200
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert "//" not in text.replace("http-equiv", "")
    assert request(served, "GET", "/../answers.py")[0] == 404


@pytest.mark.parametrize(
    ("body", "headers", "words"),
    [
        ("{", {}, "no JSON"),
        ("[" * 100_000, {}, "no JSON"),
        ({}, {"Content_Type": "text/plain"}, "send JSON"),
        ([1], {}, "the choices: "),
        ({"source": "own", "left_out": [10**30]}, {}, "none of the data sets"),
        (None, {"Content_Length": str(MOST_BYTES + 1)}, "too long"),
        (None, {"Content_Length": "-1"}, "too long"),
    ],
)
def test_what_is_no_question_is_answered_in_words(served, body, headers, words):
    status, _, text = request(served, "POST", "/answer", body, **headers)
    assert status == 422
    assert words in json.loads(text)["problem"]


def test_a_sheet_that_cannot_be_read_ends_before_anything_is_served(tmp_path, capsys):
    (tmp_path / "bad.csv").write_text("study,r\nA,2\n", encoding="utf-8")
    assert main(["explore", str(tmp_path / "bad.csv")]) == 1
    assert main(["explore", str(tmp_path / "none.csv")]) == 2
    assert main(["explore", "--ri", "x"]) == 1
    assert "name the sheet first" in capsys.readouterr().err


def test_the_command_says_where_the_page_is_and_ends_with_ctrl_c(own, capsys, monkeypatch):
    def pressed(server: Server) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Server, "serve_forever", pressed)
    assert main(["explore", str(own.own), "--port", "0"]) == 0
    assert re.fullmatch(r"Explore at http://127\.0\.0\.1:\d+/ \(Ctrl-C ends it\)\nended\n", capsys.readouterr().out)


def test_a_taken_port_says_so(served):
    with pytest.raises(CannotRunError, match="--port 0"):
        Server(served.explorer, served.server_port)


@OF_FEW
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
def test_a_reader_unticks_a_row_by_keyboard_and_hears_the_estimate_move(served, tmp_path: Path):
    from axe_playwright_python.sync_playwright import Axe
    from playwright.sync_api import sync_playwright

    asked: list[str] = []
    complaints: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))
        # axe is put into the page, which its own rules forbid.
        page = browser.new_page(viewport={"width": 390, "height": 844}, bypass_csp=True)
        page.on("request", lambda one: asked.append(one.url))
        page.on("console", lambda one: complaints.append(one.text))
        page.goto(served.url)
        page.wait_for_selector("#forest img")
        page.select_option("#model", "random")
        page.get_by_label("Di").focus()
        page.keyboard.press("Space")
        page.wait_for_selector("#every:not(:empty)")
        said = page.get_by_role("status").inner_text()
        effects, _ = served.explorer.read(served.explorer.own)
        assert printed(RandomEffectsModel(effects.take([0, 1, 2])).fit()) in said
        assert f"With every row: {printed(RandomEffectsModel(effects).fit())}" in said
        assert page.locator("#rows label").first.inner_text().startswith("Ada <b>x</b>")
        assert "Forest plot of" in str(page.locator("#forest img").get_attribute("alt"))
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        assert Axe().run(page).violations_count == 0
        assert complaints == []
        page.get_by_role("button", name="Untick all").click()
        assert "no row is ticked" in page.locator("#problem:not([hidden])").inner_text()
        browser.close()
    assert {url.partition("/page")[0] for url in asked if not url.startswith("data:")} <= {
        served.url + path for path in ("", "choices", "sheet", "answer")
    } | {served.url.rstrip("/")}
