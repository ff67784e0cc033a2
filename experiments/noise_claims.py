"""Does noise help? What the tables of estimators say, section 6 of the dynamics."""

import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from experiments.cli.levels import FULL, Truths, renamed
from experiments.cli.tables import Rows, Tables
from experiments.cli.verdicts import Block, Table, Verdict, at, direction
from experiments.noisy_or_claims import LOG_LIKELIHOOD
from lvm_jax import report
from lvm_jax.report import style
from lvm_jax.report.rows import group

_EIGHT = Truths(8)
_RECOVERED = _EIGHT.recovered
DATASETS = ("IMG", "UNIF", "CON8")
_LEVELS = (8, 16, 32)
_NUM_SEEDS = 32  # of each
_LOWER = ("rloo8", "local_expectation", "batch80")
_ADDED = ("noisy1", "noisy3")
_VARIANCE_OF = {"batch80": "nvil of 80"}  # where a table of variances has another name
_SHORT = {"local_expectation": "local exp."}
_MOMENT = 10  # epochs, after which the figure has variances
ESTIMATORS = ("nvil", *_ADDED, "batch80", "rloo2", "rloo4", "rloo8", _LOWER[1])


def noise(tables: Tables) -> Iterator[Block]:
    """Other estimators less NVIL, and the variance of each."""
    names = (*ESTIMATORS, "variances")
    yield from tables.lacking(
        f"{of}_{name}" for of, name in itertools.product(DATASETS, names)
    )
    yield from _of_estimators(
        {
            (dataset, name): rows
            for dataset, name in itertools.product(DATASETS, ESTIMATORS)
            if (rows := tables.rows(f"{dataset}_{name}"))
        }
    )
    yield from _variances(
        [row for dataset in DATASETS for row in tables.rows(f"{dataset}_variances")]
    )


def _of_estimators(tables: Mapping[tuple[str, str], Rows]) -> Iterator[Block]:
    if not tables:
        return
    levels = sorted({row["level"] for rows in tables.values() for row in rows})
    places = [
        (dataset, level, name)
        for dataset, level, name in itertools.product(DATASETS, levels, ESTIMATORS)
        if at(tables.get((dataset, name), ()), level=level)
    ]
    family = {
        (dataset, level, name): _RECOVERED.less(
            renamed(at(tables[dataset, name], level=level), name),
            at(tables[dataset, "nvil"], level=level),
        )
        for dataset, level, name in places
        if name != "nvil" and at(tables.get((dataset, "nvil"), ()), level=level)
    }
    found = report.adjust(family)
    headings = ["data", "latents", "estimator", "rate", "truths of 8"]
    headings += [FULL.title, LOG_LIKELIHOOD.title]
    headings += [f"less nvil (family of {len(family)})", ""]
    lines = []
    for dataset, level, name in places:
        rows = at(tables[dataset, name], level=level)
        difference = found.get((dataset, level, name))
        cells = [dataset, f"{level}", name, f"{rows[0]['rate']:g}"]
        shown = report.add_shares(rows, _EIGHT.number)
        cells += [column.shown(shown) for column in (_RECOVERED, FULL, LOG_LIKELIHOOD)]
        if difference:
            cells += [difference.format(2), direction(difference)]
        lines.append([*cells, "", ""][: len(headings)])
    yield Table(headings, lines)
    harms = {}
    for what, names in (("lower variance", _LOWER), ("added noise", _ADDED)):
        of_cells = {}
        for (dataset, level, name), own in found.items():
            if name in names:
                of_cells.setdefault((dataset, level), set()).add(direction(own))
        less, more = (
            sum(way in ways for ways in of_cells.values()) for way in ("less", "more")
        )
        harms[what] = less - more
        yield f"{what}: less at {less}, more at {more} of {len(of_cells)} cells"
    says = noise_verdict(*harms.values())
    asked = set(itertools.product(DATASETS, _LEVELS, _LOWER + _ADDED))
    whole = {
        key
        for key in found
        if len(at(tables[key[0], key[2]], level=key[1])) >= _NUM_SEEDS
    }
    if lacking := asked - whole:
        says = (
            f"not decided: {len(lacking)} of {len(asked)} comparisons are lacking, "
            f"by the others {says}"
        )
    yield Verdict("noise helps", {"": says})


def noise_verdict(lower: int, added: int) -> str:
    """What lower variance and added noise say of the claim that noise helps.

    Args:
      lower: cells that lower variance harms, less those that it helps.
      added: likewise, of added noise.
    """
    if lower < 0:
        return "refuted"
    return "holds" if lower > 0 and added <= 0 else "undecided"


def _variances(rows: Rows) -> Iterator[Block]:
    if not rows:
        return
    yield "Variance of q's gradient by the squared length of its mean, with its range:"
    moments = sorted({row["epoch"] for row in rows})
    lines = []
    for (dataset, name), own in group(rows, "dataset", "estimator").items():
        values = [
            [row["relative_variance"] for row in at(own, epoch=moment)]
            for moment in moments
        ]
        lines.append([dataset, name, *(_range(of) if of else "-" for of in values)])
    yield Table(["data", "estimator", *(f"{n} epochs" for n in moments)], lines)


def _range(values: Sequence[float]) -> str:
    """The median of values, the least and the largest."""
    middle, low, high = np.median(values), min(values), max(values)
    return f"{middle:.3g} [{low:.3g}, {high:.3g}]"


def _by_variance(rows: Rows) -> dict[str, float]:
    """Estimators with the relative variance of their gradients, the least first."""
    found = {}
    for name in ESTIMATORS:
        own = at(rows, epoch=_MOMENT, estimator=_VARIANCE_OF.get(name, name))
        if own:
            found[name] = float(np.median([row["relative_variance"] for row in own]))
    return dict(sorted(found.items(), key=lambda item: item[1]))


@style.styled({"font.size": 8})
def plot_noise(tables: Tables) -> Figure:
    """Truths recovered by estimator, from the least variance to the most, and level."""
    figure = style.new_figure(7.6, 2.9)
    panels = figure.subplots(1, len(DATASETS), sharey=True)
    for axes, dataset in zip(panels, DATASETS, strict=True):
        variances = _by_variance(tables.rows(f"{dataset}_variances"))
        learned = {name: tables.rows(f"{dataset}_{name}") for name in variances}
        for index, level in enumerate(_LEVELS):
            known = [
                (place, _RECOVERED.mean(own))
                for place, name in enumerate(variances)
                if (own := at(learned[name], level=level))
            ]
            if not known:
                continue
            places, intervals = zip(*known, strict=True)
            style.draw_intervals(
                axes,
                np.array(places) + 0.15 * (index - 1),
                intervals,
                fmt=f"{style.MARKERS[index]}-",
                color=style.COLORS[index],
                ms=4,
                lw=1,
                label=f"{level} latents",
            )
        names = [
            f"{_SHORT.get(name, name)}, {of:.0f}" for name, of in variances.items()
        ]
        axes.set_xticks(range(len(names)), names, rotation=90)
        axes.set_title(dataset)
    panels[0].set(ylabel="truths recovered of 8", ylim=(0, 8.2))
    label = f"estimator, relative variance after {_MOMENT} epochs; 95% intervals"
    panels[1].set_xlabel(label)
    style.add_legend(figure, *panels[0].get_legend_handles_labels())
    return figure
