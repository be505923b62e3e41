"""Risk of bias: the judgement of every study in every domain, or how much of the evidence has each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from alliance_meta.effects.studies import plain_text
from alliance_meta.errors import CodingError, InputError, Problem
from alliance_meta.notes import Note, check_option
from alliance_meta.plots.forests.parts import UNCLEAR, header, judgement
from alliance_meta.plots.review.rows import Rows, heads, joined, rows_of
from alliance_meta.plots.sheet.chart import ROB, SIZE, SMALL, Drawn, charting
from alliance_meta.plots.sheet.chart_frame import as_frame, chart_frame
from alliance_meta.plots.sheet.figures import NotebookFigure, Pages
from alliance_meta.plots.sheet.measure import INK, cut, font, line_height, text_width, wrap
from alliance_meta.tables.format import format_count, format_percent, plural

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Kind = Literal["traffic", "bar"]
OVERALL = ("rob_overall", "overall", "rob")
FAMILY = "rob_"
NOT_RATED = "–"
WORDS = {"L": "low", "S": "some concerns", "H": "high", UNCLEAR: "unclear", NOT_RATED: "not rated"}
MOST_ROWS, MOST_DOMAINS, MOST_NAMED = 1000, 20, 8
# Inches that the rows of a page may take.
PAGE = 7.6
COLUMN, LABEL = 0.36, 3.0
PITCHES = ((16, 0.235), (47, 0.2), (MOST_ROWS, 0.175))
BAR_PANEL, BAR_PITCH = 4.2, 0.34


@dataclass(frozen=True, slots=True)
class _Judged:
    """One row of the traffic light: a study, or those of its effects that are judged alike."""

    label: str
    letters: tuple[str, ...]
    rows: tuple[int, ...]
    share: float


def rob_data(
    source: Any,
    *,
    kind: Kind = "traffic",
    domains: Sequence[str] | Mapping[str, str] | None = None,
    overall: str | None = None,
    words: Mapping[Any, str] | None = None,
    title: str | None = None,
    show_cautions: bool = False,
) -> pd.DataFrame:
    """Return the frame of a plot of the risk of bias: one row for each study and domain, or domain and judgement.

    Parameters
    ----------
    source : CodedTable, EffectSizes, fit or DataFrame
        A sheet of one row per effect. A study whose effects are judged alike has one row; where they are judged
        differently it has one for each judgement, and a note says so.
    kind : {"traffic", "bar"}
        Every study, or the share of the evidence with each judgement: of the fit's weights where `source` is a fit that
        has them, else of the studies.
    domains : sequence of str or mapping, optional
        Columns of judgements (of QUIPS, RoB 2 or the review's own tool), or column -> name in the plot; by default
        those whose names begin with ``rob_``.
    overall : str, optional
        Column of the overall judgement, which stands last; where `domains` is not given, by default ``rob_overall``,
        ``overall`` or ``rob``. None is made up where there is none.
    words : mapping, optional
        What stands in the columns -> low, some concerns, high or unclear, such as ``{1: "low", 0: "high"}``.
    title, show_cautions
        As in `forest_data`.

    Returns
    -------
    DataFrame
        ``kind``: judgement, with ``label`` of the study, ``domain``, ``judgement`` (L, S, H, ? unclear, – not rated),
        ``word`` as it stands in the sheet, ``position`` and ``column``, and ``k`` effects; or share, with ``share`` and
        ``start`` in percent.

    Raises
    ------
    CodingError
        With every word that is no judgement, its line, column and mend.
    InputError
        A column that is not there, none, or more rows than a figure can hold.

    Examples
    --------
    >>> import pandas as pd
    >>> from alliance_meta import plots
    >>> sheet = pd.DataFrame({"study": ["A", "B"], "rob_sample": ["low", "high"], "rob_overall": ["low", None]})
    >>> plots.rob_data(sheet)[["label", "domain", "judgement"]].values.tolist()
    [['A', 'Sample', 'L'], ['A', 'Overall', 'L'], ['B', 'Sample', 'H'], ['B', 'Overall', '–']]
    """
    check_option("kind", kind, Kind)
    rows = rows_of(source, "rob")
    names = _domains(rows, domains, overall)
    letters, found_words = _letters(rows, list(names), words)
    judged, notes = _judged(rows, letters)
    notes += _folded(found_words)
    if kind == "traffic" and len(judged) > MOST_ROWS:
        raise InputError(f"rob: {len(judged)} rows, a figure holds {MOST_ROWS}; kind='bar' draws any number")
    named, has_overall = list(names.values()), _has_overall(names, overall)
    made = _traffic(judged, named) if kind == "traffic" else _bars(rows, judged, named)
    if not has_overall:
        notes.append(Note("rob-overall", "No column of an overall judgement; none was made up."))
    used = list(dict.fromkeys(one for row in judged for one in row.letters))
    key = [[f"{'rob' if kind == 'traffic' else 'share'} {one}", f"{one}  {WORDS[one]}"] for one in WORDS
           if one in used or one in "LSH"]  # fmt: skip
    x_label = "" if kind == "traffic" else _share_label(rows)
    return chart_frame(
        "rob", "Risk of bias", made, rows.provenance, notes=(*rows.notes, *notes), title=title,
        show_cautions=show_cautions, said=_said(rows, judged, named, kind, x_label), axis_label="", x_label=x_label,
        key=key, bottom=[note.message for note in notes], layout=kind, domains=named, overall=has_overall,
    )  # fmt: skip


def _domains(rows: Rows, domains: Sequence[str] | Mapping[str, str] | None, overall: str | None) -> dict[str, str]:
    """Return column -> name in the plot, the overall judgement last."""
    known = [str(name) for name in rows.frame.columns]
    if domains is None:
        own = [name for name in known if name.startswith(FAMILY)]
        found = {name: header(name.removeprefix(FAMILY)) for name in own}
        overall = overall or next((name for name in OVERALL if name in known), None)
    elif isinstance(domains, Mapping):
        found = {rows.find(str(name), "domains"): str(head) for name, head in domains.items()}
    else:
        names = [domains] if isinstance(domains, str) else domains
        found = {rows.find(str(name), "domains"): header(str(name).removeprefix(FAMILY)) for name in names}
    last = next((name for name in found if name in OVERALL), None) if overall is None else rows.find(overall, "overall")
    if last is not None:
        found[last] = found.pop(last, "Overall")
    if not found:
        raise InputError(
            f"rob: no column of {rows.provenance.source} begins with {FAMILY}; name the columns of judgements in "
            f"domains=[...] (columns: {', '.join(known) or 'none'})"
        )
    if len(found) > MOST_DOMAINS:
        raise InputError(f"domains: {len(found)} columns, a figure holds {MOST_DOMAINS}; name those to show")
    return found


def _has_overall(names: Mapping[str, str], overall: str | None) -> bool:
    return list(names)[-1] in (overall, *OVERALL)


def _letters(
    rows: Rows, names: Sequence[str], words: Mapping[Any, str] | None
) -> tuple[list[tuple[str, ...]], dict[str, dict[str, None]]]:
    """Return the letter of each row in each column, and the words that each letter stands for."""
    own = {plain_text(word).lower(): str(meaning).lower() for word, meaning in (words or {}).items()}
    odd = [meaning for meaning in own.values() if judgement(meaning) is None]
    if odd:
        raise InputError(f"words: {odd[0]!r} is no judgement; write one of {', '.join(list(WORDS.values())[:4])}")
    problems, seen = [], dict[str, dict[str, None]]()
    columns = []
    for name in names:
        column = []
        for i, value in enumerate(rows.frame[name].tolist()):
            text = plain_text(value)
            letter = judgement(own.get(text.lower(), text)) if text else NOT_RATED
            if letter is None:
                known = "low, some concerns (moderate), high (serious, critical) and unclear are known"
                where = "" if rows.lines else f" of {rows.studies[i]}"
                message = f"{text!r}{where} is no judgement; {known}; for other words give words={{{text!r}: 'low'}}"
                line = rows.lines[i] if rows.lines else None
                problems.append(Problem(line, name, text, message, kind=f"rob-{text}"))
            else:
                column.append(letter)
                seen.setdefault(letter, {}).setdefault(text)
        columns.append(column)
    if problems:
        raise CodingError(problems, source=rows.provenance.source)
    return list(zip(*columns, strict=True)), seen


def _judged(rows: Rows, letters: Sequence[tuple[str, ...]]) -> tuple[list[_Judged], list[Note]]:
    """Return one row for each study whose effects are judged alike, else one for each of its judgements."""
    members: dict[str, list[int]] = {}
    for i, study in enumerate(rows.studies):
        members.setdefault(study, []).append(i)
    judged, split, filled = [], [], []
    for study, own in members.items():
        found = [{letters[i][place] for i in own} - {NOT_RATED} for place in range(len(letters[0]))]
        if all(len(one) < 2 for one in found):
            merged = tuple(next(iter(one), NOT_RATED) for one in found)
            judged.append(_Judged(study, merged, tuple(own), 1.0))
            filled += [study] if any(letters[i] != merged for i in own) else []
            continue
        patterns: dict[tuple[str, ...], list[int]] = {}
        for i in own:
            patterns.setdefault(letters[i], []).append(i)
        split.append(study)
        judged += [
            _Judged(f"{study} (judgement {n} of {len(patterns)})", pattern, tuple(some), len(some) / len(own))
            for n, (pattern, some) in enumerate(patterns.items(), 1)
        ]
    notes = []
    if split:
        text = "Effects of one study are judged differently, so that it has a row for each judgement"
        notes.append(Note("rob-differ", f"{text}: {joined(split, MOST_NAMED)}."))
    if filled:
        text = (
            f"Judged in some rows and empty in others of the study, and taken as judged: {joined(filled, MOST_NAMED)}."
        )
        notes.append(Note("rob-filled", text))
    return judged, notes


def _folded(seen: Mapping[str, Mapping[str, None]]) -> list[Note]:
    """Say which different words have one letter."""
    found = []
    for letter, texts in seen.items():
        distinct = list(dict.fromkeys(text.lower() for text in texts if text))
        if letter != NOT_RATED and len(distinct) > 1:
            found.append(f"{letter} stands for {' and '.join(distinct)}")
    return [Note("rob-words", f"{'; '.join(found)}.")] if found else []


def _traffic(judged: Sequence[_Judged], names: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {"kind": "judgement", "label": one.label, "domain": head, "judgement": letter, "word": WORDS[letter],
         "position": position, "column": place, "k": len(one.rows)}
        for position, one in enumerate(judged)
        for place, (head, letter) in enumerate(zip(names, one.letters, strict=True))
    ]  # fmt: skip


def _bars(rows: Rows, judged: Sequence[_Judged], names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the share of the evidence with each judgement, domain by domain."""
    weight = np.array([_weight(rows, one) for one in judged])
    made = []
    for place, head in enumerate(names):
        start = 0.0
        for letter in WORDS:
            own = np.array([one.letters[place] == letter for one in judged])
            share = float(100.0 * weight[own].sum() / weight.sum())
            if own.any():
                k = sum(len(one.rows) for one in judged if one.letters[place] == letter)
                made.append({"kind": "share", "label": head, "domain": head, "judgement": letter, "position": place,
                             "word": WORDS[letter], "k": k, "start": start, "share": share})  # fmt: skip
            start += share
    return made


def _weight(rows: Rows, one: _Judged) -> float:
    return one.share if rows.weights is None else float(rows.weights[list(one.rows)].sum())


def _share_label(rows: Rows) -> str:
    if rows.weights is not None and rows.fit is not None:
        return f"Share of the weight in the model ({rows.fit.model_label}), %"
    return "Share of studies, each counted once, %"


def _said(rows: Rows, judged: Sequence[_Judged], names: Sequence[str], kind: Kind, label: str) -> str:
    """Return what the plot says: of each domain how many studies have which judgement, or which share."""
    studies = len(set(rows.studies))
    what = f"of {plural(studies, 'study', 'studies')} in {plural(len(names), 'domain')}"
    begun = f"Risk of bias {what}"
    if len(judged) > studies:
        begun += f", {format_count(len(judged))} rows"
    weight = np.array([_weight(rows, one) for one in judged])
    texts = []
    for place, head in enumerate(names):
        counts = []
        for letter, word in WORDS.items():
            own = np.array([one.letters[place] == letter for one in judged])
            if own.any():
                share = format_percent(float(100.0 * weight[own].sum() / weight.sum()), 0)
                counts.append(f"{word} {format_count(int(own.sum())) if kind == 'traffic' else share}")
        texts.append(f"{head}: {', '.join(counts)}")
    how = "" if kind == "traffic" else f" ({label.removesuffix(', %')})"
    return f"{begun}{how}. {'; '.join(texts)}."


def rob(source_or_frame: Any, *, ax: Axes | None = None, **data: Any) -> Drawn:
    """Draw the risk of bias as a traffic light of all studies, or as bars of how much of the evidence has which.

    Every judgement has its letter beside its colour. What is unclear stays unclear, and an empty cell is not rated.

    Parameters
    ----------
    source_or_frame : CodedTable, EffectSizes, fit or DataFrame
        What `rob_data` takes, or a frame from it.
    ax, **data
        As in `caterpillar`, and so are the errors.

    Returns
    -------
    Figure or Axes
        The axes where `ax` was given: in the traffic light domain j stands at x = j and study i at y = i, in bars x is
        percent.

    See Also
    --------
    rob_pages : the traffic light on pages for print.

    Examples
    --------
    >>> import pandas as pd
    >>> from alliance_meta import plots
    >>> sheet = pd.DataFrame({"study": ["A", "B"], "rob_sample": ["low", "high"], "rob_overall": ["low", "unclear"]})
    >>> plots.rob(sheet).plot_description
    'Risk of bias of 2 studies in 2 domains. Sample: low 1, high 1; Overall: low 1, unclear 1.'
    """
    frame = _as_frame(source_or_frame, data)
    return _draw_traffic(frame, ax) if frame.attrs["layout"] == "traffic" else _draw_bars(frame, ax)


def _as_frame(source: Any, data: Mapping[str, Any]) -> pd.DataFrame:
    """Return the drawing frame; a data frame of any other kind is a sheet."""
    if isinstance(source, pd.DataFrame) and not source.attrs.get("plot"):
        return rob_data(source, **data)
    return as_frame(source, "rob", rob_data, data)


def rob_pages(source_or_frame: Any, **data: Any) -> Pages:
    """Draw the traffic light on pages for print, of up to 43 rows each.

    Parameters
    ----------
    source_or_frame, **data
        As in `rob`.

    Returns
    -------
    tuple of Figure
        A notebook shows the pages below each other.

    Examples
    --------
    >>> import pandas as pd
    >>> from alliance_meta import plots
    >>> sheet = pd.DataFrame({"study": [f"Study {i}" for i in range(100)], "rob_overall": "low"})
    >>> len(plots.rob_pages(sheet))
    3
    """
    frame = _as_frame(source_or_frame, data)
    rows = int(frame["position"].max()) + 1
    pitch = _labels(frame)[1]
    most = rows if frame.attrs["layout"] != "traffic" else int(PAGE / pitch)
    if rows <= most:
        return Pages((_whole(rob(frame)),))
    total = -(-rows // most)
    most = -(-rows // total)
    figures = []
    for page in range(total):
        own = frame[frame["position"] // most == page].reset_index(drop=True)
        own["position"] -= page * most
        own.attrs = {**frame.attrs, "pitch": pitch, "title": f"{frame.attrs['title']}, page {page + 1} of {total}"}
        own.attrs["bottom"] = [f"Page {page + 1} of {total}", *(frame.attrs["bottom"] if page + 1 == total else [])]
        figures.append(_whole(rob(own)))
    return Pages(figures)


def _whole(drawn: Drawn) -> NotebookFigure:
    assert isinstance(drawn, NotebookFigure)
    return drawn


def _draw_traffic(frame: pd.DataFrame, ax: Axes | None) -> Drawn:
    labels, pitch = _labels(frame)
    columns = len(frame.attrs["domains"])
    own = (max(columns * COLUMN, 1.0), len(labels) * pitch)
    least = own if ax is None else (columns * 0.22, len(labels) * (line_height(SMALL) + 0.03))
    with charting(frame, ax, 0.0, 0.0, least=least) as chart:
        chart.limits("x", -0.5, columns - 0.5)
        chart.limits("y", len(labels) - 0.5, -0.5)
        for letter in WORDS:
            there = frame[frame["judgement"] == letter]
            if len(there):
                x, y = there["column"].to_numpy(), there["position"].to_numpy()
                dashed = {"linestyles": (0, (2, 1.5))} if letter == NOT_RATED else {}
                chart.dots(x, y, f"rob {letter}", s=11.2**2, linewidths=0.5, **dashed)
                chart.dots(x, y, f"rob {letter}", s=_area(letter), facecolors=INK, edgecolors="none", linewidths=0.0,
                           marker=_glyph(letter), zorder=6)  # fmt: skip
        chart.names("y", labels, size=SMALL)
        heads(chart, frame.attrs["domains"], COLUMN)
        chart.ax.tick_params(axis="y", length=0.0, pad=5.0)
        chart.ax.spines[["left", "bottom"]].set_visible(False)
        if frame.attrs["overall"] and columns > 1:
            chart.rule("x", columns - 1.5, "zero")
    return chart.made


def _labels(frame: pd.DataFrame) -> tuple[list[str], float]:
    """Return the names of the rows, on two lines at most, and how far apart the rows stand."""
    names = [wrap(str(name), SMALL, LABEL) for name in frame.drop_duplicates("position")["label"]]
    short = [(*lines[:1], cut(" ".join(lines[1:]), SMALL, LABEL)) if lines[1:] else lines for lines in names]
    pitch = next(high for most, high in PITCHES if len(names) <= most)
    pitch = frame.attrs.get("pitch", pitch)
    return ["\n".join(lines) for lines in short], max(pitch, max(map(len, short)) * line_height(SMALL) + 0.04)


def _glyph(letter: str) -> Any:
    """Return a letter as the marker of a dot, its middle at the dot's."""
    from matplotlib.path import Path
    from matplotlib.textpath import TextPath

    shape = TextPath((0.0, 0.0), letter, size=1.0, prop=font(SMALL, True))
    box = shape.get_extents()
    return Path(shape.vertices - [(box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2], shape.codes)


def _area(letter: str) -> float:
    """Return the area at which a letter has the size of small text: a marker is scaled to its longest coordinate."""
    return float((0.92 * SMALL * 2 * np.abs(_glyph(letter).vertices).max()) ** 2)


def _draw_bars(frame: pd.DataFrame, ax: Axes | None) -> Drawn:
    domains = frame.attrs["domains"]
    labels = ["\n".join(wrap(str(name), SIZE, LABEL)) for name in domains]
    pitch = max(BAR_PITCH, max(text.count("\n") + 1 for text in labels) * line_height(SIZE) + 0.08)
    least = (BAR_PANEL, len(domains) * pitch) if ax is None else (1.5, len(domains) * line_height(SIZE))
    with charting(frame, ax, 0.0, 0.0, least=least) as chart:
        chart.numbers("x", [0.0, 100.0], (0.0, 100.0))
        chart.limits("y", len(domains) - 0.5, -0.5)
        wide = chart.panel_size()[0] if ax is not None else BAR_PANEL
        for row in frame.to_dict("records"):
            letter, start, share = row["judgement"], row["start"], row["share"]
            chart.ax.barh(
                row["position"], share, 0.72, start, color=ROB[letter], edgecolor=INK, linewidth=0.5, zorder=3
            )
            for text in (f"{letter} {format_percent(share, 0)}", letter):
                if text_width(text, SMALL, bold=True) + 0.06 < share / 100.0 * wide:
                    chart.words(start + share / 2, row["position"], text, chart.ax.transData, ha="center", va="center",
                                fontsize=SMALL, weight="bold", zorder=6)  # fmt: skip
                    break
        chart.names("y", labels)
        chart.ax.tick_params(axis="y", length=0.0, pad=5.0)
        chart.ax.spines["left"].set_visible(False)
    return chart.made
