"""Figures of sweeps by level, with a series for each setting."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lvm_jax.report import style
from lvm_jax.report.intervals import Interval, Limits
from lvm_jax.report.rows import Row, group, is_bound, num_samples, values_of
from lvm_jax.report.summary import Summary, interval, over

_FULL_FIELDS = {
    "full": "all latents",
    "exact_after_filter": "filtered, exactly the truth",
}
_RECOVERED_FIELDS = {"recovered": "all latents", "recovered_after_filter": "filtered"}


def plot_full_recovery(summaries: Sequence[Summary], title: str = "") -> Figure:
    """Share of runs that recover everything by level, before and after the filter.

    Several settings, the first eight, are series of a panel for each of the two.

    Args:
      summaries: of `summarise`, with a truth.
      title: of the figure.

    Raises:
      ValueError: if there are no summaries, or no recovery in them.
    """
    return _plot_recovery(
        summaries, _FULL_FIELDS, title, ylabel="share of runs", ylim=(-0.04, 1.04)
    )


def plot_recovered(
    summaries: Sequence[Summary], num_truths: int, title: str = ""
) -> Figure:
    """Mean number of truths recovered by level, before and after the filter.

    Several settings, the first eight, are series of a panel for each of the two.

    Args:
      summaries: of `summarise`, with a truth.
      num_truths: how many true latents there are.
      title: of the figure.

    Raises:
      ValueError: if there are no summaries, or no recovery in them.
    """
    return _plot_recovery(
        summaries,
        _RECOVERED_FIELDS,
        title,
        ylabel=f"mean truths recovered, of {num_truths}",
        ylim=(-0.04 * num_truths, 1.04 * num_truths),
    )


@style.styled()
def plot_data_sets(
    summaries: Mapping[str, Sequence[Summary]], num_truths: int
) -> Figure:
    """Recovery by level on several data sets: a column of two panels for each.

    Above the mean number of truths recovered, below the share of runs that recover
    everything; before and after the filter.

    Args:
      summaries: of `summarise`, with a truth and one setting, by data set.
      num_truths: how many true latents there are, in all of them.

    Raises:
      ValueError: if there are no summaries, or no recovery in them.
    """
    if not all(summaries.values()) or not summaries:
        raise ValueError("expected summaries of every data set, got none")
    levels = {name: [row.level for row in of] for name, of in summaries.items()}
    width = max(1.55, *(_panel_width(names, 2) for names in levels.values()))
    # A legend beside them takes as much as two of many panels.
    width = max(width * len(summaries) + 0.5, len(summaries) + 2.9)
    figure = style.new_figure(width, 2 * style.HEIGHT - 0.9)
    grid = figure.subplots(2, len(summaries), sharex="col", sharey="row", squeeze=False)
    rows = (
        (_RECOVERED_FIELDS, f"truths recovered, of {num_truths}", num_truths),
        (_FULL_FIELDS, "share of runs with all", 1),
    )
    for of_row, (fields, label, most) in zip(grid, rows, strict=True):
        for axes, (name, some) in zip(of_row, summaries.items(), strict=True):
            (series,) = _recovery_panels(some, fields, [some[0].setting]).values()
            handles = _draw_series(axes, series, levels[name])
            axes.set(ylim=(-0.04 * most, 1.04 * most))
        of_row[0].set_ylabel(label)
        beside = {"loc": "center left", "bbox_to_anchor": (1.02, 0.5)}
        of_row[-1].legend(handles, list(fields.values()), **beside)
    for axes, name in zip(grid[0], summaries, strict=True):
        axes.set_title(name)
    numbers = [row.num_samples for some in summaries.values() for row in some]
    figure.supxlabel(_levels_label(numbers), fontsize=9)
    return figure


@style.styled()
def _plot_recovery(
    summaries: Sequence[Summary],
    fields: Mapping[str, str],
    title: str,
    *,
    ylabel: str,
    ylim: tuple[float, float],
) -> Figure:
    """Intervals by level: both fields of one setting, or a panel for each of them."""
    if not summaries or any(row.recovered is None for row in summaries):
        raise ValueError("expected summaries of recovery, got none")
    levels = list(dict.fromkeys(row.level for row in summaries))
    settings = list(dict.fromkeys(row.setting for row in summaries))
    panels = _recovery_panels(summaries, fields, settings[: style.MAX_SETTINGS])
    num_series = max(map(len, panels.values()))
    figure, grid = _recovery_figure(levels, settings, len(panels), num_series)
    for axes, (name, series) in zip(grid, panels.items(), strict=True):
        handles = _draw_series(axes, series, levels)
        axes.set(ylabel=ylabel, ylim=ylim)
        axes.set_title(name, fontsize=9)
        axes.label_outer()
    title = style.wrap(title, figure.get_figwidth())
    if len(panels) > 1:
        _add_settings_legend(figure, handles, settings)
        figure.suptitle(title)
    else:
        axes.set_title(title)
        axes.legend(handles, list(series), loc="best")
    xlabel = _levels_label([row.num_samples for row in summaries])
    figure.supxlabel(xlabel, fontsize=9)
    return figure


def _levels_label(numbers: Sequence[int | None]) -> str:
    """The axis of levels, and what intervals at each are over (`over`)."""
    return f"latent variables learned\n95% intervals over {over(numbers)}"


def _recovery_figure(
    levels: Sequence[str], settings: Sequence[str], num_panels: int, num_series: int
) -> tuple[Figure, list[Axes]]:
    """Panels side by side if their width allows it, else below one another."""
    width = _panel_width(levels, num_series)
    if num_panels == 1:
        figure = style.new_figure(max(width, 3.6), style.HEIGHT)
        return figure, [figure.subplots()]
    margin, height = style.legend_size(settings[: style.MAX_SETTINGS])
    if width <= 3.0:
        shape, size = (1, num_panels), (num_panels * max(width, 2.6), style.HEIGHT)
    else:
        shape, size = (num_panels, 1), (width, 0.5 + 2.1 * num_panels)
    figure = style.new_figure(size[0] + margin, max(size[1], height))
    return figure, list(figure.subplots(*shape, sharex=True, sharey=True).flat)


def _recovery_panels(
    summaries: Sequence[Summary], fields: Mapping[str, str], settings: Sequence[str]
) -> dict[str, dict[str, dict[str, Interval]]]:
    """Intervals by panel, series and level."""

    def by_level(name, setting):
        return {
            row.level: getattr(row, name) for row in summaries if row.setting == setting
        }

    if len(settings) == 1:
        only = settings[0]
        return {"": {label: by_level(name, only) for name, label in fields.items()}}
    return {
        label: {setting: by_level(name, setting) for setting in settings}
        for name, label in fields.items()
    }


def _panel_width(levels: Sequence[str], num_series: int) -> float:
    """Inches, at most 9, in which levels' names and series have room side by side."""
    longest = max(map(len, levels))
    return min(9.0, 0.7 + len(levels) * max(0.11 * num_series, 0.1 + 0.08 * longest))


