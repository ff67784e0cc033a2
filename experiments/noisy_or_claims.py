r"""The claims about noisy-OR networks, decided on the committed tables.

    python -m experiments.noisy_or_claims

Reads the kept models of every cell in experiments/noisy_or/, decides by the rule in
experiments/noisy_or.md, prints the tables that stand there, and draws the figure of
the five data sets into experiments/figures/. Ten seconds. A cell without a table is
left out and named, as are seeds that a table lacks.
"""

import itertools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from absl import flags
from scipy import stats

from experiments import cli
from experiments.cli.verdicts import above, direction, print_table, verdict
from lvm_jax import report
from lvm_jax.report import Comparison, Interval, summary
from lvm_jax.report.rows import group, num_samples

_HERE = pathlib.Path(__file__).parent
_TABLES = flags.DEFINE_string(
    "tables", str(_HERE / "noisy_or"), "Folder of the tables, one of each cell."
)
_FIGURES = flags.DEFINE_string(
    "figures", str(_HERE / "figures"), "Folder that the figure is drawn into."
)

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


def read_cell(cell: str, datasets: Sequence[str]) -> dict[str, Rows]:
    """The tables of a cell by data set, without those that are not there.

    A cell whose seeds were run in parts has a table of each: IMG_main_0.csv, ...
    """
    tables = {}
    for dataset in datasets:
        stem = f"{dataset}_{cell}"
        folder = pathlib.Path(_TABLES.value)
        paths = [*folder.glob(f"{stem}.csv"), *sorted(folder.glob(f"{stem}_*.csv"))]
        rows = [row for path in paths for row in report.read_rows(path)]
        if rows:
            tables[dataset] = report.add_shares(rows, _NUM_TRUTHS)
    return tables


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


def print_larger(
    tables: Mapping[str, Rows],
    columns: Sequence[str] = (_TRUTHS, _FULL),
    least: int = 2,
) -> None:
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
    print_table(["data", "latents", *itertools.chain(*headings)], lines)
    for column in columns:
        verdicts = [
            f"{dataset} "
            + verdict(
                direction(decided[dataset, level, column])
                for level in _levels(rows)[1:][-least:]
            )
            for dataset, rows in tables.items()
        ]
        print(f"{names[column]} (family of {len(decided)}): {', '.join(verdicts)}\n")


def print_harm(main: Mapping[str, Rows], large: Mapping[str, Rows]) -> None:
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
    lines = []
    for (dataset, level), of in report.adjust(family).items():
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
                above(of, _MOST_HARM),
            ]
        )
    print_table(
        [
            "data",
            "latents",
            "truths recovered of 8",
            "full recovery, %",
            "best level",
            f"less the best (family of {len(family)})",
            "direction",
            "less than one truth lost",
        ],
        lines,
    )


def print_likelihood(main: Mapping[str, Rows], large: Mapping[str, Rows]) -> None:
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
    print_table(
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


def print_surplus(main: Mapping[str, Rows], large: Mapping[str, Rows]) -> None:
    """What the filter makes of models that have all truths, and of the others."""
    lines = []
    for name, rows in _joined(main, large).items():
        for level in _levels(rows):
            if level == _NUM_TRUTHS:
                continue
            some = _at(rows, level)
            full = [row for row in some if row[_FULL]]
            exact = sum(row["exact_after_filter"] for row in full)
            share = report.share_interval(exact, len(full)) if full else None
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
                    share_verdict(share),
                ]
            )
    print_table(
        [
            "data",
            "latents",
            "discarded",
            "duplicate",
            "survivors without a truth",
            "truths lost by the filter",
            "exact of full",
            "share, %",
            "filter gives back the truth",
        ],
        lines,
    )


def print_rates(tables: Mapping[str, Rows]) -> None:
    """Levels at their own best rates, and at one rate for all."""
    own, common = {}, {}
    for name, rows in tables.items():
        best = [row for level in _levels(rows) for row in best_rate(_at(rows, level))]
        own[name] = best
        for (rate,), some in group(rows, "theta_rate").items():
            common[f"{name}, {rate}"] = some
    print("Each level at its own best rate, by the objective on samples that choose:\n")
    rates = [
        [name, *(f"{_at(rows, level)[0]['theta_rate']:g}" for level in _levels(rows))]
        for name, rows in own.items()
    ]
    print_table(["data", *(f"rate at {k}" for k in (8, 16, 32))], rates)
    print_larger(own, (_TRUTHS,))
    print("One rate for all levels:\n")
    print_larger(common, (_TRUTHS,))


def best_rate(rows: Rows) -> Rows:
    """The rows of the rate whose runs have the largest mean objective."""
    return max(
        group(rows, "theta_rate").values(),
        key=lambda some: np.mean([row["objective"] for row in some]),
    )


_FIVE, _LARGE = ("main", _DATASETS), ("large", _DATASETS)
_SECTIONS = {
    "1. Larger recovers more": (print_larger, _FIVE),
    "2. Extreme overparameterization harms little": (print_harm, _FIVE, _LARGE),
    "3. Held-out log-likelihood follows": (print_likelihood, _FIVE, _LARGE),
    "4. The surplus is discarded or duplicate": (print_surplus, _FIVE, _LARGE),
    "5. Batches of 1000": (print_larger, ("batch1000", _DATASETS)),
    "6. Mean field": (print_larger, ("mean_field", _DATASETS)),
    "6. EM": (print_larger, ("em", _DATASETS)),
    "7. Misspecified": (print_larger, ("misspecified", _MISSPECIFIED)),
    "8. One rate for all": (print_rates, ("rates", _DATASETS)),
    "9. Truths in general": (print_larger, ("truths", _KINDS)),
}


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
    return f"Not there: {cell} of {', '.join(names)}.\n" if names else ""


def draw(main: Mapping[str, Rows], large: Mapping[str, Rows]) -> None:
    """Draws recovery by level, a column for each data set."""
    panels = {
        name: report.summarise(rows, _NUM_TRUTHS, [])
        for name, rows in _joined(main, large).items()
    }
    path = pathlib.Path(_FIGURES.value) / "noisy_or_five.png"
    report.save(report.plot_data_sets(panels, _NUM_TRUTHS), path)


def main() -> None:
    """Prints every claim's tables and draws the figure."""
    all_cells = itertools.chain(*(cells for _, *cells in _SECTIONS.values()))
    tables = {cell: read_cell(*cell) for cell in dict.fromkeys(all_cells)}
    for cell, found in tables.items():
        if lack := missing(*cell, found):
            print(lack)
    for title, (print_section, *cells) in _SECTIONS.items():
        if tables[cells[0]]:
            print(f"### {title}\n")
            print_section(*(tables[cell] for cell in cells))
    if tables[_FIVE]:
        draw(tables[_FIVE], tables[_LARGE])


if __name__ == "__main__":
    cli.run(main)
