"""A route as code: what to type to follow it."""

from __future__ import annotations

import json

from alliance_meta.evidence.routes import DEFAULT_RHO, Route
from alliance_meta.tables.format import brief


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
