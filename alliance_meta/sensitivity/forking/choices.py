"""The choices of an analysis as data: what could have been done instead, and how well it can be defended."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from alliance_meta.bias.given import Given
from alliance_meta.bias.panels import means
from alliance_meta.conditions import select_rows
from alliance_meta.design import design_of
from alliance_meta.effects.dependent.groups import read_clusters
from alliance_meta.effects.sizes import VTYPES
from alliance_meta.effects.table import EffectSizes
from alliance_meta.errors import InputError, quiet
from alliance_meta.evidence.routes import METHODS, TEST_WORDS, TESTS, Route
from alliance_meta.expressions import shown
from alliance_meta.models.random_effects import RandomEffectsModel
from alliance_meta.models.recipes import DEFAULT_RHO
from alliance_meta.notes import check_option, did_you_mean
from alliance_meta.tables.format import brief

Grade = Literal["headline", "defensible", "to see what it does"]
GRADES: tuple[str, ...] = get_args(Grade)
# What can be chosen, in the order in which an analysis goes through it: the numbers change fastest in the last.
CHOICES = (
    "effects", "measure", "dependence", "rho", "moderators", "outliers", "bias", "estimator", "inference",
)  # fmt: skip
CR2 = "CR2"
INTERVALS = "intervals"
PICKS = ("lowest", "highest")
RULES = ("by", "ties", "unlisted")
# Longer words in a table or a figure hide the numbers; longer lists of options are no choices.
MOST_LABEL, MOST_OPTIONS = 80, 200


@dataclass(frozen=True, slots=True)
class Way:
    """What is done with several effects of one study."""

    label: str
    route: Mapping[str, Any]  # its part of a `Route`, the column of the studies as ``{}``
    assumes: bool = False  # whether it takes a correlation of sampling errors, rho, for granted


WAYS: Mapping[str, Way] = {
    "independent": Way("all effects as if independent", {}),
    "mean": Way("mean of each study", {"per": "{}", "how": "mean"}, assumes=True),
    "CS": Way("mean of least variance of each study", {"per": "{}", "how": "CS"}, assumes=True),
    "gleser-olkin": Way("each study by Gleser and Olkin", {"per": "{}", "how": "gleser-olkin"}, assumes=True),
    "composite": Way("composite of each study", {"per": "{}", "how": "composite"}, assumes=True),
    "three-level": Way("three-level", {"model": "multilevel", "random": ("{}/es_id",)}),
    "CHE": Way("correlated and hierarchical (CHE)", {"model": "multilevel", "random": ("{}/es_id",)}, assumes=True),
    "RVE CORR": Way("RVE, correlated", {"model": "rve", "method": "CORR", "test": "t", "random": "{}"}, assumes=True),
    "RVE HIER": Way("RVE, hierarchical", {"model": "rve", "method": "HIER", "test": "t", "random": "{}"}),
}


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a choice.

    Attributes
    ----------
    value : str, float, mapping or None
        What is done, see `multiverse`.
    grade : {"headline", "defensible", "to see what it does"}
        How well it can be defended. One option of each choice is the headline: the analysis that is reported.
    label : str
        What it is called; made from the value if empty.

    Examples
    --------
    >>> from alliance_meta.sensitivity import Option
    >>> Option("rater == 'client'", "defensible", "clients' ratings only").grade
    'defensible'
    """

    value: Any
    grade: Grade = "defensible"
    label: str = ""


Options = Mapping[str, tuple[Option, ...]]


@dataclass(frozen=True)
class Source:
    """What the specifications are fitted to: the effects on each scale, by the value of the choice ``measure``."""

    effects: Mapping[str, EffectSizes]
    cluster: str

    @property
    def first(self) -> EffectSizes:
        """The effects on the first scale."""
        return next(iter(self.effects.values()))


def usual(source: Source) -> dict[str, tuple[Option, ...]]:
    """Return the options that this literature uses, of those that the effects allow."""
    dependent = read_clusters(source.first, source.cluster).n < source.first.k
    see: Grade = "to see what it does"
    picks = tuple(Option({"pick": pick}, see) for pick in PICKS)
    found: dict[str, tuple[Option, ...]] = {
        "effects": (Option(None, "headline"), *(picks if dependent else ())),
        "measure": tuple(Option(name, "headline" if not i else "defensible") for i, name in enumerate(source.effects)),
        "dependence": (Option("independent", "headline"),),
        "rho": (Option(DEFAULT_RHO, "headline"), Option(0.4), Option(0.8)),
        "moderators": (Option("1", "headline"),),
        "outliers": (Option(None, "headline"), Option(INTERVALS)),
        "bias": (Option(None, "headline"), Option("pet_peese"), Option("selection")),
        "estimator": (Option("REML", "headline"), Option("ML"), Option("PM"), Option("DL"), Option("EE", see)),
        "inference": (Option("knha", "headline"), Option("z")),
    }
    if dependent:
        ways = [Option(way) for way in ("three-level", "RVE CORR", "mean")]
        found["dependence"] = (Option("CHE", "headline"), *ways, Option("independent", see))
        found["inference"] = (Option(CR2, "headline"), Option("knha"), Option("z", see))
    return found


