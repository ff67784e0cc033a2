r"""The claims about sparse coding, decided on the committed tables.

    python -m experiments.sparse_coding_claims

Reads the kept models of every cell in experiments/sparse_coding/, decides by the rule
in experiments/sparse_coding.md, prints the tables that stand there, and draws their
figures into experiments/figures/. Ten seconds. What has no table is named.
"""

import functools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from experiments.cli.claims import Claims, decide
from experiments.cli.levels import FULL, Rule, Truths, num_runs
from experiments.cli.tables import Rows, Tables
from experiments.cli.verdicts import (
    UNKNOWN,
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

_OF_24 = Truths(24, "columns", "columns")
_RECOVERED = _OF_24.recovered
_DATASETS = ("gamma10", "gamma5")
_OF_MANY = "gamma10"  # of which 96 columns are learned
_MANY, _BEST = 96, 48
_MAIN = Rule("main", _DATASETS, 32, (24, _BEST))
_RATE, _FAST = 0.1, 0.3
_GUARDS = (0.001, 0.01)
_CELLS = [
    Rule(name, (_OF_MANY,), 8, levels, settings=settings)
    for name, levels, settings in (
        ("rates", (_BEST, _MANY), [f"step_size={rate:g}" for rate in (_RATE, _FAST)]),
        ("guards", (_MANY,), [f"guard={guard:g}" for guard in _GUARDS]),
        ("masked", (_MANY,), ()),
        ("long", (_MANY,), ()),
    )
]
_LEAST = -3.0  # columns less, where a reason is the whole of it
_UNBOUNDED = "small singular values are inverted"
_FITTING = "the encoder fits every sample"
_SLOW = "they are slow"
_A_REASON, _THE_WHOLE = "a reason", "the whole reason"


class Way(NamedTuple):
    """A way to take a reason away.

    Attributes:
      reason: for which 96 columns might recover fewer.
      how: it is taken away.
      rows: of 96 columns without it.
      others: of 96 columns with it, otherwise the same.
      few: of 48 columns that these are to come up to.
    """

    reason: str
    how: str
    rows: Rows
    others: Rows
    few: Rows


def ways(rates: Rows, guards: Rows, masked: Rows) -> list[Way]:
    """All of them, of which some may have no rows.

    Args:
      rates: of the cell.
      guards: likewise.
      masked: likewise.
    """
    plain, few = _both(rates, _RATE)
    fast, few_fast = _both(rates, _FAST)
    of_guards = {guard: at(guards, guard=guard) for guard in _GUARDS}
    return [
        *(
            Way(_UNBOUNDED, f"guard {guard:g}", rows, plain, few)
            for guard, rows in of_guards.items()
        ),
        Way(_FITTING, "guard 0.001, a fifth hidden", masked, of_guards[0.001], few),
        Way(_SLOW, "thrice the rate", fast, plain, few_fast),
    ]


def _both(rates: Rows, rate: float) -> tuple[Rows, Rows]:
    """Those of 96 and of 48 columns that are learned at a rate."""
    of_rate = at(rates, step_size=rate)
    return at(of_rate, level=_MANY), at(of_rate, level=_BEST)


def _less(rows: Rows, others: Rows) -> Comparison:
    """Columns recovered in some rows less others; not a number where there are none."""
    if rows and others:
        return _RECOVERED.less(rows, others)
    return UNKNOWN


def part(comparisons: Iterable[Comparison]) -> str:
    """Whether something holds larger dictionaries back.

    Args:
      comparisons: of each way to take it away: without it less with it, adjusted.
    """
    directions = [direction(comparison) for comparison in comparisons]
    if "more" in directions:
        return "holds"
    return "refuted" if set(directions) == {"less"} else "undecided"


def whole(shortfalls: Iterable[Comparison]) -> str:
    """Whether something is the whole of what holds larger dictionaries back.

    Args:
      shortfalls: of what is recovered without it less what fewer columns do, all that
        are asked for.
    """
    return together(above(of, _LEAST) for of in shortfalls)


def _why(
    rates: Mapping[str, Rows],
    guards: Mapping[str, Rows],
    masked: Mapping[str, Rows],
    long: Mapping[str, Rows],
    main: Mapping[str, Rows],
) -> Iterator[Block]:
    """What 96 columns recover with a reason taken away, and as they are for longer."""
    own_rates, *others = (cell.get(_OF_MANY, []) for cell in (rates, guards, masked))
    tried = ways(own_rates, *others)
    compared = [_less(way.rows, way.others) for way in tried]
    decided = list(report.adjust(dict(enumerate(compared))).values())
    short = [_less(way.rows, way.few) for way in tried]
    plain, few = _both(own_rates, _RATE)
    _, few_fast = _both(own_rates, _FAST)
    start = _less(plain, few)
    lines = [
        _line("48 columns as they are", few),
        _line("48, thrice the rate", few_fast),
        _line("96 as they are", plain, less=start),
    ]
    lines += [
        _line(f"96, {way.how}", way.rows, more, less)
        for way, more, less in zip(tried, decided, short, strict=True)
        if way.rows
    ]
    many_long, few_long = long.get(_OF_MANY, []), main.get(_OF_MANY, [])
    few_long = at(few_long, level=_BEST)
    shortfall = _less(many_long, few_long)
    if many_long and few_long:
        lines.append(_line("48 as they are, 2000 epochs", few_long))
        lines.append(_line("96 as they are, 3000 epochs", many_long, less=shortfall))
    headings = ["learned", "runs", "kept after, mean", _RECOVERED.title]
    headings += [FULL.title, "active columns"]
    headings += [f"less with the reason (family of {len(decided)})"]
    yield Table([*headings, "less 48 of the same rate"], lines)
    yield from _before(tried, plain)
    if direction(start) != "less":
        yield Verdict("96 recover fewer than 48", {_OF_MANY: "undecided"})
        return
    for name in dict.fromkeys(way.reason for way in tried):
        own = [index for index, way in enumerate(tried) if way.reason == name]
        says = {_A_REASON: part(decided[index] for index in own)}
        if says[_A_REASON] == "holds":
            best = max(own, key=lambda index: decided[index].estimate)
            longer = [shortfall] if name == _SLOW else []
            says[_THE_WHOLE] = whole([short[best], *longer])
        yield Verdict(f"96 recover fewer because {name}", says)


def _before(tried: Sequence[Way], plain: Rows) -> Iterator[str]:
    """What was decided before the rule was amended: each way less 96 as they are."""
    less = report.adjust(
        {(way.reason, way.how): _less(way.rows, plain) for way in tried}
    )
    (decided,) = (of for (reason, _), of in less.items() if reason == _FITTING)
    if not math.isnan(decided.estimate):
        yield (
            "By the rule before it was amended, a fifth hidden and the guard less 96 "
            f"as they are: {decided.format(2)}: {part([decided])}."
        )


def _line(
    name: str,
    rows: Rows,
    more: Comparison | None = None,
    less: Comparison | None = None,
) -> list[str]:
    """A line of the table of 96 columns."""
    active = [row["level"] - row["num_discarded"] for row in rows]
    return [
        name,
        num_runs(rows),
        f"{np.mean([row['epoch'] for row in rows]):.0f}",
        _RECOVERED.shown(rows),
        FULL.shown(rows),
        f"{np.mean(active):.1f}",
        *(of.format(2) if of else "" for of in (more, less)),
    ]


def _draw(tables: Tables) -> Iterator[tuple[str, Figure]]:
    """Recovery by number of columns, a column for each data set."""
    if main := _OF_24.read(tables, _MAIN):
        yield "sparse_coding_two", _OF_24.plot(main)


CLAIMS = Claims(
    "sparse_coding",
    {
        "1. Larger recovers more": _OF_24.section(
            functools.partial(_OF_24.larger, least=1), _MAIN
        ),
        "2. The surplus is discarded or duplicate": _OF_24.section(
            _OF_24.surplus, _MAIN
        ),
        "3. What holds 96 columns of 100 variables back": _OF_24.section(
            _why, *_CELLS, _MAIN._replace(datasets=(_OF_MANY,), levels=(_BEST,))
        ),
    },
    _draw,
)


if __name__ == "__main__":
    decide(CLAIMS)
