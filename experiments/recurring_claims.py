r"""Is what recurs true? The claims, decided on the committed tables.

    python -m experiments.recurring_claims

Reads the tables of every sweep in experiments/recurring/, decides by the rule in
experiments/recurring.md, prints the tables that stand there, and draws the figure of
precision and recall into experiments/figures/. Ten seconds. What has no table is named.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.cli.claims import Claims, decide
from experiments.cli.tables import Rows, Tables
from experiments.cli.verdicts import (
    UNKNOWN,
    Block,
    Table,
    Verdict,
    above,
    at,
    direction,
    final,
    verdict,
)
from experiments.noisy_or_claims import DATASETS, KINDS
from lvm_jax import report
from lvm_jax.report import Comparison, Interval, style

_CALIBRATED = ("UNIF-DRAWN", "CON8")
_SAMPLES = (500, 1000, 3000, 10_000)
_LEVELS = (8, 16, 32, 64)
_NUM_DATA_SETS = 16  # of each kind
HARD = ("TWINS", "DUPLICATES", "ONE-CHILD", "CORRELATED", "IMG-FLIP", "IMG-UNIF")
_NOTHING = "INDEPENDENT"
_NUM_INDEPENDENT = 8  # data sets
_NUM_CALIBRATED = 4  # data sets of each kind
_FIXED = (8, 16, 32)
_TWICE = 16  # latents, twice the truths
_FEWER_RUNS, _MOST_RUNS = (4, 8), 16
_LEAST_PRECISION = 0.9
_LEAST_EMPTY = 0.5
_MOST_OFF = 0.1  # share, of a calibration that says how much is true


def read(tables: Tables, name: str) -> list[dict[str, Any]]:
    """Rows of a table, each with what `report.compare` reads; none if it is not there.

    Args:
      tables: all of them.
      name: of the sweep, with "_latents" the table of its latents.
    """
    return [
        {
            **row,
            "data_seed": f"{row['dataset']} {row['data_seed']}",
            "diverged": False,
        }
        for row in tables.rows(name)
    ]


def of_most_runs(rows: Rows) -> list[Mapping[str, Any]]:
    """Those of rows that look at the largest number of runs among them."""
    return at(rows, num_runs=max((row["num_runs"] for row in rows), default=0))


def recommended(rows: Rows, num_runs: int | None = None) -> list[dict[str, Any]]:
    """For each data set the row of its recommended level, or one where nothing recurs.

    Args:
      rows: of levels.
      num_runs: among which latents recur; the most that there are if None.
    """
    found = []
    some = of_most_runs(rows) if num_runs is None else at(rows, num_runs=num_runs)
    for data_seed in dict.fromkeys(row["data_seed"] for row in some):
        best = at(some, data_seed=data_seed, is_recommended=True)
        nothing = {"recurring": 0, "true": 0, "truths": 0, "repeated": 0}
        row = best[0] if best else at(some, data_seed=data_seed)[0] | nothing
        found.append(row | {"level": row["level"] if best else "none"})
    return found


def precisions(rows: Rows, prefix: str = "") -> list[dict[str, Any]]:
    """Rows with the share of recurring latents that is true, where any recurs.

    Args:
      rows: of levels.
      prefix: "repeated_" for the latents that recur at the next levels too.
    """
    of_all, of_true = (prefix.rstrip("_") or "recurring"), f"{prefix}true"
    return [
        row | {"precision": row[of_true] / row[of_all]} for row in rows if row[of_all]
    ]


def _mean(rows: Rows, column: str, most: float) -> Interval:
    return report.mean_interval([row[column] for row in rows], (0, most))


def _share_true(rows: Rows) -> Interval:
    """Of what recurs, over data sets; not a number where nothing does."""
    some = precisions(rows)
    return _mean(some, "precision", 1) if some else Interval(*[math.nan] * 3)


def _precision(tables: Mapping[int, Mapping[str, Rows]]) -> Iterator[Block]:
    lines, says = [], {}
    for size, of_kinds in tables.items():
        for kind, rows in [*of_kinds.items(), ("all", _joined(of_kinds))]:
            best = recommended(rows)
            some, twice = precisions(best), precisions(best, "repeated_")
            precision = _mean(some, "precision", 1) if some else None
            truths = _mean(best, "truths", 8)
            cells = [kind, str(size), f"{len(some)} of {len(best)}"]
            cells.append(precision.format(2) if some else "-")
            cells += [truths.format(2), _levels(best)]
            gain = _paired(twice, some, "precision", 1)
            cells.append(gain.format(2) if len(twice) > 1 else "-")
            lines.append(cells)
            if kind == "all":
                decided = above(precision, _LEAST_PRECISION) if some else "undecided"
                says[f"{size} samples"] = _decided(of_kinds, decided)
    headings = ["data", "samples", "something recurs in", "true of what recurs"]
    headings += ["truths that recur, of 8", "recommended levels"]
    headings += ["more of what recurs twice"]
    yield Table(headings, lines)
    yield Verdict("nine tenths of what recurs are true", says)


def _decided(of_kinds: Mapping[str, Rows], decided: str) -> str:
    """The verdict, if all data sets of the rule are there, and all of their runs."""
    is_whole = of_kinds.keys() == {*KINDS} and all(map(_is_whole, of_kinds.values()))
    return final(decided, is_whole)


def _is_whole(rows: Rows) -> bool:
    """Whether a kind has all data sets, levels and runs of the rule."""
    some = at(rows, num_runs=_MOST_RUNS)
    of_levels = ({row["data_seed"] for row in at(some, level=k)} for k in _LEVELS)
    return len(set.intersection(*of_levels)) >= _NUM_DATA_SETS


def _paired(rows: Rows, others: Rows, column: str, most: float) -> Comparison:
    """A column of rows less that of others, by data set."""
    if min(len(rows), len(others)) < 2:
        return UNKNOWN
    return report.compare(rows, others, column, (0, most))


def _levels(best: Rows) -> str:
    numbers = [row["level"] for row in best]
    names = sorted({*numbers}, key=lambda level: (level == "none", str(level).zfill(3)))
    return ", ".join(f"{level}: {numbers.count(level)}" for level in names)


def _joined(of_kinds: Mapping[str, Rows]) -> list[Mapping[str, Any]]:
    return [row for rows in of_kinds.values() for row in rows]


def _differences(
    compared: Callable[[Rows], dict[str, Rows]],
    judge: Callable[[Iterable[str]], str],
    claim: str,
    tables: Mapping[int, Mapping[str, Rows]],
) -> Iterator[Block]:
    """Truths that recur at the recommended level less those of other choices."""
    lines, says = [], {}
    for size, of_kinds in tables.items():
        rows = _joined(of_kinds)
        best = recommended(rows)
        family = {
            name: _paired(best, others, "truths", 8)
            for name, others in compared(rows).items()
        }
        family = report.adjust(family)
        for name, comparison in family.items():
            cells = [str(size), name, comparison.format(2), direction(comparison)]
            lines.append(cells)
        is_known = not any(math.isnan(of.estimate) for of in family.values())
        found = judge(map(direction, family.values())) if is_known else "undecided"
        says[f"{size} samples"] = _decided(of_kinds, found)
    yield Table(["samples", "less", "truths that recur", "recommended has"], lines)
    yield Verdict(claim, says)


def _finds(tables: Mapping[int, Mapping[str, Rows]]) -> Iterator[Block]:
    """Truths that recur at the recommended level less those at fixed ones."""
    claim = "no fixed level that can be recommended is found to have more"
    yield from _differences(_at_levels, _none_is_better, claim, tables)
    lines = []
    for size, of_kinds in tables.items():
        rows = _joined(of_kinds)
        best, largest = recommended(rows), at(of_most_runs(rows), level=_LEVELS[-1])
        shown = [_paired(best, largest, "truths", 8).format(2)]
        shown += [_share_true(some).format(2) for some in (best, largest)]
        lines.append([str(size), *shown])
    yield f"The recommended level beside {_LEVELS[-1]}, which cannot be recommended:"
    headings = ["samples", f"truths that recur, less level {_LEVELS[-1]}"]
    headings += ["true of what recurs", f"at level {_LEVELS[-1]}"]
    yield Table(headings, lines)


def _at_levels(rows: Rows) -> dict[str, Rows]:
    return {f"level {k}": at(of_most_runs(rows), level=k) for k in _FIXED}


def _at_runs(rows: Rows) -> dict[str, Rows]:
    return {f"{n} runs": recommended(rows, n) for n in _FEWER_RUNS}


def _none_is_better(directions: Iterable[str]) -> str:
    """That no other choice has more cannot be shown: it holds if none is found."""
    return "refuted" if "less" in directions else "holds"


def _nothing(tables: Tables) -> Iterator[Block]:
    yield from tables.lacking([_NOTHING])
    rows = recommended(read(tables, _NOTHING))
    if not rows:
        return
    empty = sum(row["recurring"] == 0 for row in rows)
    share = report.share_interval(empty, len(rows))
    is_whole = len(rows) >= _NUM_INDEPENDENT and rows[0]["num_runs"] >= _MOST_RUNS
    counts = ", ".join(str(row["recurring"]) for row in rows)
    yield (
        f"{empty} of {len(rows)} data sets have an empty consensus, "
        f"{share.format(0, 100)}%; latents that recur: {counts}"
    )
    says = above(share, _LEAST_EMPTY)
    yield Verdict("nothing recurs in half of them", {"": final(says, is_whole)})


def equivalence(interval: Interval, most: float) -> str:
    """What an interval of a difference says of the claim that there is hardly any."""
    if -most < interval.low and interval.high < most:
        return "holds"
    is_outside = interval.low > most or interval.high < -most
    return "refuted" if is_outside else "undecided"


def _calibration(tables: Tables) -> Iterator[Block]:
    names = [f"{kind}_calibration" for kind in _CALIBRATED]
    yield from tables.lacking(names)
    cells = [read(tables, name) for name in names]
    is_whole = min(map(len, cells)) >= _NUM_CALIBRATED
    rows = [row for cell in cells for row in cell]
    rows = [row for row in rows if row["recurring"] and row["redrawn_recurring"]]
    if not rows:
        return
    lines, says = [], {}
    for name, of_true, of_all in (
        ("true of what recurs", "true", "recurring"),
        ("recurring of the truths", "truths", "num_truths"),
    ):
        redrawn, first = (
            [row[f"{prefix}{of_true}"] / row[f"{prefix}{of_all}"] for row in rows]
            for prefix in ("redrawn_", "")
        )
        difference = report.paired_interval(redrawn, first, (0, 1))
        cells = [name, str(len(rows))]
        cells += [report.mean_interval(of, (0, 1)).format(2) for of in (first, redrawn)]
        cells += [difference.format(2, sign="+")]
        lines.append(cells)
        if of_all == "recurring":
            says[""] = final(equivalence(difference, _MOST_OFF), is_whole)
    headings = ["share", "data sets", "of the data", "of redrawn data", "difference"]
    yield Table(headings, lines)
    yield Verdict("the share of redrawn data is that of the data", says)


def _hard(tables: Tables) -> Iterator[Block]:
    yield from tables.lacking(HARD)
    lines = []
    for name in HARD:
        rows = recommended(read(tables, name))
        if not rows:
            continue
        latents = [
            row
            for row in of_most_runs(read(tables, f"{name}_latents"))
            if row["is_recommended"]
        ]
        parts = [
            [row for row in latents if (row["truth"] >= 0) == is_true]
            for is_true in (True, False)
        ]
        cells = [name, _mean(rows, "truths", 8).format(2)]
        cells += [f"{len(true_or_not)}" for true_or_not in parts]
        for column in ("share", "prior", "spread", "level"):
            cells.append(" / ".join(_median(part, column) for part in parts))
        lines.append(cells)
    headings = ["data", "truths that recur, of 8", "true latents", "false ones"]
    headings += [f"{of}: true / false" for of in ("share", "prior", "spread", "level")]
    if lines:
        yield Table(headings, lines)


def _study(tables: Tables) -> Iterator[Block]:
    """What recurs on the study's data sets, and whether it is all of the truth."""
    names = {name: f"{name}_study" for name in DATASETS}
    yield from tables.lacking(names.values())
    lines, says = [], {}
    for name, table in names.items():
        rows = of_most_runs(read(tables, table))
        for row in rows:
            counts = [f"{row[of]}" for of in ("recurring", "true", "truths")]
            mark = "*" if row["is_recommended"] else ""
            lines.append([name, f"{row['level']}{mark}", *counts])
        for row in at(rows, level=_TWICE):
            is_truth = row["recurring"] == row["true"]
            is_truth &= row["truths"] == row["num_truths"]
            found = "holds" if is_truth else "refuted"
            says[name] = final(found, row["num_runs"] >= _MOST_RUNS)
    if lines:
        headings = ["data", "latents (* recommended)", "recurring", "true of these"]
        yield Table([*headings, "truths that recur, of 8"], lines)
        yield Verdict("what recurs at 16 latents is true, and all of the truth", says)


