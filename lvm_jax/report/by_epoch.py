"""Figures of sweeps by epoch, with a panel for each setting."""

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lvm_jax.report import style
from lvm_jax.report.intervals import Limits, mean_intervals
from lvm_jax.report.pool import Pooled
from lvm_jax.report.rows import is_counted
from lvm_jax.report.summary import over
from lvm_jax.types import level_name


def plot_recovered_by_epoch(
    results: Any, num_truths: int, *, title: str | None = None
) -> Figure:
    """Mean number of truths recovered over epochs, as `plot_by_epoch` draws it.

    Args:
      results: of training, with a truth.
      num_truths: how many true latents there are.
      title: of the figure; the results' name, if None.

    Raises:
      ValueError: if the history has no recovery.
    """
    label = f"mean truths recovered, of {num_truths}"
    return plot_by_epoch(
        results, "num_recovered", label=label, title=title, num_truths=num_truths
    )


@style.styled()
def plot_by_epoch(
    results: Any,
    column: str,
    *,
    label: str,
    title: str | None = None,
    limits: Limits | None = None,
    num_truths: int | None = None,
    ylim: tuple[float, float] | None = None,
) -> Figure:
    """A column of the history over epochs: a line and a band of intervals per level.

    Bands are of `mean_intervals`, 95% at each epoch, not of the whole line. Several
    settings, the first eight, have a panel each.

    Args:
      results: of training: epochs [E], history {column: [level, setting, seed, E]},
        of which "diverged" is bool, plan (its levels and settings) and name. What
        diverged is left out of a measure; of a count it is zero.
      column: of the history.
      label: of the axis, with units.
      title: of the figure; the results' name, if None.
      limits: the least and the largest value possible, if there are such; none and
        all truths, if these are given.
      num_truths: of a count of truths: all of them, drawn as a line.
      ylim: of the axis; from none to all truths, if None and these are given.

    Raises:
      ValueError: if the history has no such column, or values leave their limits.
    """
    if column not in results.history:
        columns = ", ".join(results.history)
        raise ValueError(f"expected a column of {columns}, got {column}")
    if num_truths is not None:
        limits = (0, num_truths) if limits is None else limits
        ylim = (0, 1.04 * num_truths) if ylim is None else ylim
    settings = list(results.plan.settings)
    levels = [level_name(level) for level in results.plan.levels]
    title = results.name if title is None else title
    figure, panels = _epoch_panels(settings, levels, title)
    for place, axes in enumerate(panels):
        handles = _draw_bands(axes, results, column, place, limits)
        if num_truths is not None:
            axes.axhline(num_truths, color="0.4", lw=0.8, ls="--")
            axes.yaxis.get_major_locator().set_params(integer=True)
        axes.set(ylim=ylim)
    num_samples = len(results.parts) if isinstance(results, Pooled) else None
    xlabel = f"epoch\nat each, 95% interval over {over([num_samples])}"
    if len(panels) > 1:
        figure.supxlabel(xlabel, fontsize=9)
        figure.supylabel(label, fontsize=9)
        style.add_legend(figure, handles, levels, "latents")
    else:
        panels[0].set(xlabel=xlabel, ylabel=label)
        panels[0].legend(handles, levels, title="latents", loc="best")
    return figure


def _epoch_panels(
    settings: Sequence[str], levels: Sequence[str], title: str
) -> tuple[Figure, list[Axes]]:
    """A figure with a panel for each setting that is shown, in at most two rows."""
    number = min(len(settings), style.MAX_SETTINGS)
    if number == 1:
        figure = style.new_figure(3.6, style.HEIGHT)
        axes = figure.subplots()
        axes.set_title(style.wrap(title, 3.6))
        return figure, [axes]
    num_rows = 1 if number <= 4 else 2
    num_columns = -(-number // num_rows)
    margin, height = style.legend_size(levels)
    width = 0.4 + 1.9 * num_columns + margin
    figure = style.new_figure(width, max(0.6 + 1.7 * num_rows, height))
    grid = figure.subplots(
        num_rows, num_columns, sharex=True, sharey=True, squeeze=False
    )
    for axes in grid.flat[number:]:
        axes.set_axis_off()
    for place, (setting, axes) in enumerate(zip(settings, grid.flat, strict=False)):
        axes.set_title(style.wrap(setting, 2.2), fontsize=9)
        if place + num_columns >= number:
            axes.tick_params(labelbottom=True)
    if number < len(settings):
        title = f"{title}: {number} of {len(settings)} settings"
    figure.suptitle(style.wrap(title, width))
    return figure, list(grid.flat[:number])


def _draw_bands(
    axes: Axes, results: Any, column: str, setting: int, limits: Limits | None
) -> list[Line2D]:
    """A line and a band of 95% intervals for each level, of the setting at a place."""
    values = np.asarray(results.history[column])[:, setting]
    diverged = np.asarray(results.history["diverged"], bool)[:, setting]
    counted = is_counted(column, diverged)
    num_levels, _, num_epochs = values.shape
    lines = []
    for level, color in enumerate(_level_colors(num_levels)):
        intervals = mean_intervals(values[level], counted[level], limits)
        mean, low, high = style.drawable(intervals)
        marker = "o" if num_epochs == 1 else None
        lines += axes.plot(results.epochs, mean, color=color, marker=marker)
        axes.fill_between(results.epochs, low, high, alpha=0.2, lw=0, color=color)
    return lines


def _level_colors(number: int) -> list[Any]:
    """The usual ones, or as many of an ordered map as there are levels."""
    if number <= 10:
        return [f"C{index}" for index in range(number)]
    return list(matplotlib.colormaps["viridis"](np.linspace(0, 0.9, number)))
