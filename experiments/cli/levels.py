"""Levels of a family compared by the true latents that their runs recover."""

import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from experiments.cli.tables import Rows, Tables
from experiments.cli.verdicts import (
    Block,
    Table,
    Verdict,
    above,
    at,
    direction,
    final,
    verdict,
)
from lvm_jax import report
from lvm_jax.report import Comparison, Interval, summary
from lvm_jax.report.intervals import Limits
from lvm_jax.report.rows import DATA_SEED, group, num_samples

_NO_FULL_RUN = "not decided: no full run"
_LEAST_EXACT = 0.8  # share of exact models, where the filter gives back the truth


def levels_of(rows: Rows) -> list[int]:
    """The levels that rows are of, smallest first."""
    return sorted({row["level"] for row in rows})


def mean_objective(rows: Rows) -> float:
    """Over runs; that of one without a model to keep is the least there is."""
    values = np.array([row["objective"] for row in rows], float)
    return np.where(np.isnan(values), -np.inf, values).mean()


def renamed(rows: Rows, name: str) -> list[dict[str, Any]]:
    """Rows of another level, so that they are not paired with those of their own."""
    return [{**row, "level": name} for row in rows]


def joined(*cells: Mapping[str, Rows]) -> dict[str, list[Mapping[str, Any]]]:
    """The rows of several cells by data set, of those of the first."""
    return {
        name: [row for of in cells for row in of.get(name, [])] for name in cells[0]
    }


def share_verdict(share: Interval | None) -> str:
    """Whether a filter gives back the truth, by the interval of how often."""
    return _NO_FULL_RUN if share is None else above(share, _LEAST_EXACT)


def num_runs(rows: Rows) -> str:
    """How many runs rows are of, those of each sample where there are several."""
    samples = num_samples(rows)
    each = len(rows) / samples
    return f"{each:g} on each of {samples}" if samples > 1 else f"{each:g}"


class Rule(NamedTuple):
    """Which runs a cell has by the rule.

    Attributes:
      name: of the cell.
      datasets: of which it has a table each.
      num_seeds: of every level.
      levels: of every data set, or by data set.
      num_data_seeds: of truths and samples.
      settings: names of those that every level has, where there are several.
    """

    name: str
    datasets: Sequence[str]
    num_seeds: int
    levels: Sequence[Any] | Mapping[str, Sequence[Any]] = ()
    num_data_seeds: int = 1
    settings: Sequence[str] = ()

    def lacking(self, tables: Mapping[str, Rows]) -> dict[str, str]:
        """What has not run: names, with what of them where some has, by data set.

        Args:
          tables: rows by data set.
        """
        found = {}
        for name in self.datasets:
            rows = tables.get(name, [])
            missing = [
                _named(what, absent)
                for what, absent in (
                    ("level", self._absent_levels(name, rows)),
                    ("setting", self._absent_settings(rows)),
                    ("data seed", self._absent_data_seeds(rows)),
                    ("seed", self._absent_seeds(rows)),
                )
                if absent
            ]
            if missing:
                found[name] = f"{name} ({', '.join(missing)})" if rows else name
        return found

    def _absent_levels(self, name: str, rows: Rows) -> list[Any]:
        levels = self.levels
        asked = levels[name] if isinstance(levels, Mapping) else levels
        return [level for level in asked if level not in levels_of(rows)]

    def _absent_settings(self, rows: Rows) -> list[str]:
        """Those that any level lacks."""
        present = {(row["level"], row["setting"]) for row in rows}
        levels = levels_of(rows)
        return [
            name
            for name in self.settings
            if any((level, name) not in present for level in levels)
        ]

    def _absent_data_seeds(self, rows: Rows) -> list[int]:
        present = {row.get(DATA_SEED, 0) for row in rows}
        return [seed for seed in range(self.num_data_seeds) if seed not in present]

    def _absent_seeds(self, rows: Rows) -> list[int]:
        """Those that any level, setting or data seed lacks."""
        columns = {DATA_SEED} & {*rows[0]} if rows else ()
        places = group(rows, "level", "setting", *columns).values()
        seeds = [{row["seed"] for row in some} for some in places]
        common = set.intersection(*seeds) if seeds else set()
        return [seed for seed in range(self.num_seeds) if seed not in common]


def _named(what: str, values: Sequence[Any]) -> str:
    if len(values) == 1:
        return f"{what} {values[0]}"
    return f"{what}s {values[0]} to {values[-1]}"


def undecided_of(
    block: Block, lacking: Collection[str], datasets: Collection[str]
) -> Block:
    """A block; of a verdict, what it says of data sets that lack runs is provisional.

    So is what it says of anything but data sets, if one of them lacks runs.

    Args:
      block: of a section.
      lacking: data sets that lack runs, as the first words of what a verdict is of.
      datasets: all of them.
    """
    if not (isinstance(block, Verdict) and lacking):
        return block
    whole = {*datasets} - {*lacking}
    says = {
        of: final(verdict, of.split(" at ")[0] in whole)
        for of, verdict in block.says.items()
    }
    return block._replace(says=says)


class Column(NamedTuple):
    """A column of a table of kept models, by which levels are compared.

    Attributes:
      name: in the table.
      title: of what it has.
      limits: the least and the largest value that it can have, if there are such.
      digits: decimals that are shown.
      scale: that values are shown in.
    """

    name: str
    title: str
    limits: Limits | None = None
    digits: int = 2
    scale: float = 1.0

    def less(self, rows: Rows, others: Rows) -> Comparison:
        """How much larger it is in some rows than in others."""
        return report.compare(rows, others, self.name, self.limits)

    def mean(self, rows: Rows) -> Interval:
        """Its mean, over runs or over truths and samples."""
        is_clustered = num_samples(rows) > 1
        return summary.interval(rows, self.name, self.limits, is_clustered)

    def format(self, of: Interval | Comparison) -> str:
        """A mean or a difference with its interval."""
        return of.format(self.digits, self.scale)

    def shown(self, rows: Rows) -> str:
        """Its mean with the interval."""
        return self.format(self.mean(rows))


