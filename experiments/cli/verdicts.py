"""What intervals and comparisons say of a claim, and the tables that show it."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from lvm_jax.report import Comparison, Interval


class Table(NamedTuple):
    """A table, of text.

    Attributes:
      headings: of the columns.
      lines: of cells, one for each heading.
    """

    headings: Sequence[str]
    lines: Sequence[Sequence[str]]


class Verdict(NamedTuple):
    """What the data say of a claim.

    Attributes:
      claim: which.
      says: verdicts by what they are of, a data set or a level; "" for all of them.
    """

    claim: str
    says: Mapping[str, str]


Block = Table | Verdict | str  # what a section of the claims is made of, text included

UNKNOWN = Comparison(math.nan, math.nan, math.nan, math.nan, "")  # of too few rows
_SIGNIFICANT = 0.05


def direction(comparison: Comparison) -> str:
    """More, less, or undecided, of a comparison that is adjusted for its family."""
    if not comparison.p_value < _SIGNIFICANT:
        return "undecided"
    return "more" if comparison.estimate > 0 else "less"


def verdict(directions: Iterable[str]) -> str:
    """What the directions of differences that are claimed to be *more* say."""
    of_each = {"more": "holds", "less": "refuted", "undecided": "undecided"}
    return together(of_each[direction] for direction in directions)


def above(interval: Interval | Comparison, least: float) -> str:
    """What an interval says of the claim that all of it is above a number."""
    if interval.low > least:
        return "holds"
    return "refuted" if interval.high < least else "undecided"


def together(verdicts: Iterable[str]) -> str:
    """Of a claim that all of several hold: refuted if one is."""
    verdicts = list(verdicts)
    if all(verdict == "holds" for verdict in verdicts):
        return "holds"
    return "refuted" if "refuted" in verdicts else "undecided"


def final(verdict: str, is_whole: bool) -> str:
    """A verdict, or what it is so far where not all runs of the rule are there."""
    if is_whole or verdict.startswith("not decided"):
        return verdict
    return f"not decided: runs are lacking, so far {verdict}"


def alike(comparison: Comparison, margin: float) -> str:
    """What a difference is: alike, more, less, or undecided.

    One that lies within the margin makes none, however sure it is.
    """
    if max(-comparison.low, comparison.high) <= margin:
        return "alike"
    return direction(comparison)


def at(rows: Iterable[Mapping[str, Any]], **values: Any) -> list[Mapping[str, Any]]:
    """The rows that have these values."""
    return [row for row in rows if all(row[key] == of for key, of in values.items())]


def show(blocks: Iterable[Block]) -> None:
    """Prints blocks as Markdown, an empty line after each."""
    for block in blocks:
        if isinstance(block, Table):
            for cells in (block.headings, ["---"] * len(block.headings), *block.lines):
                print(f"| {' | '.join(cells)} |")
        elif isinstance(block, Verdict):
            says = (f"{of} {verdict}".strip() for of, verdict in block.says.items())
            print(f"{block.claim}: {', '.join(says)}")
        else:
            print(block)
        print()
