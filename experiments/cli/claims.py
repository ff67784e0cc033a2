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
    except KeyError as error:
        (column,) = error.args
        where = ", ".join(tables.without(column)) or "tables"
        return [f"Not there: a column {error} of {where} in {tables.folder.name}/."]


def figures(claims: Claims, tables: Tables) -> dict[str, Figure]:
    """By name; none of tables that lack a column."""
    try:
        return dict(claims.draw(tables))
    except KeyError:
        return {}


def decide(claims: Claims) -> None:
    """A binary: prints every section, and draws the figures."""
    folder = flags.DEFINE_string(
        "tables", str(claims.tables.folder), "Folder of the tables."
    )
    to = flags.DEFINE_string(
        "figures", str(HERE / "figures"), "Folder that figures are drawn into."
    )

    def main():
        tables = Tables(existing(folder.value))
        for title, section in claims.sections.items():
            show([f"### {title}", *blocks(section, tables)])
        for name, figure in figures(claims, tables).items():
            path = pathlib.Path(to.value) / f"{name}.png"
            report.save(figure, path)
            print(f"figure: {path}")

    run(main)
