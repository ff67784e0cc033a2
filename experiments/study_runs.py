"""Runs cells of the study one after the other, each in a process, and keeps tables.

What has its table is not run again, and what was stopped goes on: every binary is
durable. `WORKDIR/PART/NAME` is a cell's workdir, `WORKDIR/tables/PART` has its table.
"""

import contextlib
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

from experiments.cells import Cell
from experiments.cli import made
from lvm_jax.files import atomic
from lvm_jax.training import workdir as layout

_START = 20.0  # seconds of a process before it trains
_SECONDS = 0.014  # of a core for a unit of cost, before any is measured
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_STOPPED = (130, 143)  # statuses of a process that a signal has stopped


def command(cell: Cell, workdir: pathlib.Path) -> list[str]:
    """The command of a cell, without the interpreter."""
    flags = {name: of.format(workdir=workdir) for name, of in cell.flags.items()}
    if "" not in cell.tables:
        flags["workdir"] = str(workdir / cell.part / cell.name)
    given = (f"--{name}={value}" for name, value in flags.items())
    return ["-m", f"experiments.{cell.binary}", *given]


def tables(workdir: pathlib.Path) -> pathlib.Path:
    """The folder of the folders of tables."""
    return workdir / "tables"


def is_done(cell: Cell, workdir: pathlib.Path) -> bool:
    """Whether all tables of a cell are there."""
    folder = tables(workdir) / cell.part
    return all((folder / f"{name}.csv").exists() for name in cell.tables.values())


class Clock:
    """Time that is left, by what has been measured."""

    def __init__(self):
        self._measured = []

    def add(self, cell: Cell, seconds: float) -> None:
        """Takes notice of a cell that took so long."""
        if cell.num_runs:
            self._measured.append((seconds, cell.cost))

    def left(self, cells: Sequence[Cell]) -> float:
        """Seconds that cells will take: a start each, and more by their cost.

        No start takes longer than the shortest cell.
        """
        start = min((seconds for seconds, _ in self._measured), default=_START)
        training = sum(seconds - start for seconds, _ in self._measured)
        cost = sum(cost for _, cost in self._measured)
        speed = _SECONDS / len(os.sched_getaffinity(0))
        if training > start:  # Less of it is a difference between starts.
            speed = training / cost
        return sum(start + cell.cost * speed for cell in cells if cell.num_runs)


def _time(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min"


def describe(cells: Sequence[Cell], workdir: pathlib.Path) -> Iterator[str]:
    """A line for each cell that has no table yet, and one for all of them."""
    clock, missing = Clock(), [cell for cell in cells if not is_done(cell, workdir)]
    for cell in missing:
        text = f"{cell.num_runs} runs, {_time(clock.left([cell]))}"
        yield f"python {shlex.join(command(cell, workdir))}  # {text}"
    runs = sum(cell.num_runs for cell in missing)
    yield (
        f"{len(missing)} of {len(cells)} cells are missing: {runs} runs, about "
        f"{_time(clock.left(missing))}"
    )


def run(cells: Sequence[Cell], workdir: pathlib.Path) -> list[str]:
    """Runs what has no table yet; this process ends as one that was stopped does.

    Returns:
      A line for each cell that failed.
    """
    clock, failures = Clock(), []
    missing = [cell for cell in cells if not is_done(cell, workdir)]
    for index, cell in enumerate(missing):
        left = _time(clock.left(missing[index:]))
        print(f"{cell.part} {cell.name} ({index + 1} of {len(missing)}), {left} left")
        sys.stdout.flush()
        start = time.monotonic()
        status = _status([sys.executable, *command(cell, workdir)])
        if status in _STOPPED or status < 0:
            sys.exit(status if status > 0 else 128 - status)
        if status:
            failures.append(f"{cell.part} {cell.name} ended with status {status}")
            continue
        clock.add(cell, time.monotonic() - start)
        _keep(cell, workdir)
    return failures


def _status(arguments: Sequence[str]) -> int:
    """Of a process to which this one passes on what would stop it."""
    with subprocess.Popen(
        arguments, stdout=subprocess.DEVNULL, start_new_session=True
    ) as process:

        def pass_on(number, _):
            process.send_signal(number)

        before = {number: signal.signal(number, pass_on) for number in _SIGNALS}
        try:
            return process.wait()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _keep(cell: Cell, workdir: pathlib.Path) -> None:
    """Copies the tables of a cell that has ended, and notes how they were made."""
    folder, own = tables(workdir) / cell.part, workdir / cell.part / cell.name
    folder.mkdir(parents=True, exist_ok=True)
    files = {file: name for file, name in cell.tables.items() if file}
    for file, name in files.items():
        content = (own / file).read_bytes()
        atomic.replace(
            folder / f"{name}.csv", lambda out, content=content: out.write(content)
        )
    with contextlib.suppress(FileNotFoundError, KeyError):  # It has trained nothing.
        about = layout.read_json(own / layout.FLAGS)
        made.add(folder, files.values(), made.Made(**about["made"]))
