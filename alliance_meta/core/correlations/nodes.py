"""2F1(1/2, 1/2; n - 1/2; x) of the density of r as a short sum, for programs that differentiate it.

Euler's integral is the mean of (1 - x t)^(-1/2) over a Beta(1/2, n - 1) distribution of t; Gauss's rule for that
distribution turns it into a sum over few nodes that depend on n alone. With ten of them the relative error is below
2e-11 from n = 10 on, whatever x in (0, 1), and below 1e-7 from n = 4 on for x up to .95; a power series needs
hundreds of terms there.
"""

from __future__ import annotations

import numpy as np

from alliance_meta._typing import Array

NODES = 10


def hypergeometric_nodes(n: Array, *, nodes: int = NODES) -> tuple[Array, Array]:
    """Return nodes t and weights w, (k, nodes): 2F1(1/2, 1/2; n - 1/2; x) = sum of w / sqrt(1 - x t)."""
    j = np.arange(1.0, nodes + 1.0)
    a, b = 0.5, np.asarray(n, dtype=float)[:, None] - 1.0
    # Canonical moments of the Beta distribution: no difference is taken, so that nothing cancels for large n.
    canonical = np.empty((b.shape[0], 2 * nodes))
    canonical[:, 0::2] = (a + j - 1.0) / (a + b + 2.0 * j - 2.0)
    canonical[:, 1::2] = j / (a + b + 2.0 * j - 1.0)
    zeta = canonical.copy()
    zeta[:, 1:] *= 1.0 - canonical[:, :-1]
    diagonal = zeta[:, 0::2].copy()
    diagonal[:, 1:] += zeta[:, 1:-1:2]
    i = np.arange(nodes)
    jacobi = np.zeros((b.shape[0], nodes, nodes))
    jacobi[:, i, i] = diagonal
    jacobi[:, i[1:], i[:-1]] = np.sqrt(zeta[:, 0:-2:2] * zeta[:, 1:-1:2])
    t, vectors = np.linalg.eigh(jacobi)
    return t, vectors[:, 0, :] ** 2
