"""Runs cells of the study, each in a process, and keeps their tables.

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
from concurrent import futures
from typing import Any

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
    """Whether all tables of a cell are there, with anything in them."""
    folder = tables(workdir) / cell.part
    paths = [folder / f"{name}.csv" for name in cell.tables.values()]
    return all(path.exists() and path.stat().st_size for path in paths)


class Clock:
    """Time that is left, by what has been measured."""

    def __init__(self, jobs: int):
        """Of so many cells at a time."""
        self._measured, self._jobs = [], jobs

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
        speed = _SECONDS * self._jobs / len(os.sched_getaffinity(0))
        if training > start:  # Less of it is a difference between starts.
            speed = training / cost
        times = [start + cell.cost * speed for cell in cells if cell.num_runs]
        return max(sum(times) / self._jobs, *times, 0)


def _time(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min"


def describe(
    cells: Sequence[Cell], workdir: pathlib.Path, jobs: int = 1
) -> Iterator[str]:
    """A line for each cell that has no table yet, and one for all of them.

    Args:
      cells: in their order.
      workdir: of all of them.
      jobs: how many are run at a time.
    """
    clock, missing = Clock(jobs), [cell for cell in cells if not is_done(cell, workdir)]
    for cell in missing:
        text = f"{cell.num_runs} runs, {_time(clock.left([cell]))}"
        yield f"python {shlex.join(command(cell, workdir))}  # {text}"
    runs = sum(cell.num_runs for cell in missing)
    yield (
        f"{len(missing)} of {len(cells)} cells are missing: {runs} runs, about "
        f"{_time(clock.left(missing))}"
    )


class _Processes:
    """Processes that run, and signals for all of them."""

    def __init__(self):
        self._running, self._signal = set(), None

    def stop(self, number: int = signal.SIGTERM, _: Any = None) -> None:
        """Sends a signal to all, those that start from now on among them."""
        self._signal = number
        for process in list(self._running):
            process.send_signal(number)

    def run(self, command: Sequence[str]) -> tuple[int, float]:
        """The status that a process ends with, and the seconds it takes."""
        start = time.monotonic()
        with subprocess.Popen(
            command, stdout=subprocess.DEVNULL, start_new_session=True
        ) as process:
            self._running.add(process)
            if self._signal is not None:
                process.send_signal(self._signal)
            status = process.wait()
            self._running.discard(process)
        return status, time.monotonic() - start


def run(cells: Sequence[Cell], workdir: pathlib.Path, jobs: int = 1) -> list[str]:
    """Runs what has no table yet; this process ends as one that was stopped does.

    A cell that trains nothing reads what those before it leave, and waits for them.

    Args:
      cells: in their order.
      workdir: of all of them.
      jobs: how many are run at a time, each on its share of the cores.

    Returns:
      A line for each cell that failed.

    Raises:
      ValueError: if there are fewer cores than jobs.
    """
    clock, failures, running = Clock(jobs), [], {}
    missing = [cell for cell in cells if not is_done(cell, workdir)]
    processes = _Processes()
    with _sharing_cores(processes, jobs) as threads:
        for index, cell in enumerate(missing):
            while len(running) >= (jobs if cell.num_runs else 1):
                failures += _ended(running, clock, workdir, processes)
            left = _time(clock.left([*running.values(), *missing[index:]]))
            print(
                f"{cell.part} {cell.name} ({index + 1} of {len(missing)}), {left} left"
            )
            sys.stdout.flush()
            full = [sys.executable, *command(cell, workdir)]
            running[threads.submit(processes.run, full)] = cell
        while running:
            failures += _ended(running, clock, workdir, processes)
    return failures


def _ended(
    running: dict[futures.Future, Cell],
    clock: Clock,
    workdir: pathlib.Path,
    processes: _Processes,
) -> Iterator[str]:
    """Waits until a cell ends, keeps its tables, and says if it failed."""
    done, _ = futures.wait(running, return_when=futures.FIRST_COMPLETED)
    for future in done:
        cell = running.pop(future)
        status, seconds = future.result()
        if status in _STOPPED or status < 0:
            processes.stop()
            sys.exit(status if status > 0 else 128 - status)
        if status:
            yield f"{cell.part} {cell.name} ended with status {status}"
            continue
        clock.add(cell, seconds)
        try:
            _keep(cell, workdir)
        except FileNotFoundError as error:
            yield f"{cell.part} {cell.name} ended without {error.filename}"


@contextlib.contextmanager
def _sharing_cores(
    processes: _Processes, jobs: int
) -> Iterator[futures.ThreadPoolExecutor]:
    """Threads, each with its share of the cores, which processes inherit.

    A signal that would stop this process stops those instead.
    """
    cores = sorted(os.sched_getaffinity(0))
    if jobs > len(cores):
        raise ValueError(f"expected at most {len(cores)} jobs, one a core, got {jobs}")
    shares = [cores[index::jobs] for index in range(jobs)]
    before = {number: signal.signal(number, processes.stop) for number in _SIGNALS}
    try:
        with futures.ThreadPoolExecutor(
            jobs, initializer=lambda: os.sched_setaffinity(0, shares.pop())
        ) as threads:
            yield threads
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