def _median(rows: Rows, column: str) -> str:
    return f"{np.median([row[column] for row in rows]):.2f}" if rows else "-"


@style.styled()
def plot(tables: Mapping[int, Mapping[str, Rows]]) -> Figure:
    """Precision of what recurs and truths that recur, by level, for each size.

    Args:
      tables: rows of levels by number of samples and kind.
    """
    figure = style.new_figure(7.2, 3.2)
    panels = figure.subplots(1, 2)
    for index, (size, of_kinds) in enumerate(tables.items()):
        rows = of_most_runs(_joined(of_kinds))
        levels = sorted({row["level"] for row in rows})
        x = np.arange(len(levels)) + 0.12 * (index - (len(tables) - 1) / 2)
        precision = [_share_true(at(rows, level=level)) for level in levels]
        recall = [_mean(at(rows, level=k), "truths", 8) for k in levels]
        for axes, values in zip(panels, (precision, recall), strict=True):
            line = {"fmt": f"{'os^D'[index]}-", "ms": 4, "label": str(size)}
            style.draw_intervals(axes, x, values, **line)
            axes.set_xticks(range(4), ["8", "16", "32", "64"])
    panels[0].set(ylabel="share of what recurs that is true", ylim=(0, 1.03))
    panels[1].set(ylabel="truths that recur, of 8", ylim=(0, 8.2))
    label = "latent variables learned; 95% intervals over truths and samples"
    figure.supxlabel(label, fontsize=9)
    style.add_legend(figure, *panels[0].get_legend_handles_labels(), "samples")
    return figure


