"""What a stranger's file might say in place of a formula or a subset; CANARY is where it would leave a trace."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

TOUCH = "__import__('pathlib').Path('CANARY').touch()"

# Code that Python or pandas would run, wherever a value may stand.
CODE = (
    TOUCH,
    "open('CANARY', 'w')",
    "eval(\"open('CANARY', 'w')\")",
    "exec(\"open('CANARY', 'w')\")",
    "compile(\"open('CANARY', 'w')\", '', 'exec')",
    "getattr(year, 'to_csv')('CANARY')",
    "print(1, file=open('CANARY', 'w'))",
    "year.to_csv('CANARY')",
    "year.to_frame().to_csv('CANARY')",
    "year.to_pickle('CANARY')",
    "year.apply(lambda x: open('CANARY', 'w'))",
    "year.map(open)",
    "year.__class__.__mro__",
    "year.values.tofile('CANARY')",
    "(lambda: open('CANARY', 'w'))()",
    "[open('CANARY', 'w') for _ in [1]]",
    "{open('CANARY', 'w') for _ in [1]}",
    "f\"{open('CANARY', 'w')}\"",
    "(x := open('CANARY', 'w'))",
    "year if open('CANARY', 'w') else year",
    "[open('CANARY', 'w')][0]",
    "year[open('CANARY', 'w')]",
    "().__class__.__base__.__subclasses__()",
    "__builtins__",
    "ｏpen('CANARY', 'w')",
    "year.str.contains(open('CANARY', 'w'))",
)
# What only a formula says: formulaic's own ways to code, and the code into which it writes the text of a call.
FORMULAS = (
    *CODE,
    *(f"I({code})" for code in CODE),
    "{open('CANARY', 'w')}",
    "np.savetxt('CANARY', year)",
    "np.save('CANARY', year)",
    "np.lib.format.open_memmap('CANARY')",
    "np.log(year, open('CANARY', 'w'))",
    "np.log(year, out=quality)",
    "C(rater, levels=[open('CANARY', 'w')])",
    "C(rater, **{'levels': open('CANARY', 'w')})",
    "C(*open('CANARY', 'w'))",
    "C(rater, contr=open('CANARY', 'w'))",
    "C(rater, levels=['client\"]+[open(\\'CANARY\\', \\'w\\')]+[\"'])",
    "C(rater, levels=['client\"].update(a=open(chr(67))) or __FORMULAIC_STATE__[\"'])",
    "center(year, _state=open('CANARY', 'w'))",
    "center(year, _context=year)",
    "hashed(rater, levels=10**9)",
    "Q('year')",
    "__FORMULAIC_CONTEXT__",
    "poly(year, open('CANARY', 'w'))",
    "[a ~ year]",
    "year ~ quality",
    ".",
)
SUBSETS = (
    *CODE,
    *(f"{code} == 1" for code in CODE),
    *(f"year > 2000 or {code}" for code in CODE),
    "@year",
    "@open('CANARY', 'w')",
    "@pd.eval(\"open('CANARY', 'w')\")",
    "@__builtins__['open']('CANARY', 'w')",
    "year > 2000; open('CANARY', 'w')",
    "year == year.to_csv('CANARY')",
    "year in [open('CANARY', 'w')]",
    "between(year, open('CANARY', 'w'), 3)",
    "rater.str.replace('a', 'b') == 'c'",
    "contains(rater, pattern=open('CANARY', 'w'))",
    "index.to_series().to_csv('CANARY') == 1",
)
# What would fill memory or never end.
BOMBS = (
    "I(2**9**9**9)",
    "I(year**9**9)",
    "I(10**10**10)",
    "I('a'*10**10)",
    "C(rater, levels=['a']*10**10)",
    "(year+quality+rater)**40",
    "(" + "+".join(f"x{i}" for i in range(60)) + ")**9",
    "*".join(f"x{i}" for i in range(60)),
    "poly(year, 1000000000)",
    "bs(year, df=1000000000)",
    "poly(year, 999):poly(quality, 999)",
    "+".join(f"x{i}" for i in range(4000)),
    "(" * 5000,
    "(" * 400 + "year" + ")" * 400 + "**40",
    "I(" + "-" * 9000 + "year)",
    "I(" + "9" * 9000 + ")",
    "`" * 9001,
    "'" * 9001,
)
SUBSET_BOMBS = (
    "'a' * 10**10 == rater",
    "rater * 10**10 == 'a'",
    "(" * 5000,
    "not " * 2400 + "published",
    "-" * 9000 + "year > 1",
    "+".join(["year"] * 1900) + " > 1",
    "year > " + "9" * 5000,
    "year == 1 or " * 5000 + "year == 1",
    "[" * 150 + "]" * 150,
)

# Each is outside both languages, wherever it stands.
POISON = (
    "x.__class__",
    "x.real",
    "x.to_csv('CANARY')",
    "x.str.upper()",
    "open('CANARY', 'w')",
    "getattr(x, 'y')",
    "__import__('os')",
    "globals()",
    "x[0]",
    "x['a']",
    "(lambda: x)()",
    "(lambda y: y)",
    "[y for y in x]",
    "(y for y in x)",
    "{y: 1 for y in x}",
    "f'{x}'",
    "f'{open(chr(67))}'",
    "(y := x)",
    "(x if x else y)",
    "@x",
    "{x}",
    "{'a': x}",
    "*x",
    "**x",
    "x;y",
    "x\\y",
    "b'x'",
    "1j",
    "None",
    "...",
    "(x is x)",
    "x << 99999",
    "x @ x",
    "__x__",
    "log.__globals__",
    "print(x)",
    "type(x)",
    "x()",
    "I()()",
    "C.__doc__",
    "np.load('CANARY')",
    "np.lib",
    "contr.x",
    "pd.eval('x')",
    "x.apply(C)",
    "x.eval('y')",
    "notna(x).__class__",
    "x.notna.__self__",
)
_SIGNS = {"formula": (" + ", ":", " * ", " - "), "subset": (" and ", " or ", " & ", " == ", " > ", " + ")}
_WRAPS = {
    "formula": ("{}", "({})", "center({})", "I({} + 1)", "C({})", "log({})", "poly({}, 2)", "I({} > 2)", "-{}"),
    "subset": ("{}", "({})", "not {}", "{} in [1, 2]", "notna({})", "between({}, 1, 2)", "{}.isin([1])", "-{}"),
}


def generated(kind: str, count: int, *, seed: int) -> Iterator[str]:
    """Yield expressions that hold one thing too many, somewhere."""
    draw = random.Random(seed)
    for _ in range(count):
        parts = [draw.choice(("year", "quality", "rater", "`a b`", "1")) for _ in range(draw.randrange(4))]
        parts.insert(draw.randrange(len(parts) + 1), draw.choice(POISON))
        text = parts[0]
        for part in parts[1:]:
            text = f"{text}{draw.choice(_SIGNS[kind])}{draw.choice(_WRAPS[kind]).format(part)}"
        for _ in range(draw.randrange(4)):
            text = draw.choice(_WRAPS[kind]).format(text)
        yield text


WATCHED: list[str] = []
_on = False


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _on and (event in ("exec", "os.system", "subprocess.Popen", "os.exec") or _writes(event, arguments)):
        WATCHED.append(f"{event} {arguments}")


def _writes(event: str, arguments: tuple[Any, ...]) -> bool:
    return event == "open" and isinstance(arguments[1], str) and arguments[1][:1] in "wax"


sys.addaudithook(_hook)


@contextmanager
def nothing_runs() -> Iterator[None]:
    """Notice any code that is run, any program that is started and any file that is opened to write."""
    global _on
    WATCHED.clear()
    _on = True
    try:
        yield
    finally:
        _on = False
    assert WATCHED == []
