"""When surplus latents matter: what the tables say, sections 3b and 4."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.cli.claims import Tables
from experiments.cli.levels import Rows, Truths, renamed
from experiments.cli.verdicts import Block, Table, Verdict, alike, at
from lvm_jax import report
from lvm_jax.report import Comparison, style

_RECOVERED = Truths(8).recovered
TIMES = (1, 3, 10, 30, 100)
DATASETS = ("IMG", "CON8")
_ALIKE = 0.5  # truths, of a difference that makes none
_NUM_RUNS = 64  # of each cell of surplus latents
CHANGES = {
    "pruned": "16, after e the survivors of the filter",
    "grown": "8, after e with 8 fresh ones",
    "renewed": "8, every e epochs dropped ones anew",
}


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
    of_sixteen = _alike(decided[16])
    says = {"less": "holds", "alike": "refuted", "more": "refuted"}
    yield Verdict("no warm start", {"": says.get(of_sixteen, "undecided")})


def _by_time(tables: Tables, name: str) -> dict[int, Rows]:
    """Rows of a table by the time of the change, those times that are there."""
    rows = tables.rows(name)
    return {time: found for time in TIMES if (found := at(rows, at=time))}


def surplus(dataset: str, tables: Tables) -> Iterator[Block]:
    """Latents that go, come or are drawn again after e epochs, on a data set."""
    yield from tables.lacking(f"{dataset}_{name}" for name in ("late", *CHANGES))
    late = tables.rows(f"{dataset}_late")
    if not late:
        return
    known = {name: _by_time(tables, f"{dataset}_{name}") for name in CHANGES}
    few, many = (at(late, level=level) for level in (8, 16))
    lines = [
        ["8 throughout", "", _RECOVERED.shown(few), "", ""],
        ["16 throughout", "", _RECOVERED.shown(many), "", ""],
    ]
    if some := tables.rows(f"{dataset}_ten"):
        differences = [
            _RECOVERED.less(some, others).format(2) for others in (few, many)
        ]
        lines.append(["10 throughout", "", _RECOVERED.shown(some), *differences])
    families = {
        "pruned": {
            (time, "16"): _RECOVERED.less(_as_of(rows, many), many)
            for time, rows in known["pruned"].items()
        },
        "grown": {
            (time, name): _RECOVERED.less(renamed(rows, "grown"), others)
            for time, rows in known["grown"].items()
            for name, others in (("8", few), ("16", many))
        },
        "renewed": _renewed(known["renewed"], few, many),
    }
    families = {name: report.adjust(family) for name, family in families.items()}
    for name, found in families.items():
        for time in dict.fromkeys(time for time, _ in found):
            cells = [name, f"{time}", _RECOVERED.shown(known[name][time])]
            for other in ("8", "16"):
                difference = found.get((time, other))
                cells.append(
                    f"{difference.format(2)}: {_alike(difference)}"
                    if difference
                    else ""
                )
            lines.append(cells)
    yield Table(["", "e", "truths of 8", "less 8", "less 16"], lines)
    so_far = f"of {len(many)} runs of {_NUM_RUNS}, " if len(many) < _NUM_RUNS else ""
    for name, found in families.items():
        if found:
            says = _surplus_verdict(name, found)
            yield Verdict(name, {dataset: f"{so_far}{says}"})
    others = [
        f"{time}: {_RECOVERED.shown(rows)}" for time, rows in known["renewed"].items()
    ]
    if others:
        yield f"renewed every e epochs, truths of 8 by e: {'; '.join(others)}"


def _surplus_verdict(name: str, found: Mapping[Any, Comparison]) -> str:
    """What the differences of a cell say, by the rule."""
    ways = {key: _alike(difference) for key, difference in found.items()}
    if name == "pruned":
        less = [time for (time, _), way in ways.items() if way == "less"]
        last = max(less, default=0)
        later = [way for (time, _), way in ways.items() if time > last]
        is_known = later and all(way == "alike" for way in later)
        if not is_known:
            return "undecided"
        first = min(time for (time, _) in ways if time > last)
        until = f"surplus matters up to {last} epochs, and " if less else ""
        return f"{until}surplus does not matter from {first} on"
    if name == "grown":
        texts = []
        for level in ("8", "16"):
            times = {}
            for (time, of), way in ways.items():
                if of == level:
                    times.setdefault(way, []).append(str(time))
            of_ways = (f"{way} at {' '.join(at)}" for way, at in times.items())
            texts.append(f"than {level}: {', '.join(of_ways)}")
        return "; ".join(texts)
    of_few, of_many = ways.values()
    if of_many in ("alike", "more"):
        return "renewal is the point, not size"
    if of_few == "more" and of_many == "less":
        return "renewal is a part of it"
    return "renewal is not it" if of_few in ("alike", "less") else "undecided"


def _as_of(rows: Rows, others: Rows) -> list[dict[str, Any]]:
    """Rows that are paired by seed with others of their level."""
    return [{**row, "level": others[0]["level"]} for row in rows]


def _renewed(known: Mapping[int, Rows], few: Rows, many: Rows) -> dict[Any, Comparison]:
    """Of the time with the highest objective, less both levels."""
    if not known:
        return {}
    best = max(known, key=lambda time: _mean_objective(known[time]))
    return {
        (best, "8"): _RECOVERED.less(known[best], few),
        (best, "16"): _RECOVERED.less(renamed(known[best], "renewed"), many),
    }


def _mean_objective(rows: Rows) -> float:
    """That of a run without a model to keep is the least there is."""
    values = np.array([row["objective"] for row in rows], float)
    return np.where(np.isnan(values), -np.inf, values).mean()


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
        for index, (name, label) in enumerate(CHANGES.items()):
            known = [
                (time, _RECOVERED.mean(found))
                for time, found in _by_time(tables, f"{dataset}_{name}").items()
            ]
            if not known:
                continue
            times, intervals = zip(*known, strict=True)
            middle, low, high = np.array(intervals).T
            axes.errorbar(
                np.array(times) * (1 + 0.06 * (index - 1)),
                middle,
                np.maximum([middle - low, high - middle], 0),
                fmt=f"{'os^'[index]}-",
                ms=4,
                lw=1,
                label=label,
            )
        axes.set(xscale="log", title=dataset, xlabel="e, epochs", xlim=(0.8, 130))
        axes.set_xticks(TIMES, [f"{time}" for time in TIMES])
        axes.minorticks_off()
    panels[0].set_ylabel("truths recovered of 8")
    style.add_legend(figure, *panels[0].get_legend_handles_labels())
    return figure
