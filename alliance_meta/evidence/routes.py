"""Routes: the choices that lead from a table of correlations to one printed number, in words and in code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from alliance_meta.core.robust.rve import Working
from alliance_meta.errors import InputError
from alliance_meta.expressions import shown
from alliance_meta.notes import Degrees, Struct, VType, did_you_mean
from alliance_meta.tables.format import brief

Model = Literal["random", "mean", "multilevel", "rve"]

METHODS = ("REML", "DL", "ML", "PM", "HE", "HS", "SJ", "EE")
TESTS = ("z", "knha", "t", "adhoc")
# What programs offered by default when the older syntheses were made, and what they offer now: a printed two-digit
# value is met by chance by some of the many other routes, which therefore prove nothing.
USUAL_METHODS = ("DL", "HE", "HS", "EE", "REML", "ML")
USUAL_VARIANCES = (("ZCOR", "LS"), ("COR", "LS"), ("COR", "AV"), ("GEN", None))
USUAL_TESTS = {"z": USUAL_METHODS, "knha": ("REML", "DL")}
# One effect per study by the mean of its effects, errors correlating .5 (the default of MAd), or by its mean r.
USUAL_AVERAGES = ((None, None), ("mean", 0.5), ("mean r", None))
DEFAULT_RHO = 0.5

TEST_WORDS = {"z": "Wald z", "knha": "Knapp-Hartung t", "t": "t", "adhoc": "Knapp-Hartung ad hoc"}
SCALE_WORDS = {"ZCOR": "Fisher z", "COR": "raw r", "UCOR": "unbiased r", "GEN": "effects as given"}
LEVELS = {1: "two-level", 2: "three-level", 3: "four-level"}
MEANS = {"ni": "mean weighted by n (Hunter-Schmidt)", "equal": "unweighted mean"}
# What two routes can differ in, and the choices behind each.
ASPECTS: Mapping[str, tuple[str, ...]] = {
    "columns": ("ri", "ni"),
    "measure": ("measure",),
    "variance": ("vtype",),
    "rows": ("subset",),
    "moderators": ("mods",),
    "aggregation": ("per", "how"),
    "correlation assumed": ("rho", "V"),
    "model": ("model", "random", "struct"),
    "estimator": ("method",),
    "inference": ("test", "dfs", "robust", "small"),
}


@dataclass(frozen=True, slots=True)
class Route:
    """One way from a table to a pooled value."""

    # ri, ni: columns with the correlations and sample sizes (or with finished effects and their variances).
    ri: str
    ni: str
    # measure, vtype: as in `escalc`; ``"GEN"`` and None for finished effects.
    measure: str = "ZCOR"
    vtype: str | None = "LS"
    # Estimator, as in the model; for a ``"mean"`` its weights, ``"ni"`` or ``"equal"``; for an ``"rve"`` its working
    # model.
    method: str = "REML"
    test: str = "z"  # as in the model; ``"t"`` for an ``"rve"``
    mods: str = "1"  # moderators
    subset: str | None = None  # expression that picks rows
    per: str | None = None  # column whose groups (studies, samples) are made one effect each before pooling
    # How: ``"mean"`` or ``"CS"`` as in `aggregate`, or ``"mean r"`` (mean r and mean n, then as one effect).
    how: str | None = None
    # Assumed correlation of the errors of effects of one group, in `aggregate` or in the model's V.
    rho: float | None = None
    model: Model = "random"
    random: tuple[str, ...] | str = ()  # random terms of a multilevel model; of an ``"rve"`` its cluster
    # struct, V, dfs: of a multilevel model; V is ``"rcalc"`` where the table holds whole correlation matrices.
    struct: str | None = None
    V: str | None = None
    dfs: str | None = None
    robust: str | None = None  # column whose groups make standard errors cluster-robust (CR2)
    small: bool = True  # of an ``"rve"``: corrected for few clusters

    @property
    def usual(self) -> bool:
        """Whether common programs take this route on the effects as the article lists them."""
        if self.ri.endswith("_recoded") or (self.measure, self.vtype) not in USUAL_VARIANCES:
            return False
        if self.model == "rve":
            return self.method == "CORR" and self.rho == 0.8 and self.small and self.measure in ("ZCOR", "GEN")
        if self.model == "multilevel":
            plain = self.rho is None and self.V is None and self.robust is None and self.struct is None
            rows = "es_id" in self.random and len(self.random) == 2 and "/" not in self.random[0]
            return plain and rows and self.method == "REML" and self.vtype != "AV"
        if (self.how, self.rho) not in USUAL_AVERAGES:
            return False
        if self.model == "mean":
            return self.method == "ni" and self.test == "z"
        return self.method in USUAL_TESTS.get(self.test, ())

    @property
    def words(self) -> str:
        """The route in words, e.g. ``"Fisher z, REML, Wald z"``."""
        variance = f" (variance {self.vtype})" if self.measure in ("COR", "UCOR") and self.model != "mean" else ""
        parts = [f"{SCALE_WORDS[self.measure]}{variance}", *self._model_words(), self._test_words()]
        if self.ri not in ("r", "ri", "yi"):
            parts.append(f"column {self.ri}")
        if self.mods != "1":
            parts.append(f"mods {self.mods}")
        if self.subset:
            parts.append(f"where {self.subset}")
        if self.per:
            parts.append(self._average_words())
        return ", ".join(parts)

    def _model_words(self) -> list[str]:
        if self.model == "mean":
            return [MEANS[self.method]]
        if self.model == "rve":
            rho = f", rho {_short(self.rho)}" if self.method == "CORR" else ""
            few = "" if self.small else ", large sample"
            return [f"robust variance estimation ({self.method}{rho}{few}) by {self.random}"]
        if self.model == "random":
            return [self.method]
        terms = (self.random,) if isinstance(self.random, str) else self.random
        paths = [part for term in terms for part in term.split("/")]
        wide = any("|" in term for term in terms)
        levels = "multivariate" if wide else LEVELS.get(len(paths), f"{len(paths) + 1}-level")
        rows = " / ".join("row" if part == "es_id" else part for part in paths)
        words = [f"{levels} ({rows}{f', {self.struct}' if self.struct else ''})", self.method]
        if self.V or self.rho is not None:
            words.append("errors correlating as computed" if self.V else f"errors correlating {_short(self.rho)}")
        return words

    def _test_words(self) -> str:
        if self.model == "rve" or self.robust:
            by = f"CR2 by {self.robust}, " if self.robust else ""
            return f"{by}t (Satterthwaite)" if self.small else "t (clusters - 1)"
        if self.model == "multilevel" and self.test == "t":
            return {"contain": "t (groups - 1)", "residual": "t (effects - 1)"}[self.dfs or "contain"]
        return "z from SD/√k" if self.model == "mean" and self.test == "z" else TEST_WORDS[self.test]

    def _average_words(self) -> str:
        if self.how == "mean r":
            return f"one mean r per {self.per}"
        what = "mean" if self.how in (None, "mean") else "mean of least variance"
        return f"one {what} per {self.per} (rho {_short(DEFAULT_RHO if self.rho is None else self.rho)})"

    def differs_from(self, other: Route) -> tuple[str, ...]:
        """Return in what the two routes differ, such as ``("estimator", "inference")``."""
        return tuple(
            aspect
            for aspect, names in ASPECTS.items()
            if any(getattr(self, name) != getattr(other, name) for name in names)
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the choices that matter to this route as a plain dictionary."""
        default = {item.name: item.default for item in fields(self)}
        always = ("ri", "ni", "measure", "vtype", "method", "test", "mods", "subset", "per")
        return {key: value for key, value in asdict(self).items() if key in always or value != default[key]}


