r"""The claims about sparse coding, decided on the committed tables.

    python -m experiments.sparse_coding_claims

Reads the kept models of every cell in experiments/sparse_coding/, decides by the rule
in experiments/sparse_coding.md, prints the tables that stand there, and draws their
figures into experiments/figures/. Ten seconds. What has no table is named.
"""

from collections.abc import Iterable, Iterator, Mapping

from matplotlib.figure import Figure

from experiments.cli.claims import Claims, Tables, decide
from experiments.cli.levels import FULL, TRUTHS, Rows, Truths, missing
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

_OF_24 = Truths(24, "columns")
_DATASETS = ("gamma10", "gamma5")
_PAIRED = "gamma10"  # of which 96 columns are learned
_CELLS = {"rates": 8, "guards": 8, "masked": 8, "long": 8}  # seeds of each
_NUM_SEEDS = 32  # of the others
_MANY, _BEST = 96, 48
_RATE, _FAST = 0.1, 0.3
_GUARDS = (0.001, 0.01)
_LEAST = -3.0  # columns less, where a reason is the whole of it
_UNBOUNDED = "the pseudo-inverse is unbounded"
_FITTING = "the encoder fits every sample"
_SLOW = "it is slow"


def _main(tables: Tables) -> Iterator[Block | Mapping[str, Rows]]:
    """What is lacking, and the rows by data set last."""
    rows = _OF_24.read(tables, "main", _DATASETS)
    if lack := missing("main", _DATASETS, _NUM_SEEDS, rows):
        yield lack
    yield rows


def _larger(tables: Tables) -> Iterator[Block]:
    *lack, rows = _main(tables)
    yield from lack
    if rows:
        yield from _OF_24.larger(rows, least=1)


def _surplus(tables: Tables) -> Iterator[Block]:
    *lack, rows = _main(tables)
    yield from lack
    if rows:
        yield from _OF_24.surplus(rows)


def interventions(cells: Mapping[str, Rows]) -> dict[tuple[str, str], Rows]:
    """Runs of 96 columns by the reason that was taken away, and how it was.

    Args:
      cells: rows by cell.
    """
    of_guards = at(cells["guards"], level=_MANY)
    found = {
        (_UNBOUNDED, f"guard {guard:g}"): at(of_guards, guard=guard)
        for guard in _GUARDS
    }
    found[_FITTING, "a fifth hidden"] = at(cells["masked"], level=_MANY)
    found[_SLOW, "thrice the rate"] = at(cells["rates"], level=_MANY, step_size=_FAST)
    return {place: rows for place, rows in found.items() if rows}


def part(comparisons: Iterable[Comparison]) -> str:
    """Whether something holds larger dictionaries back.

    Args:
      comparisons: of each way to take it away: with it taken away less as they are.
    """
    directions = [direction(comparison) for comparison in comparisons]
    if "more" in directions:
        return "holds"
    return "refuted" if set(directions) == {"less"} else "undecided"


def whole(shortfalls: Iterable[Comparison | None]) -> str:
    """Whether something is the whole of what holds larger dictionaries back.

    Args:
      shortfalls: of what is recovered without it less what fewer columns do, all that
        are asked for; None of those that have not run.
    """
    return together(above(of, _LEAST) if of else "undecided" for of in shortfalls)


def _why(tables: Tables) -> Iterator[Block]:
    cells = {}
    for cell, num_seeds in _CELLS.items():
        rows = _OF_24.read(tables, cell, (_PAIRED,))
        if lack := missing(cell, (_PAIRED,), num_seeds, rows):
            yield lack
        cells[cell] = rows.get(_PAIRED, [])
    if not cells["rates"]:
        return
    plain, few, few_fast = (
        at(cells["rates"], level=level, step_size=rate)
        for level, rate in ((_MANY, _RATE), (_BEST, _RATE), (_BEST, _FAST))
    )
    found = interventions(cells)
    decided = report.adjust(
        {place: _OF_24.less(rows, plain) for place, rows in found.items()}
    )
    shortfalls = {
        place: _OF_24.less(rows, few_fast if place[0] == _SLOW else few)
        for place, rows in found.items()
    }
    start = _OF_24.less(plain, few)
    lines = [
        _line("48 columns as they are", few),
        _line("48, thrice the rate", few_fast),
        _line("96 as they are", plain, None, start),
    ]
    lines += [
        _line(f"96, {place[1]}", rows, decided[place], shortfalls[place])
        for place, rows in found.items()
    ]
    main = _OF_24.read(tables, "main", (_PAIRED,)).get(_PAIRED, [])
    many_long, few_long = cells["long"], at(main, level=_BEST)
    long = None
    if many_long and few_long:
        long = _OF_24.less(many_long, few_long)
        lines.append(_line("48 as they are, longer", few_long))
        lines.append(_line("96 as they are, longer", many_long, None, long))
    headings = ["learned", "epochs", _OF_24.title(TRUTHS), _OF_24.title(FULL)]
    headings += ["active columns", f"less 96 as they are (family of {len(decided)})"]
    yield Table([*headings, "less 48 of the same rate"], lines)
    yield from _reasons(start, decided, shortfalls, long)


def _reasons(
    start: Comparison,
    decided: Mapping[tuple[str, str], Comparison],
    shortfalls: Mapping[tuple[str, str], Comparison],
    long: Comparison | None,
) -> Iterator[Verdict]:
    """A verdict for each reason that was tried, if there is something to explain."""
    if direction(start) != "less":
        yield Verdict("96 recover fewer than 48", {"": "undecided"})
        return
    for of in dict.fromkeys(of for of, _ in decided):
        ways = [place for place in decided if place[0] == of]
        says = {"of it": part(decided[place] for place in ways)}
        if says["of it"] == "holds":
            best = max(ways, key=lambda place: decided[place].estimate)
            asked = [shortfalls[best], *([long] if of == _SLOW else [])]
            says["all of it"] = whole(asked)
        yield Verdict(f"96 recover fewer because {of}", says)


def _line(
    name: str,
    rows: Rows,
    more: Comparison | None = None,
    less: Comparison | None = None,
) -> list[str]:
    """A line of the table of 96 columns."""
    active = [row["num_kept"] for row in rows]
    return [
        name,
        str(max(row["epoch"] for row in rows)),
        _OF_24.mean(rows).format(2),
        _OF_24.mean(rows, FULL).format(0, 100),
        f"{sum(active) / len(active):.1f}",
        *(of.format(2) if of else "" for of in (more, less)),
    ]


def _draw(tables: Tables) -> Iterator[tuple[str, Figure]]:
    """Recovery by number of columns, a column for each data set."""
    panels = {
        name: report.summarise(rows, _OF_24.number, [])
        for name, rows in _OF_24.read(tables, "main", _DATASETS).items()
    }
    if panels:
        yield "sparse_coding_two", report.plot_data_sets(panels, _OF_24.number)


CLAIMS = Claims(
    "sparse_coding",
    {
        "1. Larger recovers more": _larger,
        "2. The surplus is discarded or duplicate": _surplus,
        "3. What holds 96 columns of 100 variables back": _why,
    },
    _draw,
)


if __name__ == "__main__":
    decide(CLAIMS)