def _step(num_series: int, widest: float) -> float:
    """How far the series of a level are apart, at most `widest`; levels are 1 apart."""
    return min(widest, 0.8 / num_series)


def _shifts(num_series: int, step: float) -> np.ndarray:
    return step * (np.arange(num_series) - (num_series - 1) / 2)


def _draw_series(
    axes: Axes, series: Mapping[str, Mapping[str, Interval]], levels: Sequence[str]
) -> list[Any]:
    """A line with error bars for each series, side by side.

    Args:
      axes: to draw on.
      series: intervals by series and level.
      levels: names of all levels.

    Returns:
      What a legend shows of each series.
    """
    shifts = _shifts(len(series), _step(len(series), 0.12))
    handles = [
        style.draw_intervals(
            axes,
            [levels.index(level) + shift for level in intervals],
            list(intervals.values()),
            color=color,
            marker=marker,
            **_marks(len(series)),
        )
        for intervals, shift, color, marker in zip(
            series.values(), shifts, style.COLORS, style.MARKERS, strict=False
        )
    ]
    axes.set_xticks(range(len(levels)), levels)
    return handles


def _marks(num_series: int) -> dict[str, float]:
    """Sizes of markers and caps, smaller where there are many."""
    return {"ms": 6, "capsize": 3} if num_series < 3 else {"ms": 4.5, "capsize": 2}


def _add_settings_legend(
    figure: Figure,
    handles: Sequence[Any],
    settings: Sequence[str],
    references: Sequence[Line2D] = (),
) -> None:
    """A legend of the settings that are shown, and of references, on the right."""
    shown = settings[: style.MAX_SETTINGS]
    is_all = len(shown) == len(settings)
    title = "" if is_all else f"{len(shown)} of {len(settings)} settings"
    labels = [*shown, *(line.get_label() for line in references)]
    style.add_legend(figure, [*handles, *references], labels, title)


