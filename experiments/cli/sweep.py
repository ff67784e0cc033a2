"""Flags of a sweep: what is trained, where and on what, and what is done by them."""

import dataclasses
import itertools
import os
import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from absl import flags

import lvm_jax
from experiments.cli import failure, made
from experiments.cli.definitions import (
    define_fields,
    define_levels,
    define_whole_numbers,
    given_flags,
)
from lvm_jax.sweep import devices
from lvm_jax.training import (
    Interruption,
    Progress,
    WorkdirError,
    describe,
    ownership,
    waves,
    workdir,
)
from lvm_jax.training.identity import identity, plan_as_json
from lvm_jax.training.job import check_alike
from lvm_jax.types import Hyperparams, Level, Task

_OF_ONE_PROCESS = ("coordinator", "process_id", "workdir")  # not of all of a job
_OF_SEVERAL = {"data_seeds": "a workdir of each"}  # identity of a workdir of others
_EXIT_STOPPED = 143  # of a process whose job was told to stop by another


class Trained(NamedTuple):
    """What a workdir holds once training has ended.

    Attributes:
      results: of the plan.
      task: with the data that the workdir began with.
    """

    results: lvm_jax.Results
    task: Task


class Sweep:
    """The flags of a sweep: what is trained, where, and on what."""

    def __init__(
        self,
        hyperparams: type | Mapping[str, type],
        *,
        levels: Sequence[int],
        **defaults: int,
    ):
        """Defines the flags.

        Args:
          hyperparams: NamedTuple of the learner's, a flag for each of its fields; or
            of each learner by name, of which `--learner` chooses one, by default the
            first.
          levels: default of `--levels`.
          **defaults: of other flags that are whole numbers.
        """
        if not isinstance(hyperparams, Mapping):
            hyperparams = {"": hyperparams}
        self._hyperparams, self._learner = dict(hyperparams), None
        if len(hyperparams) > 1:
            self._learner = flags.DEFINE_enum(
                "learner", next(iter(hyperparams)), list(hyperparams), "What learns."
            )
        self._levels = define_levels(levels)
        self._fields = {}
        for record in hyperparams.values():
            define_fields(record, self._fields)
        self._whole = define_whole_numbers(**defaults)
        self._workdir = flags.DEFINE_string(
            "workdir",
            None,
            "Directory for results and figures. One that is there is gone on with: an "
            "interrupted sweep is resumed, and more seeds, levels, settings or epochs "
            "are added.",
            required=True,
        )
        self._overwrite = flags.DEFINE_bool(
            "overwrite", False, "Remove the results in --workdir and start anew."
        )
        self._memory_limit = flags.DEFINE_float(
            "memory_limit",
            None,
            "MiB that a sweep may use on each device: a larger one is trained in "
            "waves. By default what it has, of a CPU its share of the machine's.",
            lower_bound=0.0,
        )
        self._dry_run = flags.DEFINE_bool(
            "dry_run",
            False,
            "Print the plan (settings, runs, groups, waves, bytes, padding) and stop.",
        )
        self._coordinator = flags.DEFINE_string(
            "coordinator",
            None,
            "HOST:PORT of the first process, to run as one of several; "
            "$JAX_COORDINATOR_ADDRESS if not given.",
        )

    @property
    def workdir(self) -> pathlib.Path:
        """`--workdir`."""
        return pathlib.Path(self._workdir.value)

    @property
    def levels(self) -> tuple[int, ...]:
        """`--levels`."""
        return tuple(map(int, self._levels.value))

    @property
    def learner(self) -> str:
        """`--learner`."""
        if self._learner is None:
            return next(iter(self._hyperparams))
        return self._learner.value

    def set_defaults(self, **defaults: int) -> None:
        """Gives flags that are whole numbers other values, where they are not given."""
        for name, value in defaults.items():
            flags.set_default(self._whole[name], value)

    @property
    def batch_size(self) -> int:
        """`--batch_size`."""
        return self._whole["batch_size"].value

    @property
    def num_epochs(self) -> int:
        """`--epochs`."""
        return self._whole["epochs"].value

    @property
    def is_dry_run(self) -> bool:
        """`--dry_run`."""
        return self._dry_run.value

    @property
    def is_overwriting(self) -> bool:
        """`--overwrite`."""
        return self._overwrite.value

    def start(self) -> None:
        """Joins the job that flags or environment name, and chooses devices.

        Comes before anything that uses JAX.

        Raises:
          ValueError: if processes do not come together, or there are fewer devices than
            asked for.
        """
        whole = {name: holder.value for name, holder in self._whole.items()}
        place = devices.place_in_job(
            self._coordinator.value, whole["num_processes"], whole["process_id"]
        )
        if place is not None:
            seconds = whole["join_seconds"]
            others = f"{place.num_processes} processes at {place.coordinator}"
            failure.silence()
            failure.on_abort(f"expected {others} in {seconds} s, got fewer")
            devices.join(place, seconds)
            failure.on_abort(failure.LOST)
        self._devices = devices.configure(whole["devices"])
        given = given_flags()
        alike = given.keys() - {*_OF_ONE_PROCESS}
        check_alike(lambda: {name: given[name] for name in alike})

    def plan(
        self,
        base: Mapping[Level, Hyperparams] | None = None,
        *,
        name: str = "study",
        levels: Sequence[Level] | None = None,
        **more: Any,
    ) -> lvm_jax.Plan:
        """The plan of the flags: a setting for each combination of hyperparameters.

        Args:
          base: hyperparameters for each level, of which those that are given as flags
            take the place; the learner's defaults if None.
          name: of the setting where no flag is given; "default" without a base.
          levels: instead of the flag's.
          **more: further fields of Plan.

        Raises:
          ValueError: if a flag is out of range.
        """
        levels = self.levels if levels is None else levels
        record = self._hyperparams[self.learner]
        if base is None:
            base, name = dict.fromkeys(levels, record()), "default"
        given = {
            name: holder.value
            for name, holder in self._fields.items()
            if holder.value is not None
        }
        if not given.keys() <= set(record._fields):
            raise ValueError(
                f"expected flags of {self.learner}, {', '.join(record._fields)}, got "
                f"{', '.join(given)}"
            )
        settings = {}
        for values in itertools.product(*given.values()):
            changes = dict(zip(given, map(float, values), strict=True))
            text = " ".join(f"{key}={value}" for key, value in changes.items())
            if text in settings:
                raise ValueError(f"expected settings without repeats, got {text} twice")
            settings[text or name] = {
                level: base[level]._replace(**changes) for level in levels
            }
        first = self._whole["seed"].value
        whole = {name: holder.value for name, holder in self._whole.items()}
        fields = {
            name: whole[name]
            for name in ("batch_size", "records_per_epoch", "epochs_per_call", "block")
        }
        return lvm_jax.Plan(
            levels=levels,
            seeds=range(first, first + whole["num_seeds"]),
            settings=settings,
            **{**fields, **more},
        )

    def _where(self, workdir: pathlib.Path) -> dict[str, Any]:
        """Arguments of `lvm_jax.train` and `describe`."""
        limit = self._memory_limit.value
        return {
            "workdir": workdir,
            "memory_limit": None if limit is None else limit * 2**20,
            "devices": self._devices,
            "overwrite": self.is_overwriting,
        }

    def _run(
        self,
        task: Task,
        plan: lvm_jax.Plan,
        num_epochs: int,
        where: Mapping[str, Any],
        **more: Any,
    ) -> lvm_jax.Results:
        """Trains in a workdir; the process ends here after a signal."""
        with Interruption() as stop:
            try:
                results = lvm_jax.train(
                    task,
                    plan,
                    num_epochs,
                    checkpoint_every=self._whole["checkpoint_every"].value,
                    stop=stop,
                    **where,
                    **more,
                )
            except lvm_jax.Stopped:
                sys.exit(stop.status or _EXIT_STOPPED)
        if stop():
            sys.exit(stop.status)
        return results

    def _hold(self, asked: Mapping[str, Any] | None = None) -> None:
        """Holds the workdir until the binary ends, its report included.

        Args:
          asked: its identity; None for any.
        """
        if devices.is_first_process():
            failure.at_end.enter_context(ownership.opened(self.workdir, asked))

    def check(self, task: Task, plan: lvm_jax.Plan) -> None:
        """Refuses what `train` would refuse, before the task's data are there.

        Args:
          task: with others in their place, which may make another number of batches.
          plan: as `train` has it.

        Raises:
          ValueError: if the workdir or a flag does not fit.
          OSError: if the workdir cannot be written.
        """
        uncut = dataclasses.replace(plan, records_per_epoch=1)
        block = lvm_jax.Sweep(task, uncut, devices=self._devices).block
        if not devices.is_first_process():
            return
        asked = None if self.is_overwriting else identity(task, plan, block)
        ownership.check(self.workdir, asked)
        if not self.is_overwriting:
            waves.missing(workdir.read_waves(self.workdir, plan), plan)
        if not self.is_dry_run:
            self._hold()

    def prepare(
        self,
        task: Task,
        plan: lvm_jax.Plan,
        num_epochs: int,
        *,
        name: str,
        progress: Callable[[Progress], None],
    ) -> lvm_jax.Results | None:
        """Trains what the task is made from, as durably, in a workdir of its own.

        It is beside `--workdir`, whose name it has with one more suffix, and is never
        overwritten. The process ends here after a signal.

        Args:
          task: of this training.
          plan: likewise.
          num_epochs: likewise.
          name: the suffix.
          progress: as `lvm_jax.train` has it.

        Returns:
          The results; None in a dry run, where they are not there yet.

        Raises:
          ValueError: if that workdir or a flag does not fit.
          OSError: if that workdir cannot be written.
        """
        beside = pathlib.Path(f"{os.path.abspath(self.workdir)}.{name}")
        where = self._where(beside) | {"overwrite": False}
        try:
            if not self.is_dry_run:
                return self._run(task, plan, num_epochs, where, progress=progress)
            print(describe(task, plan, **where))
        except WorkdirError as error:
            raise ValueError(f"{error}; it is yours to remove") from error
        has_ended = (beside / workdir.RESULTS).exists()
        return lvm_jax.load(beside) if has_ended else None

    def train(self, task: Task, plan: lvm_jax.Plan) -> Trained:
        """Trains what `--workdir` does not hold yet.

        The process ends here after a dry run or a signal, and if it is not the first
        one of a job.

        Raises:
          ValueError: if the workdir or a flag does not fit.
          OSError: if the workdir cannot be written.
        """
        where = self._where(self.workdir)
        if self.is_dry_run:
            print(describe(task, plan, **where))
            sys.exit(0)
        self._hold()
        trained = self._train_in(self.workdir, task, plan)
        self._end(plan)
        return trained

    def train_each(
        self,
        make_task: Callable[[int], Task],
        data_seeds: Sequence[int],
        plan: lvm_jax.Plan,
    ) -> dict[int, Trained]:
        """Trains a plan on the data of each data seed, as `train` does.

        The data of one seed are trained on in `--workdir`; those of several in a
        workdir each, data0 for seed 0, which `--workdir` then has in it. Data of the
        same shapes share the compiled program.

        Args:
          make_task: data seed -> task.
          data_seeds: of the data.
          plan: what is trained on each.

        Raises:
          ValueError: if a workdir or a flag does not fit.
          OSError: if a workdir cannot be written.
        """
        if len(data_seeds) == 1:
            return {seed: self.train(make_task(seed), plan) for seed in data_seeds}
        folders = {seed: self.workdir / f"data{seed}" for seed in data_seeds}
        if self.is_dry_run:
            for seed, folder in folders.items():
                print(f"data seed {seed}:")
                print(describe(make_task(seed), plan, **self._where(folder)))
            sys.exit(0)
        task = make_task(data_seeds[0])  # What it refuses leaves no workdir.
        if devices.is_first_process():
            self._begin_several(list(folders.values()))
        trained = {}
        for seed, folder in folders.items():
            print(f"data seed {seed}:", flush=True)
            task = task if seed == data_seeds[0] else make_task(seed)
            trained[seed] = self._train_in(folder, task, plan)
        self._end(plan)
        return trained

    def _train_in(
        self, folder: pathlib.Path, task: Task, plan: lvm_jax.Plan
    ) -> Trained:
        """Trains in a workdir, of which the first process of a job reads the task."""
        where = self._where(folder)
        results = self._run(task, plan, self.num_epochs, where)
        if devices.is_first_process():
            task = workdir.read_task(folder, task)
        return Trained(results, task)

    def _begin_several(self, folders: Sequence[pathlib.Path]) -> None:
        """Makes the workdir that is held one of others, once they are checked."""
        self._hold(None if self.is_overwriting else _OF_SEVERAL)
        for folder in folders:
            ownership.check(folder, None)
        if self.is_overwriting:
            left = {*ownership.clear(self.workdir)} - {path.name for path in folders}
            ownership.warn_of(self.workdir, sorted(left))
        workdir.mark(self.workdir, _OF_SEVERAL)

    def _end(self, plan: lvm_jax.Plan) -> None:
        """Ends processes but the first, which writes what was asked for."""
        if not devices.is_first_process():
            sys.exit(0)
        about = {"flags": given_flags(), "plan": plan_as_json(plan)}
        path = self.workdir / workdir.FLAGS
        about["made"] = made.again(path, about) or made.here(self._devices)
        workdir.write_json(path, about)
