"""Claims: tables of a study, what is decided on them, and how it is shown."""

import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from absl import flags
from matplotlib.figure import Figure

from experiments.cli.run import run
from experiments.cli.tables import Tables, existing
from experiments.cli.verdicts import Block, show
from lvm_jax import report
from lvm_jax.report.rows import MissingColumnError

HERE = pathlib.Path(__file__).parents[1]


class Claims(NamedTuple):
    """The claims of one part of the study.

    Attributes:
      name: of the folder of its tables and of the file with its rule.
      sections: tables -> what is decided on them, by title.
      draw: tables -> figures by name.
    """

    name: str
    sections: Mapping[str, Callable[[Tables], Iterator[Block]]]
    draw: Callable[[Tables], Iterator[tuple[str, Figure]]]

    @property
    def tables(self) -> Tables:
        """Those that are kept with the code."""
        return Tables(HERE / self.name)


def blocks(section: Callable[[Tables], Iterator[Block]], tables: Tables) -> list[Block]:
    """Those of a section, or what its tables, of another version, lack."""
    try:
        return list(section(tables))
    except (KeyError, MissingColumnError) as error:
        column, where = _lacking(error, tables)
        names = f"{', '.join(where)} in {tables.folder.name}/"
        return [f"Not there: a column {column!r} of {names}."]


def figures(claims: Claims, tables: Tables) -> dict[str, Figure]:
    """By name; none of tables that lack a column."""
    try:
        return dict(claims.draw(tables))
    except (KeyError, MissingColumnError) as error:
        _lacking(error, tables)
        return {}


def _lacking(
    error: KeyError | MissingColumnError, tables: Tables
) -> tuple[str, list[str]]:
    """The column that is not there and the tables without it; if none is, it raises."""
    is_known = isinstance(error, MissingColumnError)
    column = error.column if is_known else str(error.args[0])
    where = tables.without(column)
    if not where:
        raise error
    return column, where


def decide(claims: Claims) -> None:
    """A binary: prints every section, and draws the figures."""
    folder = flags.DEFINE_string(
        "tables", str(claims.tables.folder), "Folder of the tables."
    )
    to = flags.DEFINE_string(
        "figures", str(HERE / "figures"), "Folder that figures are drawn into."
    )

    def main():
        tables = existing(folder.value)
        for title, section in claims.sections.items():
            show([f"### {title}", *blocks(section, Tables(tables))])
        for name, figure in figures(claims, Tables(tables)).items():
            path = pathlib.Path(to.value) / f"{name}.png"
            report.save(figure, path)
            print(f"figure: {path}")

    run(main)
