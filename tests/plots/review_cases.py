"""Cases of the plots of a whole review, for the tests of all charts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from alliance_meta.effects import read_flow
from alliance_meta.effects.sheet.coded import CodedTable, Provenance
from alliance_meta.plots import evidence_map_data, prisma_data, rob_data
from tests.plots.cases import LONG, NAMES, fitted
from tests.unit.test_flow import GAD, WHOLE

WORDS = np.array(["low", "moderate", "high", "unclear", None], dtype=object)
DOMAINS = ("participation", "attrition", "outcome_measurement", "statistical analysis and reporting", "overall")


def judged(k: int) -> pd.DataFrame:
    """Make a sheet of `k` studies with the domains of QUIPS; a label is long, and every fifth cell is empty."""
    rng = np.random.default_rng(k)
    labels = [LONG if i == 2 else f"{NAMES[i % len(NAMES)]} ({1980 + i})" for i in range(k)]
    letters = {f"rob_{name}": rng.choice(WORDS, k, p=[0.4, 0.2, 0.15, 0.05, 0.2]) for name in DOMAINS}
    return pd.DataFrame({"study": labels, **letters})


def coded(k: int) -> pd.DataFrame:
    """Make a sheet of `k` effects, two of each study, by measure, time, rater and outcome."""
    rng = np.random.default_rng(k)
    return pd.DataFrame(
        {
            "study": [f"Study {i // 2}" for i in range(k)],
            "alliance_measure": rng.choice(["WAI", "WAI-S", "HAq"], k, p=[0.6, 0.3, 0.1]),
            "alliance_time": rng.choice(np.array(["late", "early", "mid", None], dtype=object), k),
            "alliance_rater": rng.choice(["client", "therapist"], k, p=[0.8, 0.2]),
            "outcome_type": rng.choice(["symptom", "functioning"], k),
        }
    )


def teaching(frame: pd.DataFrame) -> CodedTable:
    return CodedTable(frame, Provenance("made up.csv", synthetic=True, cautions=("Made up. " * 20,)))


def flow(numbers: Any, **more: Any) -> Any:
    return read_flow({**numbers, **more})


def review_charts() -> dict[str, Callable[[], pd.DataFrame]]:
    """Return the frames by name."""
    four: Any = {"rows": ["measure", "outcome_type"], "columns": ["time", "rater"]}
    long = {LONG: 40, "Longer" * 12: 20, "No therapy": 7}
    return {
        "prisma": lambda: prisma_data(flow({"new_studies": 1})),
        "prisma of everything": lambda: prisma_data(flow(WHOLE)),
        "prisma of databases": lambda: prisma_data(flow(GAD)),
        "prisma of long reasons": lambda: prisma_data(flow(WHOLE, dbr_excluded=long)),
        "rob": lambda: rob_data(judged(5)),
        "rob of one": lambda: rob_data(judged(1)),
        "rob of 30": lambda: rob_data(judged(30)),
        "rob as bars": lambda: rob_data(judged(30), kind="bar"),
        "rob of a fit as bars": lambda: rob_data(fitted(12), kind="bar", domains=["bias"]),
        "rob, synthetic": lambda: rob_data(teaching(judged(2)), show_cautions=True),
        "evidence_map": lambda: evidence_map_data(coded(30)),
        "evidence_map of one": lambda: evidence_map_data(coded(1), **four),
        "evidence_map of four columns": lambda: evidence_map_data(coded(300), **four),
        "evidence_map of a fit": lambda: evidence_map_data(
            fitted(60, mods="rater*modality"), rows="modality", columns="rater"
        ),
        "evidence_map, synthetic": lambda: evidence_map_data(teaching(coded(5)), show_cautions=True),
    }
