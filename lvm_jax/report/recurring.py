"""Tables and figures of what recurs from run to run, where no truth is known."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lvm_jax.files.table import Row
from lvm_jax.recurrence import Consensus
from lvm_jax.report import style
from lvm_jax.report.intervals import Interval, mean_interval, share_interval
from lvm_jax.report.latents import as_pictures, draw_picture
from lvm_jax.report.summary import align
from lvm_jax.types import Level, level_name

_NUM_STRONGEST = 6  # variables that a table names
_WEAK = 0.2  # share of the strongest, below which it does not
_COLUMNS = 6  # latents in a row of a figure
_NUM_DRAWN = 24  # latents of a figure, at most
_LEVELS_OF_SHARE = (0.25, 0.5, 0.75)
_LEAST_DATA_SETS = 4  # for an interval over them

# A Consensus for each setting, by level.
ByLevel = Mapping[Level, Sequence[Consensus]]


def format_levels(
    found: ByLevel,
    recommended: Sequence[Any] | None,
    settings: Sequence[str],
    survivors: Mapping[Level, np.ndarray],
) -> str:
    """How many latents recur, by level and setting, and the level to take.

    Args:
      found: of `lvm_jax.consensus`.
      recommended: of `lvm_jax.recommend`; None where there is one level.
      settings: their names.
      survivors: for each level [setting, seed], latents that the filter leaves.
    """
    columns = [["level"], ["setting"], ["survivors of a run"], ["recurring"]]
    columns.append(["at the next levels too"])
    for place, setting in enumerate(settings):
        for level, of_settings in found.items():
            is_repeated = None
            if recommended is not None:
                is_repeated = recommended[place].is_repeated.get(level)
            cells = (
                level_name(level),
                setting,
                f"{survivors[level][place].mean():.1f}",
                str(len(of_settings[place].share)),
                "-" if is_repeated is None else str(is_repeated.sum()),
            )
            for column, cell in zip(columns, cells, strict=True):
                column.append(cell)
    if len(settings) == 1:
        del columns[1]
    return "\n".join([align(columns), *_advice(recommended, settings)])


def _advice(recommended: Sequence[Any] | None, settings: Sequence[str]) -> list[str]:
    lines = []
    for setting, of_setting in zip(settings, recommended or (), strict=False):
        prefix = f"{setting}: " if len(settings) > 1 else ""
        lines.append(
            f"{prefix}no latent recurs at a level and at the next ones"
            if of_setting.level is None
            else f"{prefix}recommended: {level_name(of_setting.level)}, the smallest "
            "level with the most latents that recur at the next ones too"
        )
        if of_setting.level is not None and of_setting.level == next(
            reversed(of_setting.is_repeated)
        ):
            lines.append(
                "no level between it and the largest: larger ones may have more"
            )
    return lines


def format_latents(
    consensus: Consensus, strength: np.ndarray, names: Sequence[str]
) -> str:
    """The latents of a consensus: share, numbers, the variables they are strongest on.

    Args:
      consensus: with parameters; those of one number are columns.
      strength: [C, D]. What latents have on variables; the larger in absolute value,
        the stronger.
      names: of the D variables.
    """
    columns = [["latent"], ["share of runs"]]
    numbers = {key: of for key, of in consensus.latents.items() if of.ndim == 1}
    columns += [[name] for name in numbers]
    columns.append(["strongest on"])
    for latent, row in enumerate(strength):
        share = Interval(
            *(of[latent] for of in (consensus.share, consensus.low, consensus.high))
        )
        cells = (
            str(latent + 1),
            share.format(2),
            *(f"{of[latent]:.3f}" for of in numbers.values()),
            ", ".join(f"{names[d]} {row[d]:.2f}" for d in strongest(row)),
        )
        for column, cell in zip(columns, cells, strict=True):
            column.append(cell)
    *others, last = columns
    width = max(map(len, last))
    text = align([*others, [cell.ljust(width) for cell in last]])
    return "\n".join(line.rstrip() for line in text.split("\n"))


def strongest(strength: np.ndarray, number: int = _NUM_STRONGEST) -> list[int]:
    """The variables that a latent is strongest on, strongest first; not the weak ones.

    Args:
      strength: [D].
      number: of them, at most.
    """
    size = np.abs(strength)
    order = np.argsort(-size, kind="stable")[:number]
    return [int(d) for d in order if size[d] >= _WEAK * size.max() > 0]


def latent_rows(
    found: ByLevel,
    recommended: Sequence[Any] | None,
    settings: Sequence[str],
    seeds: Sequence[int],
    names: Sequence[str],
) -> Iterator[Row]:
    """A row for each recurring latent, its parameters in columns.

    Args:
      found: of `lvm_jax.consensus`.
      recommended: of `lvm_jax.recommend`; None where there is one level.
      settings: their names.
      seeds: of the runs.
      names: of the D variables, for parameters [C, D].
    """
    for place, setting in enumerate(settings):
        best = None if recommended is None else recommended[place]
        for level, of_settings in found.items():
            recurs = of_settings[place]
            is_repeated = None if best is None else best.is_repeated.get(level)
            for latent in range(len(recurs.share)):
                yield {
                    "level": level_name(level),
                    "setting": setting,
                    "is_recommended": best is not None and best.level == level,
                    "latent": latent + 1,
                    "share": float(recurs.share[latent]),
                    "low": float(recurs.low[latent]),
                    "high": float(recurs.high[latent]),
                    "is_repeated": ""
                    if is_repeated is None
                    else bool(is_repeated[latent]),
                    "seed": seeds[recurs.medoid[latent]],
                    **_parameters(recurs.latents, latent, names),
                }


def _parameters(
    latents: Mapping[str, np.ndarray], latent: int, names: Sequence[str]
) -> Row:
    numbers = {
        key: float(values[latent])
        for key, values in latents.items()
        if values.ndim == 1
    }
    of_variables = {
        f"{key} {name}": float(value)
        for key, values in latents.items()
        if values.ndim == 2
        for name, value in zip(names, values[latent], strict=True)
    }
    return {**numbers, **of_variables}


@style.styled({"axes.grid": False, "font.size": 7})
def plot_latents(
    consensus: Consensus,
    strength: np.ndarray,
    names: Sequence[str] | None,
    title: str = "",
    *,
    label: str,
) -> Figure:
    """Recurring latents, each with its share: as bars of named variables, or pictures.

    Args:
      consensus: of which the first 24 are drawn.
      strength: [C, D]. What latents have on variables.
      names: of the D variables; None for pictures, as high as they can be without being
        higher than wide.
      title: of the figure.
      label: what the strength is.
    """
    number = min(len(strength), _NUM_DRAWN)
    num_rows = -(-max(number, 1) // _COLUMNS)
    largest = float(np.abs(strength[:number]).max(initial=1e-30))
    figure = style.new_figure(7.0, (1.35 if names is None else 1.15) * num_rows + 0.5)
    grid = figure.subplots(num_rows, _COLUMNS, squeeze=False)
    for axes in grid.flat[number:]:
        axes.set_axis_off()
    for latent, axes in zip(range(number), grid.flat, strict=False):
        heading = f"{latent + 1}: {consensus.share[latent]:.0%} of runs"
        if names is None:
            low = -largest if strength.min() < 0 else 0
            picture = as_pictures(strength)[latent]
            draw_picture(axes, picture, heading, limits=(low, largest))
        else:
            _draw_bars(axes, strength[latent], names, largest)
            axes.set_title(heading, pad=2)
    rest = len(strength) - number
    more = f"; {rest} more are not drawn" if rest else ""
    figure.suptitle(style.wrap(f"{title}: {label}{more}", 7.0), fontsize=9)
    return figure


def _draw_bars(
    axes: Axes, strength: np.ndarray, names: Sequence[str], largest: float
) -> None:
    """Bars of the variables that a latent is strongest on, their names on them."""
    chosen = strongest(strength)
    places = range(len(chosen))
    axes.barh(places, [strength[d] for d in chosen], color="C0", alpha=0.35)
    low = -largest if strength.min() < 0 else 0
    for place, d in zip(places, chosen, strict=True):
        axes.text(low, place, f" {names[d]:.18}", va="center")
    axes.set(xlim=(low, largest), ylim=(_NUM_STRONGEST - 0.5, -0.5), yticks=[])
    axes.xaxis.set_major_locator(MaxNLocator(2))


@style.styled()
def plot_shares(found: ByLevel, place: int, num_runs: int, title: str = "") -> Figure:
    """The shares of recurring latents by level, most frequent first, with intervals.

    Args:
      found: of `lvm_jax.consensus`.
      place: of the setting.
      num_runs: of each level.
      title: of the figure.
    """
    most = max((len(of[place].share) for of in found.values()), default=0)
    figure = style.new_figure(3.6 + 0.14 * most, 3.0)
    axes = figure.subplots()
    for index, (level, of_settings) in enumerate(found.items()):
        recurs = of_settings[place]
        x = np.arange(1, len(recurs.share) + 1) + 0.12 * (index - (len(found) - 1) / 2)
        shares = map(Interval, recurs.share, recurs.low, recurs.high)
        style.draw_intervals(
            axes,
            x,
            [*shares],
            fmt="os^Dv"[index % 5],
            ms=4,
            lw=1,
            label=f"{level_name(level)}: {len(recurs.share)}",
        )
    axes.set(xlabel="recurring latent, by share", ylim=(0, 1.03))
    axes.set_ylabel(f"share of the other {num_runs - 1} runs")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlim(0.4, max(most, 1) + 0.6)
    axes.set_title(style.wrap(title, 3.6))
    style.add_legend(figure, *axes.get_legend_handles_labels(), "latents: recurring")
    return figure


@style.styled({"axes.grid": False})
def plot_agreement(
    agreement: Mapping[Level, np.ndarray], place: int, title: str = ""
) -> Figure:
    """The share of each run's latents that each other run has, a matrix for each level.

    Args:
      agreement: of `lvm_jax.agreement`, [setting, seed, seed] of each level.
      place: of the setting.
      title: of the figure.
    """
    width = 2.3 * len(agreement) + 0.8
    figure = style.new_figure(width, 2.9)
    grid = figure.subplots(1, len(agreement), squeeze=False)
    for axes, (level, of_settings) in zip(grid.flat, agreement.items(), strict=True):
        size = len(of_settings[place])
        image = axes.imshow(
            of_settings[place],
            cmap="viridis",
            vmin=0,
            vmax=1,
            extent=(0.5, size + 0.5, size + 0.5, 0.5),
        )
        axes.set(xlabel="run that has them", title=f"{level_name(level)} latents")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(4, integer=True, min_n_ticks=1))
    grid[0, 0].set_ylabel("run whose latents they are")
    figure.colorbar(image, ax=grid, label="share of its latents", fraction=0.04)
    figure.suptitle(style.wrap(title, width), fontsize=9)
    return figure


def format_calibration(calibration: Any) -> str:
    """What redrawn data say of latents that recur in a share of the other runs.

    Shares are means over redrawn data sets, with intervals where these are four or
    more.

    Args:
      calibration: of `lvm_jax.calibrate`.
    """
    num_sets = len(calibration.num_truths)
    columns = [["recur in"], ["latents"], ["true, %"], ["of truths recurred, %"]]
    for share in _LEVELS_OF_SHARE:
        cells = (
            f"{share:.0%} of the other runs",
            str((calibration.share >= share).sum()),
            _percent(calibration.precisions(share)),
            _percent(calibration.recalls(share)),
        )
        for column, cell in zip(columns, cells, strict=True):
            column.append(cell)
    precisions, recalls = calibration.precisions(0.5), calibration.recalls(0.5)
    if len(precisions):
        sentence = (
            f"if data came from these latents alone ({num_sets} redrawn): of latents "
            f"that recur in half of the other runs {_percent(precisions)} in 100 were "
            f"true, and of the truths {_percent(recalls)} in 100 recurred"
        )
    else:
        sentence = f"nothing recurred in half of the runs of {num_sets} redrawn data"
    note = "means over redrawn data sets; the choice of the level is not in them"
    return "\n".join([align(columns), sentence, note])


def _percent(shares: np.ndarray) -> str:
    """The mean of shares in percent, with its interval where they are enough."""
    if not len(shares):
        return "-"
    if len(shares) < _LEAST_DATA_SETS:
        return f"{100 * shares.mean():.0f}"
    return mean_interval(shares.tolist(), (0, 1)).format(0, 100)


@style.styled()
def plot_calibration(calibration: Any, title: str = "") -> Figure:
    """The share of true latents by the share of runs that have them, in redrawn data.

    Args:
      calibration: of `lvm_jax.calibrate`.
      title: of the figure.
    """
    edges = np.array([0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0])
    figure = style.new_figure(4.2, 3.2)
    axes = figure.subplots()
    share, is_true = calibration.share, calibration.truth >= 0
    for low, high in itertools.pairwise(edges):
        is_last = high == edges[-1]
        is_within = (share >= low) & ((share < high) | is_last)
        if not is_within.any():
            continue
        true = share_interval(int(is_true[is_within].sum()), int(is_within.sum()))
        center = share[is_within].mean()
        style.draw_intervals(axes, [center], [true], fmt="oC0", ms=5)
        axes.annotate(
            str(is_within.sum()),
            (center, true.estimate),
            (5, 5),
            textcoords="offset points",
        )
    axes.axvline(0.5, color="0.5", lw=0.8, ls="--")
    axes.set(xlim=(-0.05, 1.05), ylim=(-0.03, 1.08))
    axes.set_xlabel("share of runs that have the latent")
    axes.set_ylabel("share of such latents that are true")
    axes.set_title(style.wrap(f"{title}; numbers are of latents", 4.2))
    return figure