def route_from(block: Mapping[str, Any], *, where: str = "a route") -> Route:
    """Read a route from a data card or a description: nothing but the names and choices that exist.

    Raises `InputError`: an unknown name, a value of another type, or a choice that its model does not have.
    """
    from pydantic import TypeAdapter, ValidationError

    known = [item.name for item in fields(Route)]
    unknown = [key for key in block if key not in known]
    if unknown:
        raise InputError(f"{where} has no {shown(unknown[0])}{did_you_mean(str(unknown[0]), known)}")
    given = {key: value for key, value in block.items() if value is not None or key in ("subset", "vtype")}
    try:
        route = TypeAdapter(Route).validate_python(given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InputError(
            f"{where}.{first['loc'][0]} is {shown(first['input'])}; {first['msg'].replace('Input should be', 'write')}"
        ) from None
    for name, allowed in _choices(route).items():
        if getattr(route, name) not in allowed:
            listed = ", ".join(map(repr, allowed))
            raise InputError(f"{where}.{name} is {shown(getattr(route, name))}; a {route.model!r} route has {listed}")
    if route.model in ("multilevel", "rve") and not route.random:
        raise InputError(f"{where}.random is empty; a {route.model!r} route names its groups there")
    return route


def _choices(route: Route) -> dict[str, tuple[Any, ...]]:
    """Return what may stand where the model decides."""
    methods = {"random": METHODS, "mean": tuple(MEANS), "multilevel": ("REML", "ML"), "rve": get_args(Working)}
    tests = {"random": TESTS, "mean": ("z", "t"), "multilevel": ("z", "t"), "rve": ("t",)}
    return {
        "measure": tuple(SCALE_WORDS),
        "vtype": (None, *get_args(VType)),
        "method": methods[route.model],
        "test": tests[route.model],
        "how": (None, "mean", "CS", "mean r"),
        "struct": (None, *get_args(Struct)),
        "V": (None, "rcalc"),
        "dfs": (None, *get_args(Degrees)),
    }


def _short(value: float | None) -> str:
    return "?" if value is None else brief(value).replace("0.", ".", 1)


def code(route: Route) -> str:
    """Return the Python expression that follows a route on a ``table``, empty where no single one does.

    >>> code(Route("r", "n"))
    'am.RandomEffectsModel(am.escalc(table), method="REML", test="z").fit()'
    """
    effects = _effects(route)
    if not effects:
        return ""
    if route.model == "mean":
        return f"am.sensitivity.hunter_schmidt({effects})" if route.method == "ni" and route.test == "z" else ""
    mods = f", mods={quoted(route.mods)}" if route.mods != "1" else ""
    if route.model == "rve":
        rho = f", rho={brief(route.rho)}" if route.rho is not None else ""
        small = "" if route.small else ", small=False"
        cluster, working = quoted(str(route.random)), quoted(route.method)
        return f"am.RVEModel({effects}{mods}, cluster={cluster}, working={working}{rho}{small}).fit()"
    if route.model == "multilevel":
        return _multilevel(route, effects, mods)
    fit = f'am.RandomEffectsModel({effects}{mods}, method="{route.method}", test="{route.test}").fit()'
    return fit if route.robust is None else f"{fit}.robust(cluster={quoted(route.robust)})"


def quoted(text: str) -> str:
    """Return a text as it stands in code, in double quotes."""
    return json.dumps(text, ensure_ascii=False)


def _effects(route: Route) -> str:
    if route.V is not None or route.how == "mean r":
        return ""
    rows = "table" if route.subset is None else f"table.query({route.subset!r})"
    options = []
    if route.measure not in ("ZCOR", "GEN"):
        options.append(f'measure="{route.measure}"')
    if route.vtype not in ("LS", None):
        options.append(f'vtype="{route.vtype}"')
    if route.measure != "GEN":
        columns = (("ri", route.ri), ("ni", route.ni))
        options += [f"{name}={quoted(column)}" for name, column in columns if column != name[0]]
    made = f"am.escalc({', '.join([rows, *options])})"
    if route.per is None:
        return made
    names = route.per.split("/")
    cluster = quoted(names[0]) if len(names) == 1 else repr(names)
    rho = DEFAULT_RHO if route.rho is None else route.rho
    return f'am.aggregate({made}, cluster={cluster}, how="{route.how or "mean"}", rho={brief(rho)})'


def _multilevel(route: Route, effects: str, mods: str) -> str:
    terms = (route.random,) if isinstance(route.random, str) else route.random
    random = quoted(terms[0]) if len(terms) == 1 else f"({', '.join(map(quoted, terms))})"
    struct = f', struct="{route.struct}"' if route.struct else ""
    dfs = f', dfs="{route.dfs}"' if route.test == "t" and route.dfs else ""
    V = ""
    if route.rho is not None:
        outer = terms[0].rpartition("|")[2].strip().split("/")[0]
        V = f", V=am.impute_V(effects, cluster={quoted(outer)}, rho={brief(route.rho)})"
        effects = f"(effects := {effects})"
    fit = (
        f"am.MultilevelModel({effects}{V}{mods}, random={random}{struct}, "
        f'method="{route.method}", test="{route.test}"{dfs}).fit()'
    )
    return fit if route.robust is None else f"{fit}.robust(cluster={quoted(route.robust)})"
