r"""The claims about grammars, decided on the committed tables.

    python -m experiments.neural_pcfg_claims

Reads the kept models of every cell in experiments/neural_pcfg/, decides by the rule in
experiments/neural_pcfg.md, prints the tables that stand there, and draws the figure of
all truths into experiments/figures/. Ten seconds. What has no table is named.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.cli.claims import Claims, decide
from experiments.cli.levels import (
    Column,
    Rule,
    Truths,
    joined,
    larger,
    levels_of,
)
from experiments.cli.tables import Rows, Tables
from experiments.cli.verdicts import Block, Table, Verdict, above, at
from lvm_jax.report import style

_TRUTHS = ("R0", "R1", "R2", "E", "F")
_LARGE = "R0"  # of which 30 and 60 symbols are learned
_OF_TEN = Truths(10, "preterminals", "symbols of each kind")
_LOG_LIKELIHOOD = Column(
    "log_likelihood", "test log-likelihood per word, nats", digits=3
)
_F1 = Column("test_f1", "F1", (0, 1), digits=3)
_DECIDED = _LOG_LIKELIHOOD, _F1
_SYMBOLS = (
    Column("num_nonterminals_recovered", "nonterminals recovered of 10", (0, 10), 1),
    Column("num_recovered", "preterminals recovered of 10", (0, 10), 1),
)
_BEST = 20  # symbols, the best number of those of the main cell
_MOST_HARM = -0.05  # of F1, of little harm
_TWO = ("10x10", "20x20")
_MAIN = Rule(
    "main", _TRUTHS, 10, {**dict.fromkeys(_TRUTHS, _TWO), "E": (*_TWO, "30x30")}
)
_FAITHFUL = Rule("faithful", (_LARGE,), 10, _TWO)
_LARGER = Rule("larger", (_LARGE,), 10, ("30x30",))
_LARGEST = Rule("largest", (_LARGE,), 4, ("60x60",))


def _prepared(rows: Rows) -> Rows:
    """Rows whose level is a number, and whose test figure is more where it is better.

    A level is of as many nonterminals as preterminals, which tables show as 10x10.
    """
    return [
        {
            **row,
            "level": int(row["level"].split("x")[0]),
            _LOG_LIKELIHOOD.name: -row["test_nll"],
        }
        for row in rows
    ]


def sizes(tables: Mapping[str, Rows]) -> Iterator[Block]:
    """Larger grammars less the smallest, and the symbols that they recover."""
    known = {name: _prepared(rows) for name, rows in tables.items()}
    yield from larger(known, _DECIDED, learned=_OF_TEN.learned)
    yield _symbols(known)


def _symbols(tables: Mapping[str, Rows]) -> Table:
    lines = [
        [name, str(level)] + [of.shown(at(rows, level=level)) for of in _SYMBOLS]
        for name, rows in tables.items()
        for level in levels_of(rows)
    ]
    return Table(["data", _OF_TEN.learned, *(of.title for of in _SYMBOLS)], lines)


def larger_still(
    main: Mapping[str, Rows], more: Mapping[str, Rows], most: Mapping[str, Rows]
) -> Iterator[Block]:
    """Grammars of many symbols less the smallest, and less the best of the others."""
    if not {**more, **most}:
        return
    rows = _prepared(joined(main, more, most)[_LARGE])
    many = [level for level in levels_of(rows) if level > _BEST]
    but_the_best = [row for row in rows if row["level"] != _BEST]
    yield from larger({_LARGE: but_the_best}, _DECIDED, learned=_OF_TEN.learned)
    yield _symbols({_LARGE: rows})
    less = {
        level: _F1.less(at(rows, level=level), at(rows, level=_BEST)) for level in many
    }
    yield Table(
        ["data", _OF_TEN.learned, f"{_F1.title} less that of {_BEST}"],
        [[_LARGE, str(level), _F1.format(of)] for level, of in less.items()],
    )
    says = {f"{_LARGE} at {level}": above(of, _MOST_HARM) for level, of in less.items()}
    yield Verdict("less than 0.05 of F1 lost", says)


def _draw_means(axes: Axes, rows: Rows, columns: Sequence[Column]) -> None:
    """Means of columns with their intervals by size, side by side."""
    levels = levels_of(rows)
    for number, column in enumerate(columns):
        means = [column.mean(at(rows, level=level)) for level in levels]
        style.draw_intervals(
            axes,
            np.arange(len(levels)) + 0.16 * (number - (len(columns) - 1) / 2),
            means,
            color="0.2" if len(columns) == 1 else f"C{number}",
            marker="os"[number],
            ms=4.5,
            capsize=2,
            label=column.title.split()[0],
        )


@style.styled()
def _plot(tables: Mapping[str, Rows]) -> Figure:
    """F1, and symbols recovered, by size; a column for each truth."""
    figure = style.new_figure(1.3 * len(tables) + 2.3, 3.6)
    grid = figure.subplots(2, len(tables), sharex="col", sharey="row", squeeze=False)
    for of_truth, (name, rows) in zip(grid.T, tables.items(), strict=True):
        levels = levels_of(rows)
        for axes, columns in zip(of_truth, ((_F1,), _SYMBOLS), strict=True):
            _draw_means(axes, rows, columns)
            axes.set_xticks(range(len(levels)), [str(level) for level in levels])
            axes.set_xlim(-0.5, len(levels) - 0.5)
        of_truth[0].set(title=name, ylim=(0, 1.03))
        of_truth[1].set_ylim(-0.4, 10.4)
    grid[0, 0].set_ylabel("F1 with the true trees")
    grid[1, 0].set_ylabel("recovered, of 10")
    grid[1, -1].legend(loc="center left", bbox_to_anchor=(1.02, 0.5))
    figure.supxlabel("symbols of each kind; bars: 95% intervals over runs", fontsize=9)
    return figure


def _draw(tables: Tables) -> Iterator[tuple[str, Figure]]:
    rules = (_MAIN, _LARGER, _LARGEST)
    rows = joined(*(_OF_TEN.read(tables, rule) for rule in rules))
    if rows:
        yield "grammars", _plot({name: _prepared(of) for name, of in rows.items()})


CLAIMS = Claims(
    "neural_pcfg",
    {
        "1. Larger grammars learn and recover more": _OF_TEN.section(sizes, _MAIN),
        "2. One sentence a step": _OF_TEN.section(sizes, _FAITHFUL),
        "3. Larger still": _OF_TEN.section(
            larger_still, _MAIN._replace(datasets=(_LARGE,)), _LARGER, _LARGEST
        ),
    },
    _draw,
)


if __name__ == "__main__":
    decide(CLAIMS)