def read_choices(given: Mapping[str, Any] | None, source: Source) -> dict[str, tuple[Option, ...]]:
    """Return every choice with its options, labelled; choices that are not given stay at their headline.

    Raises `InputError`: a choice or an option that does not exist, or none or several that are the headline.
    """
    own = usual(source)
    if given is not None:
        if not isinstance(given, Mapping):
            raise InputError(f"choices must be a mapping such as {{'rho': [0.6, 0.4]}}, not {type(given).__name__}")
        unknown = [name for name in given if name not in CHOICES]
        if unknown:
            known = list(CHOICES)
            raise InputError(
                f"choices: no choice is called {shown(unknown[0])}{did_you_mean(str(unknown[0]), known)}; there are "
                f"{', '.join(known)}"
            )
        own = {name: options[:1] for name, options in own.items()} | {
            name: _options(name, options) for name, options in given.items()
        }
    return {name: _labelled(name, own[name], source) for name in CHOICES}


def _options(name: str, given: Any) -> tuple[Option, ...]:
    """Return options with one headline; of bare values the first is it."""
    if isinstance(given, str | Mapping | Option) or not isinstance(given, Sequence):
        raise InputError(f"choices[{name!r}] must be a list of options, such as [Option(...), ...]")
    if not 0 < len(given) <= MOST_OPTIONS:
        raise InputError(f"choices[{name!r}] has {len(given)} options; give 1 to {MOST_OPTIONS}")
    options = [one if isinstance(one, Option) else Option(one) for one in given]
    for one in options:
        check_option(f"choices[{name!r}]: grade", one.grade, Grade)
    if not any(isinstance(one, Option) and one.grade == "headline" for one in given) and not isinstance(
        given[0], Option
    ):
        options[0] = replace(options[0], grade="headline")
    heads = sum(one.grade == "headline" for one in options)
    if heads != 1:
        raise InputError(
            f"choices[{name!r}] has {heads or 'no'} headline{'s' if heads > 1 else ''}; grade exactly one option "
            "'headline', the analysis that is reported"
        )
    return tuple(options)


def _labelled(name: str, options: Sequence[Option], source: Source) -> tuple[Option, ...]:
    checked = []
    for one in options:
        CHECKS[name](one.value, source, f"choices[{name!r}]")
        label = one.label or _label(name, one.value)
        if not isinstance(label, str) or not label.isprintable() or len(label) > MOST_LABEL:
            raise InputError(f"choices[{name!r}]: a label is one line of at most {MOST_LABEL} letters: {shown(label)}")
        checked.append(replace(one, label=label))
    labels = [one.label for one in checked]
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice is not None:
        raise InputError(f"choices[{name!r}] has two options called {twice!r}; give each a label of its own")
    return tuple(checked)


def _label(name: str, value: Any) -> str:
    """Return what an option is called."""
    if value is None:
        return {"effects": "all effects", "outliers": "kept", "bias": "not corrected"}[name]
    if name == "effects":
        if isinstance(value, Mapping):
            return f"{value['pick']} of each study" if "pick" in value else f"one per study by {', '.join(value['by'])}"
        return value if len(value) <= MOST_LABEL else f"{value[: MOST_LABEL - 4]} ..."
    if name == "moderators":
        return "none" if value == "1" else str(value)
    words = {
        "dependence": {key: way.label for key, way in WAYS.items()},
        "inference": {**TEST_WORDS, CR2: "cluster-robust (CR2)"},
        "outliers": {INTERVALS: "without intervals that miss the mean's"},
    }
    return words.get(name, {}).get(value, brief(value) if name == "rho" else str(value))


def _one_of(known: Callable[[Source], Sequence[Any]], mend: str = "") -> Callable[[Any, Source, str], None]:
    def check(value: Any, source: Source, where: str) -> None:
        listed = list(known(source))
        if not isinstance(value, str | None) or value not in listed:
            close = did_you_mean(str(value), [one for one in listed if one])
            raise InputError(f"{where}: {shown(value)} is not one of {', '.join(map(repr, listed))}{close or mend}")

    return check


