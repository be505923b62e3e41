"""Run the analyses a report declares."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alliance_meta.errors import AllianceMetaWarning, InputError
from alliance_meta.reporting.checks import as_che
from alliance_meta.reporting.fitted import Fitted
from alliance_meta.reporting.kinds import KINDS
from alliance_meta.reporting.spec import REPRODUCE, Analysis, Declaration

if TYPE_CHECKING:
    from alliance_meta.effects.sheet.coded import CodedTable

DEPENDENT = "dependent"
COLUMNS = ("ri", "ni", "yi", "vi", "sei", "measure")


def run_analysis(spec: Analysis, *, folder: Path) -> Fitted:
    """Load, code and fit one analysis; warnings are silenced here because the report prints their notes.

    Raises
    ------
    InputError
        Whatever the data or the model object to, with the analysis named in front.
    """
    from alliance_meta.effects.datasets import load_dataset
    from alliance_meta.effects.sheet.ingest import read_coded
    from alliance_meta.effects.sizes import escalc

    try:
        with warnings.catch_warnings(action="ignore", category=AllianceMetaWarning):
            place = located(spec.data, folder=folder)
            named: dict[str, Any] = {key: getattr(spec, key) for key in COLUMNS if key in spec.said}
            whole = load_dataset(place) if isinstance(place, str) else read_coded(place, **named)
            _check_poolable(spec, whole)
            table = whole.query(spec.subset) if spec.subset else whole
            if isinstance(place, Path):
                named = {"measure": spec.measure} if "measure" in spec.said else {}
            coded = escalc(table, vtype=spec.vtype, **named)
            if coded.k > coded.n_studies:
                spec = as_che(spec) or spec
            kind = KINDS[spec.kind]
            fit = kind.run(spec, coded)
    except InputError as error:
        raise InputError(f"[[analysis]] ({spec.id}): {error}") from error
    return kind(spec, whole, table, coded, fit)


def _check_poolable(spec: Analysis, table: CodedTable) -> None:
    """Refuse to pool what its data card says must not be pooled."""
    card = table.card
    if card is None:
        return
    if not card.poolable:
        raise InputError(f"{card.name} must not be pooled: {' '.join(card.cautions)}")
    if card.subset and spec.subset is None:
        raise InputError(f"only a part of {card.name} may be pooled; add subset = {card.subset!r}")
    if card.kind == DEPENDENT and not KINDS[spec.kind].depends(spec):
        raise InputError(
            f"{card.name} holds several effects of the same people, which this analysis would take as independent; "
            "add aggregate = 'mean' or robust = 'CR2', or take kind = 'multilevel' or 'rve'"
        )


def inputs(declaration: Declaration) -> Iterator[str]:
    """Yield the files that a report reads, as seen from its declaration: sheets and what describes them."""
    from alliance_meta.effects.contract.description import PACKAGE

    items = (item for section in declaration.section for item in section.item)
    of_items = (name for item in items if item.table == REPRODUCE for name in item.of)
    for name in (*(spec.data for spec in declaration.analysis), *of_items):
        if isinstance(located(name, folder=declaration.path.parent), Path):
            yield name
            yield str(Path(name).with_name(PACKAGE))


def located(data: str, *, folder: Path) -> str | Path:
    """Return the name of a shipped data set, or the path of that file in `folder`."""
    from alliance_meta.effects.datasets import list_datasets

    return data if data in set(list_datasets()["name"]) else folder / data