@style.styled()
def plot_measure(
    rows: Sequence[Row],
    measure: str,
    *,
    label: str,
    title: str = "",
    limits: Limits | None = None,
    truth: float | None = None,
) -> Figure:
    """A measure by level: every run as a dot, the mean with its interval.

    Several settings, the first eight, stand side by side at each level.

    Args:
      rows: one for each run; what diverged counts as in `summarise`. A level whose
        `<measure>_is_bound` is true is drawn with an open marker, as a lower bound.
      measure: the column.
      label: of the axis, with units.
      title: of the figure.
      limits: the least and the largest value possible, if there are such.
      truth: the measure of the true model, drawn as a line.

    Raises:
      ValueError: if there are no rows, they lack the column, or values leave their
        limits.
    """
    if not rows:
        raise ValueError("expected rows, at least one, got none")
    levels = [level for (level,) in group(rows, "level")]
    settings = [setting for (setting,) in group(rows, "setting")]
    shown = settings[: style.MAX_SETTINGS]
    margin, height = (0, 0) if len(settings) < 2 else style.legend_size(shown)
    width = max(3.6, _panel_width(levels, len(shown))) + margin
    figure = style.new_figure(width, max(style.HEIGHT, height + 0.4))
    axes = figure.subplots()
    handles = _draw_runs(axes, rows, measure, levels, shown, limits)
    color = "C0" if len(settings) == 1 else "0.3"
    bound = color if is_bound(rows, measure) else None
    references = _draw_references(axes, truth, bound)
    if len(settings) > 1:
        _add_settings_legend(figure, handles, settings, references)
    elif references:
        axes.legend(handles=references, loc="best")
    number = num_samples(rows)
    xlabel = _levels_label([number if number > 1 else None])
    axes.set(xlabel=xlabel, ylabel=label, title=style.wrap(title, width))
    return figure


def _draw_runs(
    axes: Axes,
    rows: Sequence[Row],
    measure: str,
    levels: Sequence[str],
    settings: Sequence[str],
    limits: Limits | None,
) -> list[Any]:
    """Runs as dots and their means with intervals, settings side by side.

    Returns:
      What a legend shows of each setting.
    """
    is_one = len(settings) == 1
    step = _step(len(settings), 0.24)
    half = 0.16 if is_one else 0.35 * step
    groups = group(rows, "level", "setting")
    is_clustered = num_samples(rows) > 1
    handles = []
    for setting, shift, color, marker in zip(
        settings,
        _shifts(len(settings), step),
        style.COLORS,
        style.MARKERS,
        strict=False,
    ):
        dots = {"color": "0.7"} if is_one else {"color": color, "alpha": 0.35}
        mean = {"color": color, "marker": marker, **_marks(len(settings))}
        for index, level in enumerate(levels):
            of_group = groups.get((level, setting), [])
            values = values_of(of_group, measure)
            place = index + shift
            places = place + _spread(len(values), half)
            axes.plot(places, style.drawable(values), ".", ms=3, **dots)
            mean["mfc"] = "white" if is_bound(of_group, measure) else color
            drawn = interval(of_group, measure, limits, is_clustered)
            style.draw_intervals(axes, [place], [drawn], zorder=3, **mean)
        handles.append(Line2D([], [], ls="", color=color, marker=marker))
    axes.set_xticks(range(len(levels)), levels)
    return handles


def _spread(number: int, half: float) -> np.ndarray:
    """Places of points around zero, a single one at zero."""
    return np.linspace(-half, half, number) if number > 1 else np.zeros(number)


def _draw_references(
    axes: Axes, truth: float | None, bound: str | None
) -> list[Line2D]:
    """The line of the truth, and what a legend shows of it and of bounds.

    Args:
      axes: to draw on.
      truth: where the line is, if any.
      bound: the legend's colour of a bound, if there are any.
    """
    handles = []
    if truth is not None:
        line = axes.axhline(
            style.drawable(truth).item(), color="C3", lw=1, ls="--", label="true model"
        )
        handles.append(line)
    if bound is not None:
        marker = {"marker": "o", "mfc": "white", "color": bound}
        handles.append(Line2D([], [], ls="", label="lower bound", **marker))
    return handles
