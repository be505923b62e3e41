"""A number that does not exist, with the reason why."""

from __future__ import annotations

from typing import Any


class NotApplicable(float):
    """A float NaN that knows why it is one.

    Arithmetic and arrays treat it as NaN; printing and JSON show the reason.

    Examples
    --------
    >>> from alliance_meta.not_applicable import NotApplicable
    >>> x = NotApplicable("needs at least 2 studies")
    >>> x
    NotApplicable('needs at least 2 studies')
    >>> x != x
    True
    """

    reason: str

    def __new__(cls, reason: str) -> NotApplicable:
        """Make the NaN of this reason."""
        self = super().__new__(cls, "nan")
        self.reason = reason
        return self

    def __repr__(self) -> str:
        return f"NotApplicable({self.reason!r})"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return f"n/a ({self.reason})"

    def __reduce__(self) -> tuple[Any, ...]:
        return (NotApplicable, (self.reason,))
