r"""The claims about noisy-OR networks, decided on the committed tables.

    python -m experiments.noisy_or_claims

Reads the kept models of every cell in experiments/noisy_or/, decides by the rule in
experiments/noisy_or.md, prints the tables that stand there, and draws their figures
into experiments/figures/. Ten seconds. A cell without a table is
left out and named, as are seeds that a table lacks.
"""

from collections.abc import Iterator, Mapping

from matplotlib.figure import Figure
from scipy import stats

from experiments.cli.claims import Claims, decide
from experiments.cli.levels import (
    FULL,
    Column,
    Rule,
    Truths,
    joined,
    larger,
    levels_of,
    mean_objective,
    num_runs,
)
from experiments.cli.tables import Rows, Tables
from experiments.cli.verdicts import (
    Block,
    Table,
    Verdict,
    above,
    at,
    direction,
    together,
)
from lvm_jax import report
from lvm_jax.report import Comparison
from lvm_jax.report.rows import group

_OF_EIGHT = Truths(8)
_RECOVERED = _OF_EIGHT.recovered
DATASETS = ("IMG", "PLNT", "UNIF", "CON8", "CON24")
# Levels by data set.
_MISSPECIFIED = {"IMG-FLIP": (8, 9, 10, 16), "IMG-UNIF": (8, 9, 16, 32)}
_RATES = ("rate=0.01", "rate=0.04", "rate=0.1")
_LEVELS = (8, 16, 32)
KINDS = ("UNIF-DRAWN", "CON8", "CON24")
LOG_LIKELIHOOD = Column("held_out_log_likelihood", "held-out log P(x), nats")
_MOST_HARM = -1.0  # truths, of little harm


def _less(rows: Rows, level: int, other: int, column: Column) -> Comparison:
    """A level less another."""
    return column.less(at(rows, level=level), at(rows, level=other))


def harm(main: Mapping[str, Rows], large: Mapping[str, Rows]) -> Iterator[Block]:
    """The largest levels less the best of the others."""
    best, family = {}, {}
    for dataset in (name for name in main if name in large):
        rows = main[dataset]
        best[dataset] = max(
            levels_of(rows),
            key=lambda level, rows=rows: (
                _RECOVERED.mean(at(rows, level=level)).estimate
            ),
        )
        for level in levels_of(large[dataset]):
            family[dataset, level] = _less(
                [*rows, *large[dataset]], level, best[dataset], _RECOVERED
            )
    if not family:
        return
    lines, says = [], {}
    for (dataset, level), of in report.adjust(family).items():
        says.setdefault(dataset, []).append(above(of, _MOST_HARM))
        some = at(large[dataset], level=level)
        lines.append(
            [
                dataset,
                str(level),
                num_runs(some),
                _RECOVERED.shown(some),
                FULL.shown(some),
                str(best[dataset]),
                of.format(2),
                direction(of),
            ]
        )
    yield Table(
        [
            "data",
            "latents",
            "runs",
            _RECOVERED.title,
            FULL.title,
            "best level",
            f"less the best (family of {len(family)})",
            "direction",
        ],
        lines,
    )
    of_each = {dataset: together(found) for dataset, found in says.items()}
    yield Verdict("less than one truth lost", of_each)


def likelihood(main: Mapping[str, Rows], large: Mapping[str, Rows]) -> Iterator[Block]:
    """Exact held-out log P(x) of 16 less 8, and bounds of larger ones less 8."""
    tables = joined(main, large)
    exact = report.adjust(
        {name: _less(rows, 16, 8, LOG_LIKELIHOOD) for name, rows in tables.items()}
    )
    bounds = report.adjust(
        {
            (name, level): _less(rows, level, 8, LOG_LIKELIHOOD)
            for name, rows in tables.items()
            for level in levels_of(rows)
            if level > 16
        }
    )
    lines = []
    for name, rows in tables.items():
        for level in levels_of(rows):
            known = exact[name] if level == 16 else bounds.get((name, level))
            of_level = at(rows, level=level)
            lines.append(
                [
                    name,
                    str(level),
                    num_runs(of_level),
                    "at least " * (level > 16) + LOG_LIKELIHOOD.shown(of_level),
                    known.format(2) if known else "",
                    _likelihood_verdict(known, level) if known else "",
                    _rank_correlation(of_level),
                ]
            )
    yield Table(
        [
            "data",
            "latents",
            "runs",
            LOG_LIKELIHOOD.title,
            f"less 8 (families of {len(exact)} and {len(bounds)})",
            "larger is",
            "rank correlation with truths",
        ],
        lines,
    )
    truths = report.adjust(
        {name: _less(rows, 16, 8, _RECOVERED) for name, rows in tables.items()}
    )
    says = {name: _follows(exact[name], truths[name]) for name in tables}
    yield Verdict("16 less 8 follow the truths", says)
    if bounds:
        of_each = {name: [of for of in bounds if of[0] == name] for name in tables}
        says = {
            name: f"{sum(direction(bounds[of]) == 'more' for of in own)} of {len(own)}"
            for name, own in of_each.items()
            if own
        }
        yield Verdict("levels of 32 and more that are better by a bound", says)


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
    values = [[row[of.name] for row in rows] for of in (_RECOVERED, LOG_LIKELIHOOD)]
    if len(set(values[0])) < 2:
        return ""
    return f"{stats.spearmanr(*values).statistic:.2f}"


