r"""The claims about noisy-OR networks, decided on the committed tables.

    python -m experiments.noisy_or_claims

Reads the kept models of every cell in experiments/noisy_or/, decides by the rule in
experiments/noisy_or.md, prints the tables that stand there, and draws the figure of
the five data sets into experiments/figures/. Ten seconds. A cell without a table is
left out and named, as are seeds that a table lacks.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy import stats

from experiments.cli.claims import Claims, Tables, decide
from experiments.cli.verdicts import (
    Block,
    Table,
    Verdict,
    above,
    direction,
    verdict,
)
from lvm_jax import report
from lvm_jax.report import Comparison, Interval, summary
from lvm_jax.report.rows import group, num_samples

_NUM_TRUTHS = 8
_DATASETS = ("IMG", "PLNT", "UNIF", "CON8", "CON24")
_MISSPECIFIED = ("IMG-FLIP", "IMG-UNIF")
_KINDS = ("UNIF-DRAWN", "CON8", "CON24")
_NUM_SEEDS = {"large": 16, "rates": 16, "truths": 4, "em": 4}
_MOST_SEEDS = 32  # of the other cells
_LIMITS = {"num_recovered": (0, _NUM_TRUTHS), "full": (0, 1)}
_TRUTHS, _FULL = _LIMITS
_LOG_LIKELIHOOD = "held_out_log_likelihood"
_MOST_HARM = -1.0  # truths, of little harm
_LEAST_EXACT = 0.8  # share of exact models, where the filter gives back the truth

Rows = Sequence[Mapping[str, Any]]


def share_verdict(share: Interval | None) -> str:
    """Whether a filter gives back the truth, by the interval of how often."""
    return "no full run" if share is None else above(share, _LEAST_EXACT)


def read_cell(tables: Tables, cell: str, datasets: Sequence[str]) -> dict[str, Rows]:
    """The tables of a cell by data set, without those that are not there.

    Args:
      tables: of all cells.
      cell: name.
      datasets: names.
    """
    return {
        dataset: report.add_shares(rows, _NUM_TRUTHS)
        for dataset in datasets
        if (rows := tables.rows(f"{dataset}_{cell}"))
    }


def _at(rows: Rows, level: int) -> Rows:
    return [row for row in rows if int(row["level"]) == level]


def _levels(rows: Rows) -> list[int]:
    return sorted({int(row["level"]) for row in rows})


def _less(rows: Rows, level: int, other: int, column: str) -> Comparison:
    return report.compare(
        _at(rows, level), _at(rows, other), column, _LIMITS.get(column)
    )


def _mean(rows: Rows, column: str) -> Interval:
    is_clustered = num_samples(rows) > 1
    return summary.interval(rows, column, _LIMITS.get(column), is_clustered)


def _joined(main: Mapping[str, Rows], large: Mapping[str, Rows]) -> dict[str, Rows]:
    """The rows of both cells by data set, of those of the first."""
    return {name: [*rows, *large.get(name, [])] for name, rows in main.items()}


def larger(
    tables: Mapping[str, Rows],
    columns: Sequence[str] = (_TRUTHS, _FULL),
    least: int = 2,
) -> Iterator[Block]:
    """Larger levels less the smallest, in one family of all columns and data sets.

    Args:
      tables: by data set.
      columns: that are compared.
      least: how many of the largest levels have to recover more.
    """
    decided = report.adjust(
        {
            (dataset, level, column): _less(rows, level, _levels(rows)[0], column)
            for dataset, rows in tables.items()
            for level in _levels(rows)[1:]
            for column in columns
        }
    )
    lines = []
    for dataset, rows in tables.items():
        smallest, *others = _levels(rows)
        for level in (smallest, *others):
            line = [dataset, str(level)]
            for column in columns:
                form = (0, 100) if column == _FULL else (2, 1)
                line.append(_mean(_at(rows, level), column).format(*form))
                known = decided.get((dataset, level, column))
                line.append(known.format(*form) if known else "")
            lines.append(line)
    names = {_TRUTHS: "truths recovered of 8", _FULL: "full recovery, %"}
    headings = [[names[column], "less the smallest"] for column in columns]
    yield Table(["data", "latents", *itertools.chain(*headings)], lines)
    for column in columns:
        yield Verdict(
            f"{names[column]} (family of {len(decided)})",
            {
                dataset: verdict(
                    direction(decided[dataset, level, column])
                    for level in _levels(rows)[1:][-least:]
                )
                for dataset, rows in tables.items()
            },
        )


def harm(main: Mapping[str, Rows], large: Mapping[str, Rows]) -> Iterator[Block]:
    """The largest levels less the best of the others."""
    best, family = {}, {}
    for dataset in (name for name in main if name in large):
        rows = main[dataset]
        best[dataset] = max(
            _levels(rows),
            key=lambda level, rows=rows: _mean(_at(rows, level), _TRUTHS).estimate,
        )
        for level in _levels(large[dataset]):
            family[dataset, level] = _less(
                [*rows, *large[dataset]], level, best[dataset], _TRUTHS
            )
    if not family:
        return
    lines, says = [], {}
    for (dataset, level), of in report.adjust(family).items():
        says[f"{dataset} at {level}"] = above(of, _MOST_HARM)
        some = _at(large[dataset], level)
        lines.append(
            [
                dataset,
                str(level),
                _mean(some, _TRUTHS).format(2),
                _mean(some, _FULL).format(0, 100),
                str(best[dataset]),
                of.format(2),
                direction(of),
            ]
        )
    yield Table(
        [
            "data",
            "latents",
            "truths recovered of 8",
            "full recovery, %",
            "best level",
            f"less the best (family of {len(family)})",
            "direction",
        ],
        lines,
    )
    yield Verdict("less than one truth lost", says)


def likelihood(main: Mapping[str, Rows], large: Mapping[str, Rows]) -> Iterator[Block]:
    """Exact held-out log P(x) of 16 less 8, and bounds of larger ones less 8."""
    tables = _joined(main, large)
    exact = report.adjust(
        {name: _less(rows, 16, 8, _LOG_LIKELIHOOD) for name, rows in tables.items()}
    )
    bounds = report.adjust(
        {
            (name, level): _less(rows, level, 8, _LOG_LIKELIHOOD)
            for name, rows in tables.items()
            for level in _levels(rows)
            if level > 16
        }
    )
    lines = []
    for name, rows in tables.items():
        for level in _levels(rows):
            known = exact[name] if level == 16 else bounds.get((name, level))
            of_level = _at(rows, level)
            lines.append(
                [
                    name,
                    str(level),
                    "at least " * (level > 16)
                    + _mean(of_level, _LOG_LIKELIHOOD).format(2),
                    known.format(2) if known else "",
                    _likelihood_verdict(known, level) if known else "",
                    _rank_correlation(of_level),
                ]
            )
    yield Table(
        [
            "data",
            "latents",
            "held-out log P(x), nats",
            f"less 8 (families of {len(exact)} and {len(bounds)})",
            "larger is",
            "rank correlation with truths",
        ],
        lines,
    )
    truths = report.adjust(
        {name: _less(rows, 16, 8, _TRUTHS) for name, rows in tables.items()}
    )
    says = {name: _follows(exact[name], truths[name]) for name in tables}
    yield Verdict("16 less 8 follow the truths", says)


def _follows(comparison: Comparison, truths: Comparison) -> str:
    """Whether a difference has the direction of that of truths."""
    directions = direction(comparison), direction(truths)
    if "undecided" in directions:
        return "undecided"
    return "holds" if directions[0] == directions[1] else "refuted"


def _likelihood_verdict(comparison: Comparison, level: int) -> str:
    names = {"more": "better", "less": "worse", "undecided": "undecided"}
    if level > 16:
        names["less"] = "not decided by a bound"
    return names[direction(comparison)]


def _rank_correlation(rows: Rows) -> str:
    """Spearman's, of truths recovered and held-out log P(x) over runs."""
    values = [[row[name] for row in rows] for name in (_TRUTHS, _LOG_LIKELIHOOD)]
    if len(set(values[0])) < 2:
        return ""
    return f"{stats.spearmanr(*values).statistic:.2f}"


