"""The course of learning: what its tables say, sections 1 to 3a and 5."""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.cli.levels import Truths, levels_of
from experiments.cli.tables import Rows
from experiments.cli.verdicts import (
    Block,
    Table,
    Verdict,
    above,
    at,
    final,
    together,
)
from experiments.course import kaplan_meier, undecided_share
from lvm_jax import report
from lvm_jax.dynamics import LIMITS, STATES
from lvm_jax.report import Interval, style
from lvm_jax.report.latents import STATE_COLORS

_EIGHT = Truths(8)
_NUM_RUNS = 64  # of each level
_EARLY = (0.1111, 0.2222, 0.3333)
_ALONG = (1, 10, 30, 100, 200)
_PRACTICAL_RANK = 0.4
_COLORS = dict(zip(STATES, STATE_COLORS, strict=True))
_MARKERS = dict(zip(STATES, ("", "s", "o", "^"), strict=True))


def moments(rows: Rows) -> Iterator[Block]:
    """States of latents early and all along, of moments.csv."""
    lines, early_says, along_says = [], {}, {}
    decisive = LIMITS[0]
    for limit, level in itertools.product(LIMITS, levels_of(rows)):
        own = at(rows, level=level, limit=limit)
        early = [undecided_share(at(own, epoch=epoch)) for epoch in _EARLY]
        num_runs = len({row["run"] for row in own})
        along = [_contending(at(own, epoch=epoch)) for epoch in _ALONG]
        lines.append(
            [f"{limit:g}", str(level)]
            + [
                share.format(2) + (f" of {number} runs" if number < num_runs else "")
                for share, number in early
            ]
            + [share.format(0, 100) for share in along]
        )
        if limit != decisive:
            continue
        for says, shares in (
            (early_says, [share for share, _ in early]),
            (along_says, along),
        ):
            of_all = together(above(share, 0.5) for share in shares)
            says[f"{level}"] = final(of_all, num_runs >= _NUM_RUNS)
    yield Table(
        ["limit", "latents", *(f"undecided at {n}/9" for n in (1, 2, 3))]
        + [f"runs with contention at {epoch}, %" for epoch in _ALONG],
        lines,
    )
    yield Verdict(f"undecided early, limit {decisive:g}", early_says)
    yield Verdict(f"contending all along, limit {decisive:g}", along_says)


def _contending(rows: Rows) -> Interval:
    return report.share_interval(sum(row["contending"] > 0 for row in rows), len(rows))


def starts(rows: Rows, settled: Rows) -> Iterator[Block]:
    """Ranks by distance of the latents that recover a truth, of starts.csv.

    How many runs these are of is in settled.csv.
    """
    adjusted = report.holm([row["p_value"] for row in rows])
    lines, says = [], {}
    for row, p_value in zip(rows, adjusted, strict=True):
        rank = Interval(row["rank"], row["low"], row["high"])
        if row["epoch"] == 0:
            is_below = p_value < 0.05 and rank.estimate < 0.5
            is_large = rank.estimate < _PRACTICAL_RANK
            verdict = "refuted" if is_below else "not refuted"
            verdict += ", of practical size" if is_below and is_large else ""
            runs = {of["run"] for of in at(settled, level=row["level"])}
            says[f"{row['level']}"] = final(verdict, len(runs) >= _NUM_RUNS)
        text = "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"
        cells = [f"{row['level']}", _moment(row["epoch"]), f"{row['num_truths']}"]
        cells += [f"{rank.format(3)}, {text}"]
        cells += [f"{100 * row['nearest']:.0f} ({100 / row['level']:.0f})"]
        lines.append(cells)
    headings = ["latents", "epochs", "truths", "rank (one half by chance)"]
    headings += ["nearest of all, % (by chance)"]
    yield Table(headings, lines)
    yield Verdict("no latent is near its truth at the start", says)


def _moment(epoch: float) -> str:
    return "1/9" if 0 < epoch < 1 else f"{epoch:g}"


def settled(rows: Rows, contentions: Rows) -> Iterator[Block]:
    """When truths are settled, of settled.csv, and who is left, of contentions.csv."""
    lines = []
    for level in levels_of(rows):
        own = at(rows, level=level)
        epochs, shares = kaplan_meier(own)
        by = [shares[epochs <= epoch][-1:].sum() for epoch in (1, 3, 10, 30, 100)]
        cells = [f"{level}", *(f"{100 * share:.0f}" for share in by)]
        for is_late in (False, True):
            some = at(contentions, level=level, is_late=is_late)
            ended, begun = (
                sum(row[name] for row in some) for name in ("ended", "contentions")
            )
            cells.append(f"{ended} of {begun}")
            for won, of in (("nearer_left", "ended"), ("first_left", "known_first")):
                shares_of_runs = [row[won] / row[of] for row in some if row[of]]
                cells.append(_mean_share(shares_of_runs))
        lines.append(cells)
    yield Table(
        ["latents", *(f"settled by {n}, %" for n in (1, 3, 10, 30, 100))]
        + [
            f"{what}, begun {when}"
            for when in ("by epoch 10", "later")
            for what in ("contentions with one left", "the nearer", "the first")
        ],
        lines,
    )


