"""When, on what machine and with which JAX a table was made."""

import contextlib
import datetime
import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax

from lvm_jax import report
from lvm_jax.files import table
from lvm_jax.training import workdir as layout

FILE = "made.csv"  # of a folder of tables, a row for each


class Made(NamedTuple):
    """How a table was made.

    Attributes:
      date: as YYYY-MM-DD.
      machine: devices and their kind.
      jax: version.
    """

    date: str
    machine: str
    jax: str

    def __str__(self):
        return f"{self.date}, {self.machine}, JAX {self.jax}"


def here(devices: Sequence[jax.Device]) -> dict[str, str]:
    """What is made now, on these devices, as JSON has it."""
    kind, number = devices[0].device_kind, len(devices)
    if devices[0].platform == "cpu":
        kind = f"{'core' if number == 1 else 'cores'} of {_processor()}"
    machine = f"{number} {kind}"
    return Made(str(datetime.date.today()), machine, jax.__version__)._asdict()


def again(path: pathlib.Path, about: Mapping[str, Any]) -> dict[str, str] | None:
    """How it was made before, where the same has been asked for; None if it was not.

    Args:
      path: of what was asked for then, as JSON.
      about: what is asked for now.
    """
    with contextlib.suppress(OSError, ValueError):
        before = layout.read_json(path)
        known = before.pop("made", None)
        if before == json.loads(json.dumps(about)):
            return known
    return None


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return "an unknown processor"


def read(folder: pathlib.Path) -> dict[str, Made]:
    """How the tables of a folder were made, by name, of those of which it is known."""
    if not (folder / FILE).exists():
        return {}
    rows = report.read_rows(folder / FILE)
    return {
        row["table"]: Made(*(str(row[name]) for name in Made._fields)) for row in rows
    }


def add(folder: pathlib.Path, names: Iterable[str], how: Made) -> None:
    """Notes how tables of a folder were made."""
    known = read(folder) | dict.fromkeys(names, how)
    rows = [{"table": name} | known[name]._asdict() for name in sorted(known)]
    table.write_rows(folder / FILE, rows)


def lines(names: Iterable[str], known: dict[str, Made]) -> list[str]:
    """Tables that were made alike, and how, a line for each."""
    groups = {}
    for name in names:
        groups.setdefault(known.get(name), []).append(name)
    return [
        f"{', '.join(of)}: {how or 'not known when and where'}"
        for how, of in groups.items()
    ]
