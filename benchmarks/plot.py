"""The figures as a picture: what a handshake takes, and what a peer that says nothing holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.contenders import FLOOR
from benchmarks.figures import Figure, Measure, Notebook
from benchmarks.report import TITLES, number
from benchmarks.sections.handshakes import CPU
from benchmarks.sections.memory import BYTES, PLAIN
from benchmarks.workshop import Unavailable

PANELS: tuple[Measure, ...] = (CPU, BYTES[PLAIN])

OURS, FLOORS, OTHERS = "#1f6f8b", "#b8b8b8", "#8fb9c9"


def draw(notebook: Notebook, caption: str, file: Path) -> None:
    """
    Draw what was measured of :data:`PANELS`; bars are medians, whiskers the spread.

    Args:
        notebook: What was measured.
        caption: Where and when.
        file: What to write; the suffix says how.

    Raises:
        Unavailable: If none of it was measured.
    """
    import matplotlib

    matplotlib.use("Agg")
    # Words stay words, and the same figures make the same file.
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "sockproto"})
    from matplotlib import pyplot

    panels = [(what, list(notebook.figures(what).values())) for what in PANELS]
    panels = [(what, figures) for what, figures in panels if figures]
    if not panels:
        raise Unavailable("nothing to plot: no handshakes and no memory were measured")
    rows = max(len(figures) for _, figures in panels)
    picture, axes = pyplot.subplots(
        1, len(panels), figsize=(6.2 * len(panels), 1.4 + 0.34 * rows), squeeze=False
    )
    for (what, figures), place in zip(panels, axes[0], strict=True):
        _panel(place, what, sorted(figures, key=lambda each: each.median, reverse=True))
    picture.text(0.01, 0.01, caption, fontsize=8, color="#555555")
    picture.tight_layout(rect=(0, 0.05, 1, 1))
    picture.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)
    pyplot.close(picture)


def _panel(place: Any, what: Measure, figures: list[Figure]) -> None:
    medians = [each.median for each in figures]
    whiskers = [
        [each.median - each.spread[0] for each in figures],
        [each.spread[1] - each.median for each in figures],
    ]
    names = [TITLES[each.contender] for each in figures]
    colours = [_colour(each.contender) for each in figures]
    place.barh(names, medians, xerr=whiskers, color=colours, ecolor="#333333", capsize=2)
    reach = max(each.spread[1] for each in figures) or 1
    for row, each in enumerate(figures):
        place.text(
            each.spread[1] + reach * 0.015, row, number(each.median), va="center", fontsize=9
        )
    place.set_xlim(0, reach * 1.15)
    place.set_title(str(what), loc="left", fontsize=11)
    place.spines[["top", "right"]].set_visible(False)


def _colour(contender: str) -> str:
    if contender == FLOOR:
        return FLOORS
    return OURS if contender.startswith("sockproto") else OTHERS
