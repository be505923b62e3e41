"""Texts with statistics planted in them: which, on which line, right or wrong. Seeded, so the same in every run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import stats

# What papers are full of and what is no statistic to check.
DISTRACTORS = (
    "The sample (N = 212; mean age 36.8 years, SD = 11.2, range 18-65) was recruited between 2009 and 2014.",
    "Clients completed the Working Alliance Inventory (WAI; 12 items, α = .93) after sessions 3, 8 and 15.",
    "See Table 2 and Figure 3 (pp. 509-511) for details; version 2.1 of the manual was used.",
    "As in earlier work [12, 15], raters agreed well (κ = .78, ICC = .84).",
    "Therapists (n = 18) had 7.5 years of experience on average, and 62% were women.",
    "Outcome was rated on a scale from 0 to 4; 95% of the forms were complete.",
    "The intraclass correlation was .12 for therapists, as others found (Baldwin et al., 2007; doi:10.1037/0022-006X).",
    "Of 79 studies, 26 (32.9%) reported more than one correlation (M = 3.2, SD = 1.4).",
    "Effects of .10, .30 and .50 are called small, medium and large (Cohen, 1988, pp. 79-81).",
    "Power was .80 to find a correlation of .30 with 84 persons.",
    "Correlations ranged from -.08 to .57 across samples, with a median of .26.",
    "We set the level at p < .05 for all tests and imputed r = .00 where a value was called nonsignificant.",
    "The ratio of patients to therapists (PTR) ran from 1.0 to 23.5 (median 3.4).",
    "Coders worked through 3,628 records; 41 (1.1%) were discussed with a third coder.",
    "At step 3 (p. 12) the questionnaires of 2 x 2 conditions were collected in t = 0, 1 and 2 months.",
    "Quality was scored from 1 to 7 (k = 5 items), and 12 [IQR 9, 15] sessions were held.",
)
MINUS = ("-", "−", "–")
EQUAL = (" = ", "=", " =\u00a0", "\u2009=\u2009", " ϭ ")


@dataclass(frozen=True)
class Planted:
    """One statistic: its text, the numbers that must be found in it, and whether it contradicts itself."""

    text: str
    numbers: dict[str, str]
    wrong: bool


class Writer:
    """Write numbers as papers do."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.minus = MINUS[rng.integers(len(MINUS))]
        self.equal = EQUAL[rng.integers(len(EQUAL))]
        self.zero = bool(rng.integers(2))

    def number(self, value: float, decimals: int, *, zero: bool | None = None) -> str:
        text = f"{abs(value):.{decimals}f}"
        if text.startswith("0.") and not (self.zero if zero is None else zero):
            text = text[1:]
        return (self.minus if float(f"{value:.{decimals}f}") < 0 else "") + text

    def p(self, value: float) -> str:
        if value < 0.001:
            return "< .001"
        return self.number(value, 3, zero=False)

    def said_p(self, text: str) -> str:
        return f"p {text}" if text.startswith("<") else f"p{self.equal}{text}"

    def pick(self, *options: str) -> str:
        return options[self.rng.integers(len(options))]


def wrong_p(value: float) -> float:
    """A p-value on the other side of .05."""
    return 0.21 + value / 10 if value < 0.05 else 0.012


