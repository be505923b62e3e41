"""Make the SYNTHETIC coding sheet `synthetic_alliance`, and bring its data card's hash up to date.

Every number is drawn from the model below with a fixed seed; none comes from a study. Run it from anywhere:
``python data/synthetic/make_synthetic.py``. The same seed gives the same bytes on every machine.
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from random import Random
from statistics import NormalDist

SEED = 20110301
FOLDER = Path(__file__).resolve().parent / "synthetic_alliance"
HEADER = "study,year,n,r,rater,setting"
RATERS = 12 * ["client"] + 7 * ["therapist"] + 5 * ["observer"]
MEAN_Z = {"client": 0.30, "therapist": 0.18, "observer": 0.27}
INPATIENT_Z = -0.06
TAU = 0.10


def make_sheet(seed: int = SEED) -> str:
    """Return the sheet as text: one row per made-up study, with r = tanh(z) and z ~ N(mean, tau2 + 1/(n - 3)).

    Normal deviates are made from uniform ones by the quantile function, because Python promises the same
    uniform numbers for the same seed in every version.
    """
    random = Random(seed)
    deviate = NormalDist().inv_cdf
    rows = [HEADER]
    for number, rater in enumerate(RATERS, start=1):
        setting = "inpatient" if random.random() < 0.3 else "outpatient"
        year = 1985 + int(36 * random.random())
        n = round(20 * math.exp(1.6 * random.random()))
        mean = MEAN_Z[rater] + (INPATIENT_Z if setting == "inpatient" else 0.0)
        sd = math.sqrt(TAU**2 + 1 / (n - 3))
        r = math.tanh(mean + sd * deviate(random.random()))
        rows.append(f"Synthetic study {number:02d},{year},{n},{r:.2f},{rater},{setting}")
    return "\n".join(rows) + "\n"


def main() -> None:
    """Write the sheet and its size and hash in the data card."""
    data = make_sheet().encode("utf-8")
    (FOLDER / "synthetic_alliance.csv").write_bytes(data)
    card = FOLDER / "datapackage.json"
    package = json.loads(card.read_text(encoding="utf-8"))
    package["resources"][0] |= {"bytes": len(data), "hash": f"sha256:{hashlib.sha256(data).hexdigest()}"}
    card.write_text(json.dumps(package, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
