"""When surplus latents matter: what the tables say, sections 3b and 4."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from experiments.cli.levels import (
    Truths,
    mean_objective,
    renamed,
    undecided_of,
)
from experiments.cli.tables import Rows, Tables
from experiments.cli.verdicts import Block, Table, Verdict, alike, at, final
from lvm_jax import report
from lvm_jax.report import Comparison, Interval, style

_RECOVERED = Truths(8).recovered
TIMES = (1, 3, 10, 30, 100)
DATASETS = ("IMG", "CON8")
_ALIKE = 0.5  # truths, of a difference that makes none
_NUM_RUNS = 64  # of each cell of surplus latents
_Differences = dict[tuple[int, str], Comparison]  # by time and level, "8" or "16"
_Ways = Mapping[tuple[int, str], str]  # what these are, in a word


def _alike(difference: Comparison) -> str:
    return alike(difference, _ALIKE)


def nearest_of_many(late: Rows, nearest: Rows) -> Iterator[Block]:
    """Eight latents started as the nearest of 64, less levels as they are."""
    family = {
        level: _RECOVERED.less(renamed(nearest, "nearest"), at(late, level=level))
        for level in (8, 16, 64)
    }
    decided = report.adjust(family)
    lines = [["nearest 8 of 64", _RECOVERED.shown(nearest), "", ""]]
    for level, difference in decided.items():
        cells = [f"{level}", _RECOVERED.shown(at(late, level=level))]
        lines.append([*cells, difference.format(2), _alike(difference)])
    yield Table(["latents", "truths of 8", "nearest less these", ""], lines)
    says = {"less": "holds", "alike": "refuted", "more": "refuted"}
    says = says.get(_alike(decided[16]), "undecided")
    is_whole = min(map(len, (nearest, at(late, level=16)))) >= _NUM_RUNS
    yield Verdict("no warm start", {"": final(says, is_whole)})


def _by_time(tables: Tables, name: str) -> dict[int, Rows]:
    """Rows of a table by the time of the change, those times that are there."""
    rows = tables.rows(name)
    return {time: found for time in TIMES if (found := at(rows, at=time))}


def _as_of(rows: Rows, others: Rows) -> list[dict[str, Any]]:
    """Rows that are paired by seed with others of their level."""
    return [{**row, "level": others[0]["level"]} for row in rows]


def _pruned(known: Mapping[int, Rows], few: Rows, many: Rows) -> _Differences:
    """Of every time, less 16 throughout."""
    del few  # Of no interest.
    return {
        (time, "16"): _RECOVERED.less(_as_of(rows, many), many)
        for time, rows in known.items()
    }


def _grown(known: Mapping[int, Rows], few: Rows, many: Rows) -> _Differences:
    """Of every time, less both levels."""
    return {
        (time, level): _RECOVERED.less(renamed(rows, "grown"), others)
        for time, rows in known.items()
        for level, others in (("8", few), ("16", many))
    }


def _renewed(known: Mapping[int, Rows], few: Rows, many: Rows) -> _Differences:
    """Of the time with the highest objective, less both levels."""
    best = max(known, key=lambda time: mean_objective(known[time]))
    return {
        (best, "8"): _RECOVERED.less(known[best], few),
        (best, "16"): _RECOVERED.less(renamed(known[best], "renewed"), many),
    }


def _how_long(ways: _Ways) -> str:
    """Up to when surplus latents matter."""
    matters = [time for (time, _), way in ways.items() if way == "less"]
    others = [time for (time, _), way in ways.items() if way != "alike"]
    alike_from = [time for time, _ in ways if time > max(others, default=0)]
    says = [f"matters up to {max(matters)} epochs"] if matters else []
    if alike_from:
        says.append(f"{'not' if says else 'does not matter'} from {min(alike_from)} on")
    return f"surplus {' and '.join(says)}" if says else "undecided"


def _how_late(ways: _Ways) -> str:
    """When latents that come later help, and when they do as well as 16."""
    texts = []
    for level in ("8", "16"):
        times = {}
        for (time, of), way in ways.items():
            if of == level:
                times.setdefault(way, []).append(str(time))
        of_ways = (f"{way} at {' '.join(at)}" for way, at in times.items())
        texts.append(f"than {level} {' and '.join(of_ways)}")
    return "; ".join(texts)


def _whether(ways: _Ways) -> str:
    """Whether renewal is the point."""
    of_few, of_many = ways.values()
    if of_many in ("alike", "more"):
        return "renewal is the point, not size"
    if of_few == "more" and of_many == "less":
        return "renewal is a part of it"
    return "renewal is not it" if of_few in ("alike", "less") else "undecided"


class Change(NamedTuple):
    """How latents come and go after e epochs.

    Attributes:
      label: in a figure.
      compared: rows by time, those of 8 and of 16 throughout -> differences.
      says: what these are, alike, more, less or undecided -> what they say of it.
    """

    label: str
    compared: Callable[[Mapping[int, Rows], Rows, Rows], _Differences]
    says: Callable[[_Ways], str]


CHANGES = {
    "pruned": Change("16, after e the survivors of the filter", _pruned, _how_long),
    "grown": Change("8, after e with 8 fresh ones", _grown, _how_late),
    "renewed": Change("8, every e epochs dropped ones anew", _renewed, _whether),
}


def surplus(name: str, tables: Tables) -> Iterator[Block]:
    """Latents that go, come or are drawn again after e epochs, on each data set.

    Args:
      name: of the change.
      tables: of the cells.
    """
    yield from tables.lacking(
        f"{dataset}_{of}" for dataset in DATASETS for of in ("late", name)
    )
    lines, says, incomplete = [], {}, set()
    for dataset in DATASETS:
        known = _by_time(tables, f"{dataset}_{name}")
        late = tables.rows(f"{dataset}_late")
        if not (known and late):
            continue
        few, many = (at(late, level=level) for level in (8, 16))
        found = report.adjust(CHANGES[name].compared(known, few, many))
        ten = tables.rows(f"{dataset}_ten") if name == "pruned" else []
        own = [*_throughout(few, many, ten), *_changed(known, found)]
        lines += [[dataset, *cells] for cells in own]
        ways = {key: _alike(difference) for key, difference in found.items()}
        says[dataset] = CHANGES[name].says(ways)
        if min(map(len, (few, many, *known.values()))) < _NUM_RUNS or len(known) < len(
            TIMES
        ):
            incomplete.add(dataset)
    if lines:
        yield Table(["data", "e", "truths of 8", "less 8", "less 16"], lines)
        yield undecided_of(Verdict(name, says), incomplete, says)


def _throughout(few: Rows, many: Rows, ten: Rows) -> Iterator[list[str]]:
    """Lines of what nothing changes; ten latents are a control, if they are there.

    It is in no family, so that there is no p to be adjusted.
    """
    yield ["8 throughout", _RECOVERED.shown(few), "", ""]
    yield ["16 throughout", _RECOVERED.shown(many), "", ""]
    if ten:
        less = [
            Interval(*_RECOVERED.less(ten, others)[:3]).format(2, sign="+")
            for others in (few, many)
        ]
        yield ["10 throughout", _RECOVERED.shown(ten), *less]


def _changed(known: Mapping[int, Rows], found: _Differences) -> Iterator[list[str]]:
    """A line for each time, with its differences from 8 and from 16 where asked for."""
    for time, rows in known.items():
        of_both = (found.get((time, level)) for level in ("8", "16"))
        less = [f"{of.format(2)}: {_alike(of)}" if of else "" for of in of_both]
        yield [f"{time}", _RECOVERED.shown(rows), *less]


@style.styled()
def plot_times(tables: Tables) -> Figure:
    """Truths recovered where latents change after e epochs, between two levels."""
    late = {name: tables.rows(f"{name}_late") for name in DATASETS}
    late = {name: rows for name, rows in late.items() if rows}
    figure = style.new_figure(7.6, 3.0)
    panels = figure.subplots(1, len(late), sharey=True, squeeze=False)[0]
    for axes, (dataset, rows) in zip(panels, late.items(), strict=True):
        for level, color in ((8, "0.5"), (16, "black")):
            middle, low, high = _RECOVERED.mean(at(rows, level=level))
            dashes = (0, (4, 2) if level == 16 else (1, 1.5))
            label = f"{level} throughout"
            axes.axhline(middle, color=color, ls=dashes, lw=1.2, label=label)
            axes.axhspan(low, high, color=color, alpha=0.15, lw=0)
        for index, (name, change) in enumerate(CHANGES.items()):
            known = [
                (time, _RECOVERED.mean(found))
                for time, found in _by_time(tables, f"{dataset}_{name}").items()
            ]
            if not known:
                continue
            times, intervals = zip(*known, strict=True)
            style.draw_intervals(
                axes,
                np.array(times) * (1 + 0.06 * (index - 1)),
                intervals,
                fmt=f"{'os^'[index]}-",
                ms=4,
                lw=1,
                label=change.label,
            )
        axes.set(xscale="log", title=dataset, xlim=(0.8, 130))
        axes.set_xticks(TIMES, [f"{time}" for time in TIMES])
        axes.minorticks_off()
    panels[0].set(ylabel="truths recovered of 8", ylim=(0, 8.2))
    figure.supxlabel("e, epochs; 95% intervals over runs", fontsize=9)
    style.add_legend(figure, *panels[0].get_legend_handles_labels())
    return figure