def surplus(main: Mapping[str, Rows], large: Mapping[str, Rows]) -> Iterator[Block]:
    """What the filter makes of models that have all truths, and of the others."""
    lines, says = [], {}
    for name, rows in _joined(main, large).items():
        for level in _levels(rows):
            if level == _NUM_TRUTHS:
                continue
            some = _at(rows, level)
            full = [row for row in some if row[_FULL]]
            exact = sum(row["exact_after_filter"] for row in full)
            share = report.share_interval(exact, len(full)) if full else None
            says[f"{name} at {level}"] = share_verdict(share)
            means = {
                column: np.mean([row[column] for row in some])
                for column in (
                    "num_discarded",
                    "num_kept",
                    _TRUTHS,
                    "num_recovered_after_filter",
                )
            }
            lines.append(
                [
                    name,
                    str(level),
                    f"{means['num_discarded']:.1f}",
                    f"{level - means['num_discarded'] - means['num_kept']:.1f}",
                    f"{means['num_kept'] - means['num_recovered_after_filter']:.2f}",
                    f"{means[_TRUTHS] - means['num_recovered_after_filter']:.2f}",
                    f"{exact} of {len(full)}",
                    share.format(0, 100) if share else "",
                ]
            )
    yield Table(
        [
            "data",
            "latents",
            "discarded",
            "duplicate",
            "survivors without a truth",
            "truths lost by the filter",
            "exact of full",
            "share, %",
        ],
        lines,
    )
    yield Verdict("the filter gives back the truth", says)


