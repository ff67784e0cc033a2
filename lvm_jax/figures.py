"""Figures from saved results; nothing here trains, samples or knows a model.

Functions take rows as `lvm_jax.results` reads them, summaries of `lvm_jax.report`, or
arrays.
"""

import pathlib
from collections.abc import Sequence

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

from lvm_jax.report import LevelSummary, group_by_level, is_bound, mean_interval
from lvm_jax.results import Row
from lvm_jax.types import Recovery

_STYLE = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.constrained_layout.use": True,
    "font.size": 9,
    "grid.alpha": 0.3,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "savefig.dpi": 200,
}


def _save(figure: plt.Figure, path: pathlib.Path) -> None:
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path)
    plt.close(figure)


def _error_bars(axes, positions, intervals, **style):
    estimates = np.array([interval.estimate for interval in intervals])
    spread = np.abs(np.array([interval[1:] for interval in intervals]).T - estimates)
    axes.errorbar(positions, estimates, spread, capsize=3, **style)


def _plot_by_level(
    summaries: Sequence[LevelSummary],
    fields: dict[str, str],
    path: pathlib.Path,
    **axes_settings,
) -> None:
    """Two intervals of each level, side by side: their fields and labels."""
    styles = ({"marker": "o", "color": "C0"}, {"marker": "s", "color": "C1"})
    with plt.rc_context(_STYLE):
        figure, axes = plt.subplots(figsize=(3.6, 2.7))
        positions = np.arange(len(summaries))
        for shift, (name, label), style in zip(
            (-0.06, 0.06), fields.items(), styles, strict=True
        ):
            intervals = [getattr(row, name) for row in summaries]
            _error_bars(axes, positions + shift, intervals, label=label, **style)
        axes.set_xticks(positions, [row.level for row in summaries])
        axes.set(xlabel="latent variables learned", **axes_settings)
        axes.legend(loc="best")
        _save(figure, path)


def plot_full_recovery(
    summaries: Sequence[LevelSummary], path: pathlib.Path, title: str
) -> None:
    """Share of runs that recover everything by level, before and after the filter."""
    fields = {
        "full": "all latents",
        "exact_after_filter": "filtered, exactly the truth",
    }
    _plot_by_level(
        summaries,
        fields,
        path,
        ylabel="share of runs",
        ylim=(-0.02, 1.02),
        title=title,
    )


def plot_recovered(
    summaries: Sequence[LevelSummary], num_truths: int, path: pathlib.Path, title: str
) -> None:
    """Mean number of truths recovered by level, before and after the filter."""
    fields = {"recovered": "all latents", "recovered_after_filter": "filtered"}
    _plot_by_level(
        summaries,
        fields,
        path,
        ylabel=f"truths recovered, of {num_truths}",
        ylim=(-0.02 * num_truths, 1.02 * num_truths),
        title=title,
    )


def plot_measure(
    kept: Sequence[Row],
    measure: str,
    path: pathlib.Path,
    *,
    label: str,
    title: str,
    truth: float | None = None,
) -> None:
    """A measure by level: every run as a dot, the mean with its interval.

    Args:
      kept: a row for each run. A level whose `<measure>_is_bound` is true is drawn
        with an open marker, as a lower bound.
      measure: the column.
      path: of the picture.
      label: of the axis, with units.
      title: of the picture.
      truth: the measure of the true model, drawn as a line.
    """
    levels = group_by_level([row for row in kept if not row["diverged"]])
    bounds = {level for level, rows in levels.items() if is_bound(rows, measure)}
    with plt.rc_context(_STYLE):
        figure, axes = plt.subplots(figsize=(3.6, 2.7))
        for position, (level, rows) in enumerate(levels.items()):
            values = [row[measure] for row in rows]
            spread = np.linspace(-0.16, 0.16, len(values)) if len(values) > 1 else [0]
            axes.plot(position + np.array(spread), values, ".", color="0.7", ms=3)
            face = "white" if level in bounds else "C0"
            _error_bars(
                axes,
                [position],
                [mean_interval(values)],
                marker="o",
                color="C0",
                mfc=face,
                zorder=3,
            )
        if truth is not None:
            axes.axhline(truth, color="C3", lw=1, ls="--", label="true model")
        if bounds:
            axes.plot([], [], "o", color="C0", mfc="white", label="lower bound")
        axes.set_xticks(range(len(levels)), list(levels))
        axes.set(xlabel="latent variables learned", ylabel=label, title=title)
        if truth is not None or bounds:
            axes.legend(loc="best")
        _save(figure, path)