def _check_effects(value: Any, source: Source, where: str) -> None:
    if value is None:
        return
    if isinstance(value, str):
        select_rows(value, source.first.frame, where=where)
        return
    if not isinstance(value, Mapping) or not value or ("pick" in value) == ("by" in value):
        raise InputError(
            f"{where}: {shown(value)} must be None for all effects, a condition such as \"rater == 'client'\", "
            "{'pick': 'lowest'}, or what select_effects takes, {'by': {...}, 'ties': 'first'}"
        )
    allowed = ("pick",) if "pick" in value else RULES
    for key in value:
        if key not in allowed:
            raise InputError(f"{where} has no {shown(key)}{did_you_mean(str(key), list(allowed))}")
    if "pick" in value and value["pick"] not in PICKS:
        raise InputError(f"{where}: pick is {shown(value['pick'])}, not one of {', '.join(map(repr, PICKS))}")
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: an option is data, numbers and texts ({error})") from None
    if "by" in value and not isinstance(value["by"], Mapping):
        raise InputError(f"{where}: by is {shown(value['by'])}, not a mapping such as {{'rater': ['client']}}")


def _check_rho(value: Any, source: Source, where: str) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not number or not -1 <= value <= 1:
        raise InputError(f"{where}: {shown(value)} is no correlation; write a number from -1 to 1")


def _check_moderators(value: Any, source: Source, where: str) -> None:
    if not isinstance(value, str):
        raise InputError(f"{where}: {shown(value)} is no formula; write one such as 'rater + year', '1' for none")
    with quiet():
        design_of(value, source.first)


def _corrections(source: Source) -> list[str | None]:
    with quiet():
        fit = RandomEffectsModel(source.first, method="EE", test="z").fit()
    codes = read_clusters(source.first, source.cluster).codes
    return [None, *means(Given(fit, codes, fit.level, source.cluster))]


TABLE = "; for other scales give the table that the effects were made of"
CHECKS: Mapping[str, Callable[[Any, Source, str], None]] = {
    "effects": _check_effects,
    "measure": _one_of(lambda source: list(source.effects), TABLE),
    "dependence": _one_of(lambda source: list(WAYS)),
    "rho": _check_rho,
    "moderators": _check_moderators,
    "outliers": _one_of(lambda source: [None, INTERVALS]),
    "bias": _one_of(_corrections),
    "estimator": _one_of(lambda source: METHODS),
    "inference": _one_of(lambda source: [*TESTS, CR2]),
}


def measures(given: bool) -> tuple[str, ...]:
    """Return the scales of correlations: Fisher's z, and r with each variance; only the usual unless `given`."""
    every = [f"{measure} {vtype}" if vtype != "LS" else measure for measure, kinds in VTYPES.items() for vtype in kinds]
    return tuple(every) if given else ("ZCOR", "COR")


# Of a specification: the place of its option in each choice, or -1 where the choice makes no difference to it.
Spec = tuple[int, ...]
UNUSED = -1


def settle(spec: Spec, choices: Options) -> tuple[Spec, str]:
    """Return a specification with what makes no difference left out; the reason instead if there is no such thing."""
    value = {name: choices[name][place].value for name, place in zip(CHOICES, spec, strict=True)}
    unused = set()
    one_each = isinstance(value["effects"], Mapping)
    way = WAYS["independent"] if one_each else WAYS[value["dependence"]]
    model = way.route.get("model", "random")
    unused |= {"dependence"} if one_each else set()
    unused |= set() if way.assumes else {"rho"}
    unused |= {"estimator", "inference"} if model == "rve" else set()
    unused |= {"inference"} if value["bias"] is not None else set()
    if value["bias"] is not None and value["moderators"] != "1":
        return spec, "a correction for bias is defined for models without moderators"
    if model == "multilevel" and value["estimator"] not in ("REML", "ML"):
        return spec, "models of dependent effects are fitted by REML or ML"
    if model == "multilevel" and "inference" not in unused and value["inference"] in ("knha", "adhoc"):
        return spec, "the adjustments of Knapp and Hartung are for independent effects"
    return tuple(UNUSED if name in unused else place for name, place in zip(CHOICES, spec, strict=True)), ""


def route_of(spec: Spec, choices: Options, cluster: str) -> Route:
    """Return the model of a specification; its inference is the headline's, where it has it, under a correction."""
    value = {name: options[max(place, 0)].value for (name, options), place in zip(choices.items(), spec, strict=True)}
    used = dict(zip(CHOICES, (place != UNUSED for place in spec), strict=True))
    way = WAYS[value["dependence"]] if used["dependence"] else WAYS["independent"]
    route = {name: _filled(part, cluster) for name, part in way.route.items()}
    if way.assumes:
        route["rho"] = value["rho"]
    if route.get("model") != "rve":
        head = next(one.value for one in choices["inference"] if one.grade == "headline")
        test = value["inference"] if used["inference"] else head
        if route.get("model") == "multilevel" and test in ("knha", "adhoc"):
            test = CR2
        route |= {"method": value["estimator"]}
        route |= {"test": "z", "robust": cluster} if test == CR2 else {"test": test}
    return Route("", "", **({"mods": value["moderators"]} | route))


def _filled(part: Any, cluster: str) -> Any:
    if isinstance(part, tuple):
        return tuple(_filled(one, cluster) for one in part)
    return part.format(cluster) if isinstance(part, str) else part