def _mean_share(shares: Sequence[float]) -> str:
    """Over runs, and of how many."""
    if not shares:
        return "-"
    return f"{report.mean_interval(shares, (0, 1)).format(2)}, {len(shares)} runs"


def contenders(rows: Rows) -> Iterator[Block]:
    """What those that contend have of a truth, of contenders.csv."""
    yield "Truths that latents contend for, in all runs; their contenders:"
    headings = ["latents", "epochs", "truths", "all parts", "all copies", "both"]
    yield Table(
        headings,
        [
            [str(row["level"]), _moment(row["epoch"])]
            + [str(row[name]) for name in ("truths", "parts", "copies", "both")]
            for row in rows
            if row["epoch"] in _ALONG
        ],
    )


def _over_epochs(axes: Axes) -> None:
    """A logarithmic axis from the first records of an epoch to the last epoch."""
    axes.set(xscale="log", xlim=(0.02, 250))
    axes.set_xticks([0.1, 1, 10, 100], ["0.1", "1", "10", "100"])
    axes.minorticks_off()


@style.styled()
def plot_states(rows: Rows, limit: float) -> Figure:
    """How many latents in use are in each state by epoch, a panel for each level.

    Args:
      rows: of states.csv.
      limit: within which a latent has come to a truth.
    """
    figure, levels = style.new_figure(8.4, 2.4), levels_of(rows)
    panels = figure.subplots(1, len(levels), sharey=True, squeeze=False)[0]
    for axes, level in zip(panels, levels, strict=True):
        for state in (state for state in STATES if state != "empty"):
            own = at(rows, level=level, limit=limit, state=state)
            epochs, means, low, high = (
                np.array([row[name] for row in own])
                for name in ("epoch", "mean", "low", "high")
            )
            axes.plot(
                epochs,
                means,
                color=_COLORS[state],
                marker=_MARKERS[state],
                markevery=8,
                ms=3.5,
                label=state,
            )
            axes.fill_between(
                epochs, low, high, means > 0, color=_COLORS[state], alpha=0.25, lw=0
            )
        _over_epochs(axes)
        axes.set(title=f"{level} latents", ylim=(0, 16.3))
    panels[0].set_ylabel("latents in use")
    label = "epochs; means and 95% intervals over runs, the other latents are empty"
    figure.supxlabel(label, fontsize=9)
    style.add_legend(figure, *panels[0].get_legend_handles_labels())
    return figure


@style.styled()
def plot_settled(settled: Rows, agreement: Rows) -> Figure:
    """Truths settled by epoch; assignments as at several ends, beside the ELBO.

    Args:
      settled: rows of settled.csv.
      agreement: rows of agreement.csv.
    """
    figure = style.new_figure(8.4, 2.9)
    left, middle, right = figure.subplots(1, 3)
    for index, level in enumerate(levels_of(settled)):
        epochs, shares = kaplan_meier(at(settled, level=level))
        epochs = np.maximum(epochs, 1 / 45)
        marker = {"marker": "os^D"[index], "markevery": 0.15, "ms": 3.5}
        left.step(epochs, shares, where="post", label=f"{level}", **marker)
        own = at(agreement, level=level, end=200)
        right.plot(
            [row["epoch"] for row in own],
            [row["held_out_elbo"] for row in own],
            **marker,
        )
    for end, line in zip((10, 50, 200), (":", "--", "-"), strict=True):
        for level, color in ((8, "C0"), (16, "C1")):
            own = at(agreement, level=level, end=end)
            epochs = [row["epoch"] for row in own]
            middle.plot(epochs, [row["mean"] for row in own], line, color=color)
            middle.annotate(
                f"{end}", (end, _EIGHT.number), fontsize=7, ha="center", va="bottom"
            )
    for axes in (left, middle, right):
        _over_epochs(axes)
        axes.set_xlabel("epochs")
    left.set(ylabel="share of truths settled for good", ylim=(0, 1))
    middle.set(ylabel="assignments as at the end, of 8", ylim=(0, 8.8))
    middle.set_title("end: epoch 10 (dotted), 50, 200 (solid)", fontsize=8)
    right.set(ylabel="held-out ELBO, nats", ylim=(-20, -12))
    style.add_legend(figure, *left.get_legend_handles_labels(), "latents")
    return figure