def _plot_by_epoch(axes, history: Sequence[Row], measure: str) -> None:
    """A line and a band of 95% intervals for each level."""
    for level, rows in group_by_level(history).items():
        epochs = sorted({row["epoch"] for row in rows})
        values = {epoch: [] for epoch in epochs}
        for row in rows:
            values[row["epoch"]].append(row[measure])
        intervals = np.array([mean_interval(values[epoch]) for epoch in epochs])
        (line,) = axes.plot(epochs, intervals[:, 0], label=level)
        axes.fill_between(
            epochs, *intervals[:, 1:].T, alpha=0.2, lw=0, color=line.get_color()
        )


def plot_recovered_by_epoch(
    history: Sequence[Row], num_truths: int, path: pathlib.Path, title: str
) -> None:
    """Mean number of truths recovered over epochs, a line and a band per level."""
    with plt.rc_context(_STYLE):
        figure, axes = plt.subplots(figsize=(3.6, 2.7))
        _plot_by_epoch(axes, history, "num_recovered")
        axes.axhline(num_truths, color="0.4", lw=0.8, ls="--")
        axes.set(
            xlabel="epoch",
            ylabel=f"truths recovered, of {num_truths}",
            ylim=(0, num_truths * 1.04),
            title=title,
        )
        axes.legend(title="latents", loc="best")
        _save(figure, path)


def plot_measure_by_epoch(
    history: Sequence[Row],
    measure: str,
    path: pathlib.Path,
    *,
    label: str,
    title: str,
) -> None:
    """Mean of a measure over epochs, a line and a band per level.

    Args:
      history: a row for each run and epoch.
      measure: the column.
      path: of the picture.
      label: of the axis, with units.
      title: of the picture.
    """
    with plt.rc_context(_STYLE):
        figure, axes = plt.subplots(figsize=(3.6, 2.7))
        good = [row for row in history if not row["diverged"]]
        _plot_by_epoch(axes, good, measure)
        axes.set(xlabel="epoch", ylabel=label, title=title)
        axes.legend(title="level", loc="best")
        _save(figure, path)


def _draw_tree(axes, words, spans, shared, title) -> None:
    """A tree over its words; spans that the other tree lacks are red."""
    heights = {}
    for first, last, _ in sorted(spans, key=lambda span: span[1] - span[0]):
        inner = [
            height
            for (start, stop), height in heights.items()
            if first <= start and stop <= last
        ]
        heights[first, last] = 1 + max(inner, default=0)
    for first, last, symbol in spans:
        height = heights[first, last]
        color = "black" if (first, last) in shared else "C3"
        axes.plot([first, last], [height, height], color=color, lw=1.2)
        for end in (first, last):
            axes.plot([end, end], [height - 0.35, height], color=color, lw=1.2)
        axes.text(
            (first + last) / 2, height + 0.08, str(symbol), ha="center", color=color
        )
    for place, word in enumerate(words):
        axes.text(place, 0.1, word, rotation=60, ha="right", va="top")
    axes.set(xlim=(-0.7, len(words) - 0.3), ylim=(-0.2, max(heights.values()) + 0.8))
    axes.set_axis_off()
    axes.set_title(title, fontsize=8)


def plot_trees(
    sentences: Sequence[Sequence[str]],
    true: Sequence[np.ndarray],
    learned: Sequence[np.ndarray],
    path: pathlib.Path,
    title: str,
) -> None:
    """True and learned trees of a few sentences, side by side.

    Spans carry the number of their symbol; those that only one of the two trees has
    are red.

    Args:
      sentences: the words of each.
      true: spans [n, 3] of each true tree: first word, last word, symbol.
      learned: the same of the learned trees.
      path: of the picture.
      title: of the picture.
    """
    with plt.rc_context({**_STYLE, "axes.grid": False, "font.size": 7}):
        figure, grid = plt.subplots(
            len(sentences), 2, figsize=(7.0, 1.9 * len(sentences)), squeeze=False
        )
        for row, (words, *trees) in zip(
            grid, zip(sentences, true, learned, strict=True), strict=True
        ):
            ends = [{(first, last) for first, last, _ in tree} for tree in trees]
            for axes, tree, name in zip(row, trees, ("true", "learned"), strict=True):
                _draw_tree(axes, words, tree.tolist(), ends[0] & ends[1], name)
        figure.suptitle(title, fontsize=9)
        _save(figure, path)