def surplus(main: Mapping[str, Rows], large: Mapping[str, Rows]) -> Iterator[Block]:
    """What the filter makes of larger models, of both cells."""
    return _OF_EIGHT.surplus(joined(main, large))


def rates(tables: Mapping[str, Rows]) -> Iterator[Block]:
    """Levels at their own best rates, and at one rate for all."""
    own, common, of_rates = {}, {}, {}
    for name, rows in tables.items():
        best = [
            row for level in levels_of(rows) for row in best_rate(at(rows, level=level))
        ]
        own[name] = best
        at_rates = group(rows, "theta_rate").items()
        common |= {f"{name}, {rate}": some for (rate,), some in at_rates}
        of_rates[name] = [f"{name}, {rate}" for (rate,), _ in at_rates]
    yield "Each level at its own best rate, by the objective on samples that choose:"
    lines = [
        [
            name,
            *(
                f"{at(rows, level=level)[0]['theta_rate']:g}"
                for level in levels_of(rows)
            ),
        ]
        for name, rows in own.items()
    ]
    yield Table(["data", *(f"rate at {k}" for k in _LEVELS)], lines)
    yield from larger(own, (_RECOVERED,))
    yield "One rate for all levels:"
    *blocks, decided = larger(common, (_RECOVERED,))
    yield from blocks
    says = {
        name: f"at {sum(decided.says[of] == 'holds' for of in rates)} of {len(rates)}"
        for name, rates in of_rates.items()
    }
    yield Verdict("rates for all levels at which both are more", says)


def best_rate(rows: Rows) -> Rows:
    """The rows of the rate whose runs have the largest mean objective."""
    return max(group(rows, "theta_rate").values(), key=mean_objective)


def _draw(tables: Tables) -> Iterator[tuple[str, Figure]]:
    """Recovery by level, a column for each data set; a figure for each cell."""
    main, large = (_OF_EIGHT.read(tables, rule) for rule in (_FIVE, _LARGE))
    if panels := joined(main, large):
        yield "noisy_or_five", _OF_EIGHT.plot(panels)
    for rule in (_BATCHES, _MEAN_FIELD, _EM, _MISFIT, _TRUTHS):
        if panels := _OF_EIGHT.read(tables, rule):
            yield f"noisy_or_{rule.name}", _OF_EIGHT.plot(panels)


_FIVE = Rule("main", DATASETS, 32, _LEVELS)
_LARGE = Rule("large", DATASETS, 16, (64, 128))
_BATCHES = Rule("batch1000", DATASETS, 32, _LEVELS)
_MEAN_FIELD = Rule("mean_field", DATASETS, 32, _LEVELS)
_EM = Rule("em", DATASETS, 4, _LEVELS)
_MISFIT = Rule("misspecified", [*_MISSPECIFIED], 32, _MISSPECIFIED)
_TRUTHS = Rule("truths", KINDS, 4, _LEVELS, 16)
_section = _OF_EIGHT.section
CLAIMS = Claims(
    "noisy_or",
    {
        "1. Larger recovers more": _section(_OF_EIGHT.larger, _FIVE),
        "2. Extreme overparameterization harms little": _section(harm, _FIVE, _LARGE),
        "3. Held-out log-likelihood follows": _section(likelihood, _FIVE, _LARGE),
        "4. The surplus is discarded or duplicate": _section(surplus, _FIVE, _LARGE),
        "5. Batches of 1000": _section(_OF_EIGHT.larger, _BATCHES),
        "6. Mean field": _section(_OF_EIGHT.larger, _MEAN_FIELD),
        "6. EM": _section(_OF_EIGHT.larger, _EM),
        "7. Misspecified": _section(_OF_EIGHT.larger, _MISFIT),
        "8. One rate for all": _section(
            rates, Rule("rates", DATASETS, 16, _LEVELS, settings=_RATES)
        ),
        "9. Truths in general": _section(_OF_EIGHT.larger, _TRUTHS),
    },
    _draw,
)


if __name__ == "__main__":
    decide(CLAIMS)