def tested(write: Writer, wrong: bool) -> Planted:
    """t, F, chi-squared, z or r with its degrees of freedom, and p."""
    rng, eq = write.rng, write.equal
    kind = write.pick("t", "F", "χ2", "z", "r")
    df = int(rng.integers(12, 150))
    if kind == "t":
        value = write.number(rng.normal(0, 2), 2, zero=True)
        p = 2 * stats.t.sf(abs(number(value)), df)
        head, numbers = f"t({df}){eq}{value}", {"t": value, "df": str(df)}
    elif kind == "F":
        df1, value = int(rng.integers(1, 5)), write.number(rng.uniform(0.3, 6), 2, zero=True)
        p = stats.f.sf(number(value), df1, df)
        head, numbers = f"F({df1}, {df}){eq}{value}", {"F": value, "df": str(df1), "df2": str(df)}
    elif kind == "χ2":
        df1, value = int(rng.integers(1, 8)), write.number(rng.uniform(0.5, 20), 2, zero=True)
        p = stats.chi2.sf(number(value), df1)
        size = write.pick("", f", N = {df + 40}")
        head, numbers = f"{write.pick('χ2', 'χ²', 'X2')}({df1}{size}){eq}{value}", {"chi2": value, "df": str(df1)}
    elif kind == "z":
        value = write.number(rng.normal(0, 2), 2, zero=True)
        p = 2 * stats.norm.sf(abs(number(value)))
        head, numbers = f"{write.pick('z', 'Z')}{eq}{value}", {"z": value}
    else:
        value = write.number(rng.uniform(-0.5, 0.5), 2)
        r = number(value)
        p = 2 * stats.t.sf(abs(r) * np.sqrt(df / (1 - r**2)), df)
        head, numbers = f"r({df}){eq}{value}", {"r": value, "df": str(df)}
        # A two-digit r leaves room: print p no finer than it allows.
        said = write.p(wrong_p(p)) if wrong else loose_p(p)
        return Planted(f"{head}, {write.said_p(said)}", {**numbers, "p": said}, wrong)
    said = write.p(wrong_p(p) if wrong else p)
    joint = write.pick(", ", "; ", ",")
    return Planted(f"{head}{joint}{write.said_p(said)}", {**numbers, "p": said}, wrong)


def loose_p(p: float) -> str:
    return "< .001" if p < 0.0005 else f"< {p * 1.6 + 0.001:.3f}".replace("0.", ".")


def interval(write: Writer, wrong: bool) -> Planted:
    """An effect with its interval, in the many ways these are printed."""
    rng, eq = write.rng, write.equal
    z, se = rng.uniform(-0.1, 0.5), rng.uniform(0.02, 0.09)
    decimals = int(rng.integers(2, 4))
    ends = np.tanh([z, z - 1.96 * se, z + 1.96 * se])
    if wrong:
        ends[0] = ends[2] + 0.05 if rng.integers(2) else ends[1] - 0.07
    r, low, high = (write.number(end, decimals) for end in ends)
    styles = [
        f"r{eq}{r}, 95% CI [{low}, {high}]",
        f"r{eq}{r} (95% CI: {low} to {high})",
        f"r{eq}{r} [{low}; {high}]",
        f"r{eq}{r}, 95% CI{eq}[{low}, {high}]",
        f"(r{eq}{r}, k{eq}23, 95% CI {low}, {high})",
        f"{r} (95% confidence interval {low} to {high})",
        f"r{eq}{r} ({low}, {high})",
    ]
    if ends[1] > 0:
        styles.append(f"r{eq}{r} (95% CI{eq}{low}–{high})")
    style = styles[rng.integers(len(styles))]
    return Planted(style, {"estimate": r, "ci_lb": low, "ci_ub": high}, wrong)


def heterogeneity(write: Writer, wrong: bool) -> Planted:
    """Q with its degrees of freedom, p and I²."""
    rng, eq = write.rng, write.equal
    df = int(rng.integers(5, 80))
    Q = write.number(df * rng.uniform(0.6, 2.5), 2, zero=True)
    p = stats.chi2.sf(number(Q), df)
    share = max(0.0, 100 * (number(Q) - df) / number(Q))
    said = write.p(wrong_p(p) if wrong else p)
    percent = f"{share:.1f}%"
    first = write.pick(f"Q({df}){eq}{Q}", f"Q{eq}{Q}, df{eq}{df}", f"Q(df = {df}){eq}{Q}")
    text = f"{first}, {write.said_p(said)}{write.pick(', ', '; ')}{write.pick('I2', 'I²')}{eq}{percent}"
    return Planted(text, {"QE": Q, "QEdf": str(df), "QEp": said, "I2": percent}, wrong)


