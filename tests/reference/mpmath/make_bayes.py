"""Posteriors of the normal-normal model to 30 digits, by another route: ``python make_bayes.py`` writes bayes.json.

Needs mpmath and nothing else. Gauss-Legendre panels in tau itself, the tail in 1 / tau; the coefficients are
integrated by the textbook formulas. Every case is computed twice, with other panels and more nodes; the two
must agree to 18 digits.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from pathlib import Path

# The test suite looks for doctests here, without mpmath.
with contextlib.suppress(ModuleNotFoundError):
    from mpmath import erfc, exp, gamma, log, matrix, mp, mpf, pi, sqrt
    from mpmath.calculus.quadrature import GaussLegendre

RESULT = Path(__file__).with_name("bayes.json")
DIGITS = 30
SMALL = {"y": [0.12, 0.45, 0.31], "v": [0.02, 0.05, 0.01]}
# Molloy, O'Carroll & Ferguson (2014): Fisher z of r, v = 1 / (n - 3).
MOLLOY = {
    "r": [0.187, 0.162, 0.34, 0.32, 0.27, 0.0, 0.175, 0.05, 0.26, 0.01, -0.09, 0.37, 0.0, 0.15, 0.24, 0.04],
    "n": [109, 749, 55, 107, 72, 65, 174, 326, 58, 771, 56, 91, 116, 537, 158, 65],
}


def made(k):
    """Return made-up effects, variances and a moderator, by a small congruential generator."""
    state, draws = 20140, []
    for _ in range(3 * k):
        state = (1103515245 * state + 12345) % 2**31
        draws.append(state / 2**31)
    n = [20 + round(200 * u) for u in draws[:k]]
    x = [round(4 * u - 2, 3) for u in draws[k : 2 * k]]
    y = [round(0.25 + 0.05 * a + 0.6 * (u - 0.5), 4) for a, u in zip(x, draws[2 * k :], strict=True)]
    return {"y": y, "v": [1.0 / (m - 3) for m in n], "x": x}


def normal_cdf(z):
    return erfc(-z / sqrt(mpf(2))) / 2


def half_normal(t, s):
    return sqrt(2 / pi) / s * exp(-((t / s) ** 2) / 2)


def half_cauchy(t, s):
    return 2 / (pi * s * (1 + (t / s) ** 2))


def inverse_gamma(t, a, b):
    return b**a / gamma(a) * t ** (-a - 1) * exp(-b / t)


PRIORS = {"half-normal": half_normal, "half-cauchy": half_cauchy, "inverse-gamma": inverse_gamma}


def given(tau, y, v, X, mean, precision):
    """Return log likelihood, mean and covariance of the coefficients given tau."""
    p = len(mean)
    w = [1 / (one + tau**2) for one in v]
    A, b = matrix(p, p), matrix(p, 1)
    for wi, yi, row in zip(w, y, X, strict=True):
        for i in range(p):
            b[i] += wi * row[i] * yi
            for j in range(p):
                A[i, j] += wi * row[i] * row[j]
    for i in range(p):
        A[i, i] += precision[i]
        b[i] += precision[i] * mean[i]
    C = A**-1
    m = C * b
    resid = [yi - sum(row[i] * m[i] for i in range(p)) for yi, row in zip(y, X, strict=True)]
    Q = sum(wi * r**2 for wi, r in zip(w, resid, strict=True))
    Q += sum(precision[i] * (m[i] - mean[i]) ** 2 for i in range(p))
    proper = [q for q in precision if q > 0]
    constant = (len(y) - (p - len(proper))) * log(2 * pi)
    determinant = A[0, 0] if p == 1 else A[0, 0] * A[1, 1] - A[0, 1] ** 2
    total = constant - sum(log(wi) for wi in w) + Q + log(determinant) - sum(log(q) for q in proper)
    return -total / 2, m, C


def integrands(tau, case, prior, points):
    """Return prior x likelihood times everything whose mean is wanted."""
    y, v, X, mean, precision = case
    loglik, m, C = given(tau, y, v, X, mean, precision)
    f = exp(loglik - points["shift"]) * PRIORS[prior[0]](tau, *map(mpf, prior[1:]))
    p = len(mean)
    share = tau**2 / (tau**2 + v[0])
    theta = share * y[0] + (1 - share) * sum(X[0][i] * m[i] for i in range(p))
    spread = sum(X[0][i] * C[i, j] * X[0][j] for i in range(p) for j in range(p))
    theta_sd = sqrt(share * v[0] + (1 - share) ** 2 * spread)
    out = [f, f * tau, f * tau**2]
    for j in range(p):
        sd = sqrt(C[j, j])
        out += [f * m[j], f * (m[j] ** 2 + C[j, j])]
        out += [f * normal_cdf((x - m[j]) / sd) for x in points["beta"][j]]
    new = sqrt(C[0, 0] + tau**2)
    out += [f * normal_cdf((x - m[0]) / new) for x in points["new"]]
    out += [f * theta, f * (theta**2 + theta_sd**2)]
    out += [f * normal_cdf((x - theta) / theta_sd) for x in points["theta"]]
    return out


def integral(function, edges, degree):
    """Return the integrals over [0, edges[-1]] panel by panel, and beyond it in 1 / tau; and those of each panel."""
    rule = GaussLegendre(mp).calc_nodes(degree, mp.prec + 20)
    panels = []
    for a, b in itertools.pairwise(edges):
        half = (b - a) / 2
        panels.append([half * sum(w * g for w, g in column) for column in _columns(function, rule, a + half, half)])
    cuts = [mpf(0), 1 / (8 * edges[-1]), 1 / (2 * edges[-1]), 1 / edges[-1]]
    for a, b in itertools.pairwise(cuts):
        half = (b - a) / 2
        tail = _columns(lambda s: [g / s**2 for g in function(1 / s)], rule, a + half, half)
        panels.append([half * sum(w * g for w, g in column) for column in tail])
    return [sum(column) for column in zip(*panels, strict=True)]


def _columns(function, rule, middle, half):
    values = [function(middle + half * x) for x, _ in rule]
    return [list(zip((w for _, w in rule), column, strict=True)) for column in zip(*values, strict=True)]


def solve(case, prior, points, grid):
    """Return every number of one case, from two sets of panels."""
    found = []
    other = [grid[0], *[(a + b) / 2 for a, b in itertools.pairwise(grid)], grid[-1]]
    for degree, edges in ((5, grid), (6, other)):
        raw = integral(lambda t: integrands(t, case, prior, points), [mpf(e) for e in edges], degree)
        cdf = [integral_below(case, prior, points, mpf(x), edges, degree) / raw[0] for x in points["tau"]]
        found.append(([one / raw[0] for one in raw], log(raw[0]) + points["shift"], cdf))
    (a, la, ca), (b, lb, cb) = found
    worst = max(abs(x - y) for x, y in zip([*a, la, *ca], [*b, lb, *cb], strict=True))
    assert worst < mpf(10) ** -18, worst
    return b, lb, cb


def integral_below(case, prior, points, x, edges, degree):
    y, v, X, mean, precision = case
    rule = GaussLegendre(mp).calc_nodes(degree, mp.prec + 20)
    cuts = [mpf(e) for e in edges if e < x] + [x]
    total = mpf(0)
    for a, b in itertools.pairwise(cuts):
        half = (b - a) / 2
        for node, w in rule:
            tau = a + half + half * node
            loglik = given(tau, y, v, X, mean, precision)[0]
            total += half * w * exp(loglik - points["shift"]) * PRIORS[prior[0]](tau, *map(mpf, prior[1:]))
    return total


def report(values, log_marginal, tau_cdf, points, p):
    """Return the numbers by name, as strings of 18 digits."""
    text = lambda x: mp.nstr(x, 18)  # noqa: E731
    it = iter(values)
    next(it)

    def moments():
        mean, second = next(it), next(it)
        return {"mean": text(mean), "sd": text(sqrt(second - mean**2))}

    out = {
        "log_marginal": text(log_marginal),
        "tau": {**moments(), "x": points["tau"], "cdf": [text(c) for c in tau_cdf]},
    }
    for j in range(p):
        out[f"beta{j}"] = {**moments(), "x": points["beta"][j], "cdf": [text(next(it)) for _ in points["beta"][j]]}
    out["theta_new"] = {"x": points["new"], "cdf": [text(next(it)) for _ in points["new"]]}
    out["theta_1"] = {**moments(), "x": points["theta"], "cdf": [text(next(it)) for _ in points["theta"]]}
    return out


def main():
    mp.dps = DIGITS
    molloy = {"y": [float(mp.atanh(mpf(r))) for r in MOLLOY["r"]], "v": [1.0 / (n - 3) for n in MOLLOY["n"]]}
    m24, m79 = made(24), made(79)
    hn, hc, ig = ["half-normal", 0.3], ["half-cauchy", 0.3], ["inverse-gamma", 1.0, 0.075]
    wide = [0, 0.01, 0.02, 0.04, 0.07, 0.1, 0.15, 0.2, 0.3, 0.45, 0.7, 1.2, 2.5]
    narrow = [0, 0.03, 0.05, 0.07, 0.085, 0.1, 0.115, 0.13, 0.15, 0.17, 0.2, 0.25, 0.35, 0.6, 1.2, 2.5]
    specs = [
        ("small half-normal", SMALL, 1, [0.0], [1.0], hn, wide),
        ("small half-cauchy flat", SMALL, 1, [0.0], [0.0], hc, wide),
        ("small inverse-gamma", SMALL, 1, [0.0], [4.0], ig, wide),
        ("molloy half-normal", molloy, 1, [0.0], [1.0], hn, narrow),
        ("molloy inverse-gamma flat", molloy, 1, [0.0], [0.0], ig, narrow),
        ("24 half-cauchy", m24, 1, [0.0], [1.0], hc, narrow),
        ("24 regression", m24, 2, [0.1, 0.0], [4.0, 16.0], hn, narrow),
        ("79 half-normal", m79, 1, [0.0], [1.0], hn, narrow),
    ]
    out = []
    for name, data, p, mean, precision, prior, grid in specs:
        y, v = [mpf(a) for a in data["y"]], [mpf(a) for a in data["v"]]
        x = [mpf(a) for a in data.get("x", data["y"])]
        # The prior of the mean effect is that at the average of the moderator.
        X = [[mpf(1)] if p == 1 else [mpf(1), a - sum(x) / len(x)] for a in x]
        case = (y, v, X, [mpf(a) for a in mean], [mpf(a) for a in precision])
        points = {
            "shift": given(mpf("0.15"), *case)[0],
            "tau": [0.02, 0.1, 0.2, 0.5],
            "beta": [[-0.05, 0.2, 0.3], [-0.02, 0.05, 0.1]][:p],
            "new": [-0.3, 0.2, 0.7],
            "theta": [-0.1, 0.2, 0.4],
        }
        values = solve(case, prior, points, grid)
        out.append(
            {
                "name": name,
                "y": data["y"],
                "v": data["v"],
                "x": data["x"] if p == 2 else None,
                "mean": mean,
                "precision": precision,
                "prior": prior,
                **report(*values, points, p),
            }
        )
        print(name, out[-1]["log_marginal"], flush=True)
    source = f"mpmath {__import__('mpmath').__version__}, {DIGITS} digits; made by make_bayes.py"
    RESULT.write_text(json.dumps({"source": source, "cases": out}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
