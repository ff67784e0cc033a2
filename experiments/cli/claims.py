"""Claims: tables of a study, what is decided on them, and how it is shown."""

import dataclasses
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from absl import flags
from matplotlib.figure import Figure

from experiments.cli.run import run
from experiments.cli.verdicts import Block, show
from lvm_jax import report

HERE = pathlib.Path(__file__).parents[1]


@dataclasses.dataclass(frozen=True)
class Tables:
    """A folder of tables, of which some may not be there.

    Attributes:
      folder: where.
      names: of those that have been read, as keys.
    """

    folder: pathlib.Path
    names: dict[str, None] = dataclasses.field(default_factory=dict)

    def rows(self, name: str) -> list[dict[str, Any]]:
        """Rows of NAME.csv, and of NAME_0.csv, NAME_16.csv, ... where it is in parts.

        There are none if it is not there.
        """
        parts = sorted(self.folder.glob(f"{name}_*.csv"))
        parts = [path for path in parts if path.stem[len(name) + 1 :].isdigit()]
        paths = [*self.folder.glob(f"{name}.csv"), *parts]
        self.names.update(dict.fromkeys(path.stem for path in paths))
        return [row for path in paths for row in report.read_rows(path)]

    def lacking(self, names: Iterable[str]) -> Iterator[str]:
        """A line with the names of those that are not there, if there are any."""
        if absent := [name for name in names if not self.rows(name)]:
            yield f"Not there: {', '.join(absent)}."


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


def existing(folder: str) -> pathlib.Path:
    """A folder of tables that is there.

    Raises:
      ValueError: if it is not.
    """
    path = pathlib.Path(folder)
    if not path.is_dir():
        raise ValueError(f"expected a folder of tables as --tables, got {folder!r}")
    return path


def decide(claims: Claims) -> None:
    """A binary: prints every section, and draws the figures."""
    folder = flags.DEFINE_string(
        "tables", str(claims.tables.folder), "Folder of the tables."
    )
    figures = flags.DEFINE_string(
        "figures", str(HERE / "figures"), "Folder that figures are drawn into."
    )

    def main():
        tables = Tables(existing(folder.value))
        for title, section in claims.sections.items():
            show([f"### {title}", *section(tables)])
        for name, figure in claims.draw(tables):
            path = pathlib.Path(figures.value) / f"{name}.png"
            report.save(figure, path)
            print(f"figure: {path}")

    run(main)
