"""A pen for an axes whose unit is the inch, y counted downwards: text, rules, shapes, the synthetic label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from alliance_meta.plots.forests.layout import AIRY, GAP, MARGIN
from alliance_meta.plots.sheet.text import CAP_HEIGHT, POINTS_PER_INCH, drawable, font_of, line_height, text_width

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK = "#1a1a1a"
SQUARE = "#3f6c9e"
SUMMARY = "#14304f"
SUBGROUP = "#a9c3de"
FITTED = "#d5d5d5"
PREDICTION = "#6f8fb3"
GREY = "#8c8c8c"
FAINT = "#c9c9c9"
BAND = "#eef1e6"
WARNING = "#9b1c1c"
CI_POINTS = 0.9
RULE_POINTS = 0.8

SYNTHETIC = "SYNTHETIC DATA"
SYNTHETIC_REST = "made up for teaching; not evidence"


def set_inches(ax: Axes, width: float, height: float) -> None:
    """Make the inch the unit of `ax`, y counted downwards from its top."""
    ax.set_axis_off()
    ax.set_autoscale_on(False)
    ax.set_xlim(0, width)
    ax.set_ylim(height, 0)


def size_in_inches(ax: Axes) -> tuple[float, float]:
    """Return width and height of `ax`."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    box = ax.get_window_extent()
    return box.width / figure.dpi, box.height / figure.dpi


class Pen:
    """Writes and draws; filled shapes and interval lines are kept by colour until `flush`."""

    def __init__(self, ax: Axes, size: float) -> None:
        self.ax, self.size = ax, size
        self.lines: dict[str, list[Any]] = {}
        self.shapes: dict[tuple[str, str], list[Any]] = {}

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        align: str = "left",
        bold: bool = False,
        size: float | None = None,
        colour: str = INK,
    ) -> None:
        """Write one line of text whose capitals are centred on `y`."""
        points = self.size if size is None else size
        text = drawable(text)
        self.ax.text(
            x, y + CAP_HEIGHT * points / POINTS_PER_INCH / 2, text,
            ha=align, va="baseline", color=colour, fontproperties=font_of(text, points, bold),
            parse_math=False, clip_on=False, zorder=5,
        )  # fmt: skip

    def rule(self, x0: float, x1: float, y0: float, y1: float, *, colour: str = INK, points: float = RULE_POINTS,
             style: Any = "solid", zorder: float = 2.0) -> None:  # fmt: skip
        """Draw one straight line."""
        from matplotlib.lines import Line2D

        self.ax.add_line(
            Line2D([x0, x1], [y0, y1], color=colour, linewidth=points, linestyle=style,
                   solid_capstyle="butt", dash_capstyle="butt", zorder=zorder, clip_on=False, marker="None")
        )  # fmt: skip

    def polygon(self, points: Sequence[tuple[float, float]], fill: str, edge: str = "none") -> None:
        """Keep a filled shape for `flush`."""
        self.shapes.setdefault((fill, edge), []).append(points)

    def line(self, x0: float, x1: float, y: float, colour: str = INK) -> None:
        """Keep an interval line for `flush`."""
        self.lines.setdefault(colour, []).append([(x0, y), (x1, y)])

    def flush(self) -> None:
        """Add the kept marks: shapes first, interval lines above them."""
        from matplotlib.collections import LineCollection, PolyCollection

        for (fill, edge), shapes in self.shapes.items():
            if not shapes:
                continue
            self.ax.add_collection(
                PolyCollection(shapes, facecolors=fill, edgecolors=edge, linewidths=0.7, zorder=3,
                               clip_on=False, joinstyle="miter"),
                autolim=False,
            )  # fmt: skip
        for colour, lines in self.lines.items():
            self.ax.add_collection(
                LineCollection(lines, colors=colour, linewidths=CI_POINTS, capstyle="butt", zorder=4,
                               clip_on=False),
                autolim=False,
            )  # fmt: skip

    def banner(self, y: float) -> None:
        """Draw the label that synthetic data must carry."""
        from matplotlib.patches import Rectangle

        width = text_width(SYNTHETIC, AIRY.size, bold=True)
        half = 0.62 * line_height(AIRY.size)
        self.ax.add_patch(
            Rectangle((MARGIN, y - half), width + GAP, 2 * half, facecolor="none", edgecolor=WARNING,
                      linewidth=1.0, zorder=2, clip_on=False)
        )  # fmt: skip
        self.text(MARGIN + GAP / 2, y, SYNTHETIC, bold=True, size=AIRY.size, colour=WARNING)
        self.text(MARGIN + width + 2 * GAP, y, SYNTHETIC_REST, size=AIRY.size - 1, colour=WARNING)
