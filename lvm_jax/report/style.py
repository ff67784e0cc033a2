"""How figures look, and how they are written."""

import contextlib
import functools
import pathlib
import textwrap
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lvm_jax.files import atomic
from lvm_jax.files.figure import METADATA
from lvm_jax.report.intervals import Interval

_STYLE = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 9,
    "grid.alpha": 0.3,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "text.parse_math": False,  # names and words may have a $ in them
    "text.usetex": False,
}
HEIGHT = 2.7  # inches, of a figure of one row of panels
# C3 is the truth's and C7, a grey, that of runs.
COLORS = ("C0", "C1", "C2", "C4", "C5", "C6", "C8", "C9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
MAX_SETTINGS = len(COLORS)  # as many as can be told apart
_LARGEST = 1e300  # that axes can be laid out for
_DPI = 200
_CHARACTERS_PER_INCH = 11  # of a title
_LEGEND_CHARACTERS = 30  # in a line of a legend


def styled(
    changes: Mapping[str, Any] | None = None,
) -> Callable[[Callable[..., Figure]], Callable[..., Figure]]:
    """A decorator of functions that draw figures, within which these have our style.

    Figures come with their layout done, so that they look the same wherever and as
    often as they are saved. `figure.set_layout_engine("constrained")` makes room for
    what is added to one.

    Args:
      changes: settings of matplotlib, over those of the style.
    """

    def decorate(draw):
        @functools.wraps(draw)
        def drawn(*args, **kwargs):
            settings = {**_STYLE, **(changes or {})}
            with matplotlib.rc_context(settings), _any_characters():
                figure = draw(*args, **kwargs)
                for axes in figure.axes:  # ticks are laid out when they are drawn
                    axes.tick_params(labelsize=matplotlib.rcParams["font.size"])
                figure.draw_without_rendering()
                figure.set_layout_engine("none")
                return figure

        return drawn

    return decorate


@contextlib.contextmanager
def _any_characters() -> Iterator[None]:
    """Draws a box for a character that the font lacks, and does not warn of it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from", UserWarning)
        yield


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, of inches, whose parts make room for one another."""
    return Figure(figsize=(width, height), dpi=_DPI, layout="constrained")


def drawable(values: Any) -> np.ndarray:
    """The values, nan where they are too large for an axis."""
    values = np.asarray(values, float)
    return np.where(np.abs(values) < _LARGEST, values, np.nan)


def draw_intervals(
    axes: Axes, positions: Sequence[float], intervals: Sequence[Interval], **line: Any
) -> Any:
    """Estimates with their intervals as error bars; what a legend shows of them.

    Args:
      axes: to draw on.
      positions: of the intervals on the horizontal axis.
      intervals: one at each position.
      **line: of matplotlib's `errorbar`.
    """
    estimates, low, high = drawable(intervals).reshape(-1, 3).T
    spread = np.abs([low - estimates, high - estimates])
    return axes.errorbar(positions, estimates, spread, **line)


def wrap(title: str, width: float) -> str:
    """A title in as many lines as a width in inches needs."""
    return textwrap.fill(title, max(int(width * _CHARACTERS_PER_INCH), 8))


def _legend_lines(labels: Sequence[str]) -> list[str]:
    return [textwrap.fill(label, _LEGEND_CHARACTERS) for label in labels]


def legend_size(labels: Sequence[str]) -> tuple[float, float]:
    """Width and height in inches of a legend beside the panels."""
    lines = "\n".join(_legend_lines(labels)).split("\n")
    return 0.65 + 0.07 * max(map(len, lines)), 0.6 + 0.17 * len(lines)


def add_legend(
    figure: Figure, handles: Sequence[Any], labels: Sequence[str], title: str = ""
) -> None:
    """A legend to the right of all panels."""
    lines = _legend_lines(labels)
    figure.legend(handles, lines, title=title or None, loc="outside right upper")


def save(figure: Figure, path: pathlib.Path | str) -> None:
    """Writes a figure as a PNG, whole or not at all.

    The same figure makes the same file, byte for byte.

    Args:
      figure: what a function of this package returns, or any other.
      path: of the picture; its folder is made if need be.

    Raises:
      OSError: if the file cannot be written.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"format": "png", "dpi": _DPI, "metadata": METADATA}
    with _any_characters():
        atomic.replace(path, lambda file: figure.savefig(file, **options))