def rates(tables: Mapping[str, Rows]) -> Iterator[Block]:
    """Levels at their own best rates, and at one rate for all."""
    own, common = {}, {}
    for name, rows in tables.items():
        best = [row for level in _levels(rows) for row in best_rate(_at(rows, level))]
        own[name] = best
        for (rate,), some in group(rows, "theta_rate").items():
            common[f"{name}, {rate}"] = some
    yield "Each level at its own best rate, by the objective on samples that choose:"
    lines = [
        [name, *(f"{_at(rows, level)[0]['theta_rate']:g}" for level in _levels(rows))]
        for name, rows in own.items()
    ]
    yield Table(["data", *(f"rate at {k}" for k in (8, 16, 32))], lines)
    yield from larger(own, (_TRUTHS,))
    yield "One rate for all levels:"
    yield from larger(common, (_TRUTHS,))


def best_rate(rows: Rows) -> Rows:
    """The rows of the rate whose runs have the largest mean objective."""
    return max(
        group(rows, "theta_rate").values(),
        key=lambda some: np.mean([row["objective"] for row in some]),
    )


_FIVE, _LARGE = ("main", _DATASETS), ("large", _DATASETS)


def missing(cell: str, datasets: Sequence[str], tables: Mapping[str, Rows]) -> str:
    """What of a cell has not run, by the rule; nothing if all of it has."""
    seeds = range(_NUM_SEEDS.get(cell, _MOST_SEEDS))
    names = []
    for name in datasets:
        found = {row["seed"] for row in tables.get(name, [])}
        absent = [seed for seed in seeds if seed not in found]
        if absent and found:
            name += f" (seeds {absent[0]} to {absent[-1]})"
        names += [name] * bool(absent)
    return f"Not there: {cell} of {', '.join(names)}." if names else ""


def _draw(tables: Tables) -> Iterator[tuple[str, Figure]]:
    """Recovery by level, a column for each data set."""
    main, large = (read_cell(tables, *cell) for cell in (_FIVE, _LARGE))
    panels = {
        name: report.summarise(rows, _NUM_TRUTHS, [])
        for name, rows in _joined(main, large).items()
    }
    if panels:
        yield "noisy_or_five", report.plot_data_sets(panels, _NUM_TRUTHS)


def _section(
    make: Callable[..., Iterator[Block]], *cells: tuple[str, Sequence[str]]
) -> Callable[[Tables], Iterator[Block]]:
    """A section of cells, and what of them has not run."""

    def decided(tables):
        found = [read_cell(tables, *cell) for cell in cells]
        for cell, rows in zip(cells, found, strict=True):
            if lack := missing(*cell, rows):
                yield lack
        if found[0]:
            yield from make(*found)

    return decided


CLAIMS = Claims(
    "noisy_or",
    {
        "1. Larger recovers more": _section(larger, _FIVE),
        "2. Extreme overparameterization harms little": _section(harm, _FIVE, _LARGE),
        "3. Held-out log-likelihood follows": _section(likelihood, _FIVE, _LARGE),
        "4. The surplus is discarded or duplicate": _section(surplus, _FIVE, _LARGE),
        "5. Batches of 1000": _section(larger, ("batch1000", _DATASETS)),
        "6. Mean field": _section(larger, ("mean_field", _DATASETS)),
        "6. EM": _section(larger, ("em", _DATASETS)),
        "7. Misspecified": _section(larger, ("misspecified", _MISSPECIFIED)),
        "8. One rate for all": _section(rates, ("rates", _DATASETS)),
        "9. Truths in general": _section(larger, ("truths", _KINDS)),
    },
    _draw,
)


if __name__ == "__main__":
    decide(CLAIMS)
