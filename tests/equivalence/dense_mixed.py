"""Random sets of a few raters in a few studies, and the highest likelihood that dense algebra finds from random starts.

Nothing here is the package's: covariances of whole studies are inverted, parameters are unbounded (a standard
deviation is |x|, a correlation goes with sin x), and plain BFGS climbs for all sets and starts at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

STRUCTS = ("ID", "DIAG", "CS", "HCS", "AR", "HAR", "CAR", "UN", "GEN")


@dataclass(frozen=True, eq=False)
class Sets:
    """B sets of J studies with up to m effects: y, v, there (B, J, m), X (B, J, m, p), Z (B, J, m, q)."""

    y: np.ndarray
    v: np.ndarray
    there: np.ndarray
    X: np.ndarray
    Z: np.ndarray
    times: np.ndarray


def draw(rng, struct, B) -> Sets:
    """Draw sets with 2 or 3 raters, 5 to 8 studies and n from 20 to 300; every rater has at least one effect."""
    J, q = int(rng.integers(5, 9)), int(rng.integers(2, 4))
    m = q
    there = rng.random((B, J, m)) < 0.75
    there[:, :q, :] |= np.eye(q, dtype=bool)
    v = 1.0 / (np.exp(rng.uniform(np.log(20), np.log(300), (B, J, 1))) - 3.0) * np.ones((1, 1, m))
    times = np.cumsum(rng.choice([0.5, 1.0, 1.5, 2.5], q))
    x = rng.normal(size=(B, J, m))
    Z = np.broadcast_to(np.eye(q), (B, J, m, q)) if struct != "GEN" else np.stack([np.ones_like(x), x], axis=-1)
    X = np.ones((B, J, m, 1))
    if rng.random() < 0.3 and struct != "GEN":
        X = np.concatenate([X, x[..., None]], axis=-1)
    width = Z.shape[-1]
    L = np.tril(rng.normal(size=(B, width, width))) * np.exp(rng.uniform(np.log(0.02), np.log(0.4), (B, width, 1)))
    u = np.einsum("bij,bsj->bsi", L, rng.normal(size=(B, J, width)))
    y = 0.25 + np.einsum("bsmi,bsi->bsm", Z, u) + np.sqrt(v) * rng.normal(size=v.shape)
    return Sets(np.round(y, 2), v, there, X, Z, times)


def shapes(struct, sets):
    """Return the covariance of each vector x (N, n), its derivatives (N, n, q, q), and n."""
    q = sets.Z.shape[-1]
    eye = np.eye(q)
    if struct in ("UN", "GEN"):
        rows, columns = np.tril_indices(q)

        def factor(x):
            L = np.zeros((len(x), q, q))
            L[:, rows, columns] = x
            D = np.zeros((len(x), rows.size, q, q))
            for j, (a, b) in enumerate(zip(rows, columns, strict=True)):
                D[:, j, a, :] = L[:, :, b]
            return L @ L.swapaxes(1, 2), D + D.swapaxes(2, 3)

        return factor, rows.size
    times = sets.times if struct == "CAR" else np.arange(q)
    steps = np.abs(np.subtract.outer(times, times)).astype(float)
    far = {"HCS": 1.0 - eye, "CS": 1.0 - eye}.get(struct, steps)
    most = int(sets.there.sum(axis=2).max())
    low = {"HCS": -1.0 / (q - 1), "CS": -1.0 / max(most - 1, 1), "CAR": 0.0}.get(struct, -1.0)
    common, free = struct in ("ID", "CS", "AR", "CAR"), struct not in ("ID", "DIAG")
    size = 1 if common else q

    def correlated(x):
        sd = np.broadcast_to(np.abs(x[:, :size]), (len(x), q))
        rho = low + (1.0 - low) * 0.5 * (1.0 + np.sin(x[:, -1]))
        slope = (1.0 - low) * 0.5 * np.cos(x[:, -1])
        sign = np.where((rho < 0)[:, None, None] & (far % 2 == 1), -1.0, 1.0)
        a = np.abs(rho)[:, None, None]
        R = np.where(eye == 1, 1.0, sign * a**far) if free else np.broadcast_to(eye, (len(x), q, q))
        G = sd[:, :, None] * R * sd[:, None, :]
        D = np.zeros((len(x), size + free, q, q))
        if common:
            D[:, 0] = 2.0 * x[:, :1, None] * R
        else:
            for j in range(q):
                D[:, j, j, :] = R[:, j, :] * sd
                D[:, j] += D[:, j].swapaxes(1, 2)
                D[:, j] *= np.sign(x[:, j])[:, None, None]
        if free:
            dR = np.where(eye == 1, 0.0, far * np.sign(rho)[:, None, None] * sign * np.maximum(a, 1e-12) ** (far - 1))
            D[:, -1] = sd[:, :, None] * dR * sd[:, None, :] * slope[:, None, None]
        return G, D

    return correlated, size + free


def likelihoods(struct, sets, *, restricted=True):
    """Return f(x (N, n), set (N,)) -> log-likelihood (N,) and its gradient, and n."""
    shape, n = shapes(struct, sets)
    B, J, m = sets.y.shape
    y, X, Z = (np.where(sets.there.reshape(B, J, m, *[1] * (a.ndim - 3)), a, 0.0) for a in (sets.y, sets.X, sets.Z))
    v = np.where(sets.there, sets.v, 1.0)
    k = sets.there.sum(axis=(1, 2))
    size = np.linalg.slogdet(np.einsum("bjmp,bjmq->bpq", X, X))[1]

    def value(x, of):
        G, D = shape(x)
        Zs, Xs = Z[of], X[of]
        M = Zs @ G[:, None] @ Zs.swapaxes(2, 3) + v[of][..., None] * np.eye(m)
        inverse = np.linalg.inv(M)
        inverse = 0.5 * (inverse + inverse.swapaxes(2, 3))
        WX = inverse @ Xs
        A = np.einsum("njmp,njmq->npq", Xs, WX)
        vb = np.linalg.inv(A)
        beta = vb @ np.einsum("njmp,njm->np", WX, y[of])[:, :, None]
        resid = y[of] - (Xs @ beta[:, None])[..., 0]
        a = (inverse @ resid[..., None])[..., 0]
        out = np.linalg.slogdet(M)[1].sum(axis=1) + np.einsum("njm,njm->n", resid, a)
        S = a[..., :, None] * a[..., None, :] - inverse
        free = k[of] - (X.shape[-1] if restricted else 0)
        if restricted:
            out += np.linalg.slogdet(A)[1] - size[of]
            S += WX @ vb[:, None] @ WX.swapaxes(2, 3)
        slope = 0.5 * np.einsum("njmq,njml,njlr->nqr", Zs, S, Zs, optimize=True)
        return -0.5 * (out + free * np.log(2 * np.pi)), np.einsum("nqr,nkqr->nk", slope, D)

    return value, n


def climb(value, x, of, steps=250):
    """Climb by BFGS from every row of x; return the likelihoods reached."""
    N, n = x.shape
    H = np.repeat(0.05 * np.eye(n)[None], N, axis=0)
    f, g = value(x, of)
    moving = np.arange(N)
    for _ in range(steps):
        p = (H[moving] @ g[moving][:, :, None])[:, :, 0]
        gain = (p * g[moving]).sum(axis=1)
        on = gain > 1e-10
        moving, p, gain = moving[on], p[on], gain[on]
        if not moving.size:
            break
        left, t = np.arange(moving.size), 1.0
        new_x, new_f, new_g = x[moving].copy(), f[moving].copy(), g[moving].copy()
        for _ in range(30):
            to = x[moving[left]] + t * np.clip(p[left], -1.0, 1.0)
            ft, gt = value(to, of[moving[left]])
            ok = ft >= f[moving[left]] + 1e-4 * t * np.minimum(gain[left], 1.0)
            at = left[ok]
            new_x[at], new_f[at], new_g[at] = to[ok], ft[ok], gt[ok]
            left = left[~ok]
            if not left.size:
                break
            t *= 0.4
        s, d = new_x - x[moving], g[moving] - new_g
        x[moving], f[moving], g[moving] = new_x, new_f, new_g
        sd = (s * d).sum(axis=1)
        ok = sd > 1e-12 * np.sqrt((s * s).sum(axis=1) * (d * d).sum(axis=1)) + 1e-300
        rows, s, d, sd = moving[ok], s[ok], d[ok], sd[ok][:, None, None]
        V = np.eye(n) - s[:, :, None] * d[:, None, :] / sd
        H[rows] = V @ H[rows] @ V.swapaxes(1, 2) + s[:, :, None] * s[:, None, :] / sd
        still = np.ones(moving.size, dtype=bool)
        still[left] = False
        H[moving[left]] = 0.01 * np.eye(n)
        moving = moving[still | (np.abs(p) > 1e-3).any(axis=1)]
    return f


def highest(struct, sets, rng, *, starts=20, restricted=True):
    """Return the highest likelihood of each set (B,) over so many random starts."""
    value, n = likelihoods(struct, sets, restricted=restricted)
    B = len(sets.y)
    of = np.repeat(np.arange(B), starts)
    x = np.exp(rng.uniform(np.log(0.01), np.log(0.6), (B * starts, n)))
    if struct in ("UN", "GEN"):
        x *= rng.choice([-1.0, 1.0], x.shape)
    elif struct not in ("ID", "DIAG"):
        x[:, -1] = rng.uniform(-1.5, 1.5, B * starts)
    return climb(value, x, of).reshape(B, starts).max(axis=1)