def _sizes(tables: Tables) -> dict[int, dict[str, list[dict[str, Any]]]]:
    """Rows of levels by number of samples and kind, of those that are there."""
    found = {
        size: {kind: rows for kind in KINDS if (rows := read(tables, f"{kind}_{size}"))}
        for size in _SAMPLES
    }
    return {size: of_kinds for size, of_kinds in found.items() if of_kinds}


def _section(
    make: Callable[..., Iterator[Block]], *arguments: Any
) -> Callable[[Tables], Iterator[Block]]:
    """A section of all sizes, and the names of tables that are not there."""

    def decided(tables):
        places = itertools.product(_SAMPLES, KINDS)
        yield from tables.lacking(f"{kind}_{size}" for size, kind in places)
        if sizes := _sizes(tables):
            yield from make(*arguments, sizes)

    return decided


def _draw(tables: Tables) -> Iterator[tuple[str, Figure]]:
    if sizes := _sizes(tables):
        yield "recurring", plot(sizes)


CLAIMS = Claims(
    "recurring",
    {
        "1, 2. What recurs at the recommended level is true": _section(_precision),
        "3. The rule finds the level": _section(_finds),
        "4. Are sixteen runs enough, and four not?": _section(
            _differences, _at_runs, verdict, "sixteen runs have more than fewer"
        ),
        "5. Where there is no structure": _nothing,
        "6. Calibration says how much is true": _calibration,
        "7. What recurs on the study's data sets": _study,
        "Data that break an assumption": _hard,
    },
    _draw,
)


if __name__ == "__main__":
    decide(CLAIMS)