FULL = Column("full", "full recovery, %", (0, 1), 0, 100)


def larger(
    tables: Mapping[str, Rows],
    columns: Sequence[Column],
    least: int = 2,
    learned: str = "latents",
) -> Iterator[Block]:
    """Larger levels less the smallest, in one family of all columns and data sets.

    Args:
      tables: by data set.
      columns: that are compared.
      least: how many of the largest levels have to have more.
      learned: what a level counts.
    """
    decided = report.adjust(
        {
            (dataset, level, column): column.less(
                at(rows, level=level), at(rows, level=levels_of(rows)[0])
            )
            for dataset, rows in tables.items()
            for level in levels_of(rows)[1:]
            for column in columns
        }
    )
    lines = []
    for dataset, rows in tables.items():
        for level in levels_of(rows):
            some = at(rows, level=level)
            line = [dataset, str(level), num_runs(some)]
            for column in columns:
                known = decided.get((dataset, level, column))
                line.append(column.shown(some))
                line.append(column.format(known) if known else "")
            lines.append(line)
    headings = [[column.title, "less the smallest"] for column in columns]
    yield Table(["data", learned, "runs", *itertools.chain(*headings)], lines)
    for column in columns:
        says = {
            dataset: verdict(
                direction(decided[dataset, level, column])
                for level in levels_of(rows)[1:][-least:]
            )
            for dataset, rows in tables.items()
        }
        yield Verdict(f"{column.title} (family of {len(decided)})", says)


class Truths(NamedTuple):
    """What the runs of a family are to recover.

    Attributes:
      number: of true latents.
      noun: for several of them.
      learned: what a level counts.
    """

    number: int
    noun: str = "truths"
    learned: str = "latents"

    @property
    def recovered(self) -> Column:
        """How many of them a run has."""
        title = f"{self.noun} recovered of {self.number}"
        return Column("num_recovered", title, (0, self.number))

    def read(self, tables: Tables, rule: Rule) -> dict[str, Rows]:
        """The tables of a cell by data set, without those that are not there.

        Args:
          tables: of all cells.
          rule: of the cell.
        """
        return {
            dataset: report.add_shares(rows, self.number)
            for dataset in rule.datasets
            if (rows := tables.rows(f"{dataset}_{rule.name}"))
        }

    def section(
        self,
        make: Callable[..., Iterator[Block]],
        *rules: Rule,
    ) -> Callable[[Tables], Iterator[Block]]:
        """A section of cells, and what of them has not run.

        Args:
          make: (rows by data set, of each cell) -> blocks, if the first cell has rows.
          *rules: of the cells.
        """

        def decided(tables):
            found = [self.read(tables, rule) for rule in rules]
            absent = set()
            for rule, rows in zip(rules, found, strict=True):
                if names := rule.lacking(rows):
                    yield f"Not there: {rule.name} of {', '.join(names.values())}."
                    absent |= names.keys()
            for block in make(*found) if found[0] else ():
                yield undecided_of(block, absent, found[0])

        return decided

    def plot(self, tables: Mapping[str, Rows]) -> Figure:
        """Recovery by level, a column for each data set.

        Args:
          tables: by data set, one at least.
        """
        panels = {
            name: report.summarise(rows, self.number, [])
            for name, rows in tables.items()
        }
        return report.plot_data_sets(panels, self.number)

    def larger(self, tables: Mapping[str, Rows], least: int = 2) -> Iterator[Block]:
        """Larger levels less the smallest in truths, and in runs with all of them.

        Args:
          tables: by data set.
          least: how many of the largest levels have to recover more.
        """
        return larger(tables, (self.recovered, FULL), least, self.learned)

    def surplus(self, tables: Mapping[str, Rows]) -> Iterator[Block]:
        """What the filter makes of models that have all truths, and of the others.

        Args:
          tables: by data set.
        """
        lines, says = [], {}
        for name, rows in tables.items():
            larger_ones = [row for row in rows if row["level"] > self.number]
            levels = levels_of(larger_ones)
            for level in levels:
                some = at(rows, level=level)
                discarded, kept, recovered, left = (
                    np.mean([row[column] for row in some])
                    for column in (
                        "num_discarded",
                        "num_kept",
                        self.recovered.name,
                        "num_recovered_after_filter",
                    )
                )
                cells = [f"{discarded:.1f}", f"{level - discarded - kept:.1f}"]
                cells += [f"{kept - left:.2f}", f"{recovered - left:.2f}"]
                lines.append([name, str(level), *cells, *_exact(some)[1]])
            share, cells = _exact(larger_ones)
            if len(levels) > 1:
                lines.append([name, "all of these", "", "", "", "", *cells])
            says[name] = share_verdict(share)
        headings = ["data", self.learned, "discarded", "duplicate"]
        headings += ["survivors without a truth", f"{self.noun} lost by the filter"]
        yield Table([*headings, "exact of full", "share, %"], lines)
        yield Verdict("the filter gives back the truth", says)


def _exact(rows: Rows) -> tuple[Interval | None, list[str]]:
    """Of runs with all truths, the share that the filter leaves with nothing else.

    None where there is no such run; then how many these are, as text, and the share.
    """
    full = [row for row in rows if row[FULL.name]]
    exact = sum(row["exact_after_filter"] for row in full)
    share = report.share_interval(exact, len(full)) if full else None
    text = share.format(0, 100) if share else ""
    return share, [f"{exact} of {len(full)}", text]