def whole_result(write: Writer, wrong: bool) -> Planted:
    """An effect with its standard error, interval and test."""
    rng, eq = write.rng, write.equal
    effect, se = rng.uniform(0.1, 0.8), rng.uniform(0.04, 0.15)
    g, s = write.number(effect, 3, zero=True), write.number(se, 3, zero=True)
    limits = [number(g) - 1.96 * number(s), number(g) + 1.96 * number(s)]
    if wrong:
        limits[0] -= 0.21
    low, high = (write.number(limit, 2, zero=True) for limit in limits)
    symbol = write.pick("g", "d")
    text = f"{symbol}{eq}{g}, SE{eq}{s}, 95% CI [{low}, {high}]"
    return Planted(text, {"estimate": g, "se": s, "ci_lb": low, "ci_ub": high}, wrong)


def moderator(write: Writer, wrong: bool) -> Planted:
    """The test of a moderator."""
    rng, eq = write.rng, write.equal
    df = int(rng.integers(1, 5))
    Q = write.number(rng.uniform(0.5, 15), 2, zero=True)
    p = stats.chi2.sf(number(Q), df)
    said = write.p(wrong_p(p) if wrong else p)
    name = write.pick("QM", "QB", "Qbetween", "Q_M")
    return Planted(f"{name}({df}){eq}{Q}, {write.said_p(said)}", {"QM": Q, "QMdf": str(df), "QMp": said}, wrong)


KINDS: tuple[Callable[[Writer, bool], Planted], ...] = (
    tested,
    tested,
    interval,
    interval,
    heterogeneity,
    whole_result,
    moderator,
)
FRAMES = (
    "Clients who rated the alliance higher improved more, {}.",
    "The overall effect was significant ({}).",
    "There was heterogeneity between studies ({}), which moderators did not account for.",
    "No difference between raters was found: {}.",
    "For cognitive-behavioural therapy, {}; other treatments were not examined.",
    "{} was found for the subgroup of adolescents.",
)


def number(text: str) -> float:
    """The value of a printed number."""
    for sign in MINUS[1:]:
        text = text.replace(sign, "-")
    return float(text)


def planted_text(seed: int, count: int, *, wrong_every: int = 5) -> tuple[str, list[tuple[int, Planted]]]:
    """Return a text of `count` planted statistics among distractors, and each with the line it begins on."""
    rng = np.random.default_rng(seed)
    lines: list[str] = []
    planted = []
    for place in range(count):
        write = Writer(rng)
        one = KINDS[rng.integers(len(KINDS))](write, place % wrong_every == 0)
        frame = FRAMES[rng.integers(len(FRAMES))]
        before = DISTRACTORS[rng.integers(len(DISTRACTORS))]
        after = DISTRACTORS[rng.integers(len(DISTRACTORS))]
        paragraph = wrapped(f"{before} {frame.format(one.text)} {after}", int(rng.integers(60, 100)))
        start = "\n".join(paragraph).find("\n".join(wrapped_like(paragraph, one.text)))
        planted.append((len(lines) + "\n".join(paragraph)[: max(start, 0)].count("\n") + 1, one))
        lines += [*paragraph, ""]
    return "\n".join(lines), planted


def wrapped(text: str, width: int) -> list[str]:
    """Break a text at blanks, statistics and all, as the page of a paper does."""
    lines, line = [], ""
    for word in text.split(" "):
        if line and len(line) + 1 + len(word) > width:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}" if line else word
    return [*lines, line]


def wrapped_like(paragraph: list[str], text: str) -> list[str]:
    """Return the text as it is broken in the paragraph."""
    joined = "\n".join(paragraph)
    start = joined.replace("\n", " ").find(text)
    return joined[start : start + len(text)].split("\n")