def _status(recovery: Recovery, latent: int) -> str:
    if recovery.discarded[latent]:
        return "discarded"
    return "duplicate" if recovery.duplicate[latent] else "unmatched"


def plot_pictures(
    truths: np.ndarray,
    latents: np.ndarray,
    recovery: Recovery,
    path: pathlib.Path,
    title: str,
) -> None:
    """True and learned latents as pictures.

    Each truth stands beside the latent that recovers it; the latents that recover
    nothing follow, each with what the filter says of it.

    Args:
      truths: [T, height, width], from 0 to 1.
      latents: [K, height, width], from 0 to 1.
      recovery: the match of the two.
      path: of the picture.
      title: of the picture.
    """
    matched = np.asarray(recovery.matched)
    rest = sorted(
        set(range(len(latents))) - set(matched.tolist()),
        key=lambda latent: (_status(recovery, latent), latent),
    )
    pairs = [
        (truth, f"truth {index + 1}", None if latent < 0 else latents[latent])
        for index, (truth, latent) in enumerate(zip(truths, matched, strict=True))
    ]
    per_row = 4
    num_pair_rows = -(-len(pairs) // per_row)
    num_rest_rows = -(-len(rest) // (2 * per_row))
    num_rows = num_pair_rows + num_rest_rows
    with plt.rc_context({**_STYLE, "axes.grid": False, "font.size": 7}):
        figure, grid = plt.subplots(
            num_rows,
            2 * per_row,
            figsize=(6.4, 0.92 * num_rows + 0.35),
            squeeze=False,
        )
        for axes in grid.flat:
            axes.set_axis_off()
        for index, (truth, name, learned) in enumerate(pairs):
            row, column = divmod(index, per_row)
            _draw(grid[row, 2 * column], truth, name)
            if learned is None:
                grid[row, 2 * column + 1].text(
                    0.5,
                    0.5,
                    "not\nrecovered",
                    ha="center",
                    va="center",
                    color="C3",
                    transform=grid[row, 2 * column + 1].transAxes,
                )
            else:
                _draw(grid[row, 2 * column + 1], learned, "learned")
        for index, latent in enumerate(rest):
            row, column = divmod(index, 2 * per_row)
            axes = grid[num_pair_rows + row, column]
            _draw(axes, latents[latent], _status(recovery, latent), color="0.45")
        figure.suptitle(title, fontsize=9)
        _save(figure, path)


def plot_similarity(
    similarity: np.ndarray,
    recovery: Recovery,
    path: pathlib.Path,
    title: str,
    *,
    label: str,
) -> None:
    """The similarity of every true and learned latent as a matrix.

    The latents that recover a truth come first, in the order of the truths; the
    others follow, by what the filter says of them.

    Args:
      similarity: [T, K], from -1 to 1.
      recovery: the match of the two.
      path: of the picture.
      title: of the picture.
      label: what the similarity is.
    """
    num_truths, num_latents = similarity.shape
    matched = [
        latent for latent in np.asarray(recovery.matched).tolist() if latent >= 0
    ]
    groups = {"matched": matched}
    for latent in sorted(set(range(num_latents)) - set(matched)):
        groups.setdefault(_status(recovery, latent), []).append(latent)
    order = [latent for group in groups.values() for latent in group]
    with plt.rc_context({**_STYLE, "axes.grid": False}):
        width = 1.6 + 3.2 * num_latents / num_truths
        figure, axes = plt.subplots(figsize=(min(width, 10.0), 3.2))
        image = axes.imshow(
            similarity[:, order], cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto"
        )
        ends = np.cumsum([len(group) for group in groups.values()])
        for end in ends[:-1]:
            axes.axvline(end - 0.5, color="black", lw=0.8)
        places = [
            (end - (len(group) + 1) / 2, f"{len(group)} {status}")
            for end, (status, group) in zip(ends, groups.items(), strict=True)
            if group
        ]
        axes.set_xticks(*zip(*places, strict=True), rotation=15)
        axes.set(xlabel="latent variables learned", ylabel="truth", title=title)
        figure.colorbar(image, label=label)
        _save(figure, path)


def _draw(axes, picture, name, color="black"):
    axes.set_axis_on()
    axes.imshow(picture, cmap="Greys", vmin=0, vmax=1, interpolation="nearest")
    axes.set_title(name, color=color, pad=2)
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(visible=True, linewidth=0.5, color=color)
