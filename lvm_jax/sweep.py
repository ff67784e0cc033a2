"""Seeds x levels on one axis of runs, trained in compiled chunks of epochs.

The sweep knows runs, levels, data, keys and devices, and no model. All groups of its
plan train in one compiled call, each sharded over the devices and vmapped over its
runs, or over one block of them after the other.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from lvm_jax.plan import Group, SweepConfig, live_mask, plan, run_key, size
from lvm_jax.run import (
    Record,
    Run,
    buckets,
    count_samples,
    init_run,
    keep_if_better,
    train_epoch,
)
from lvm_jax.types import Learner, Level, Recovery

_AXIS = "runs"


class Kept(NamedTuple):
    """The models that the runs of a level keep, as host arrays.

    Attributes:
      params: the learner's `params`, a leading axis of runs on every leaf.
      live: [R, K] mask of the latents of the level.
      objective: [R]. Held-out objective of the models.
      epoch: [R] int. Epochs that they were learned for, 0 if a run diverged before
        there was a model to keep.
      diverged: [R] bool.
    """

    params: Any
    live: Any
    objective: np.ndarray
    epoch: np.ndarray
    diverged: np.ndarray


class Chunk(NamedTuple):
    """What one compiled call has done.

    Attributes:
      epoch: the epoch reached.
      runs: a stacked Run for each group; consumed when the next chunk is asked for.
      records: a Record for each group, of host arrays [R, E] over its runs and the
        call's epochs.
    """

    epoch: int
    runs: tuple[Run, ...]
    records: tuple[Record, ...]


class Memory(NamedTuple):
    """Bytes that a device needs for a sweep.

    Attributes:
      data: of the samples, on every device.
      per_run: of one run's state, twice where it cannot be updated in place, of its
        records, and its share of what the runs that train at once compute with.
      runs: runs of a device, spare ones included.
    """

    data: int
    per_run: float
    runs: int

    @property
    def total(self) -> float:
        """Bytes of the data and of all runs of a device."""
        return self.data + self.runs * self.per_run


class Sweep:
    """A sweep of one learner over seeds and levels.

    Holds only what is static: the state of the runs goes in and comes out.

    Attributes:
      config: what is trained.
      groups: the plan.
    """

    def __init__(
        self,
        learner: Learner,
        recover: Callable[[Any, Any], Recovery],
        config: SweepConfig,
        *,
        train: Any,
        held_out: Any,
        devices: Sequence[jax.Device] | None = None,
    ):
        """Plans the sweep and puts its data on the devices.

        Args:
          learner: the algorithm.
          recover: (params, live) -> Recovery, under jit and vmap. It looks at the
            truth, and nothing that is learned or kept depends on it.
          config: what is trained.
          train: tree of arrays [N, ...] to learn from, or Buckets of them.
          held_out: tree of arrays [N', ...] to evaluate on.
          devices: devices to spread the runs over, all if None.

        Raises:
          ValueError: if a batch is larger than the training data.
        """
        num_samples = min(map(count_samples, buckets(train)))
        if config.batch_size > num_samples:
            raise ValueError(
                f"expected a batch of at most {num_samples}, the number of training "
                f"samples, got {config.batch_size}"
            )
        self.config = config
        self.groups = plan(config.levels, config.seeds)
        self._mesh = Mesh(np.array(devices or jax.devices()), (_AXIS,))
        self._sharding = NamedSharding(self._mesh, PartitionSpec(_AXIS))
        everywhere = NamedSharding(self._mesh, PartitionSpec())
        self._data = jax.device_put((train, held_out), everywhere)
        self._init_runs = functools.partial(_init_runs, learner, config.block)
        self._init = jax.jit(
            jax.shard_map(
                self._init_runs,
                mesh=self._mesh,
                in_specs=PartitionSpec(_AXIS),
                out_specs=PartitionSpec(_AXIS),
                check_vma=False,
            )
        )
        self._chunk = jax.jit(
            jax.shard_map(
                functools.partial(_train_chunk, learner, recover, config),
                mesh=self._mesh,
                in_specs=(PartitionSpec(), PartitionSpec(_AXIS), PartitionSpec()),
                out_specs=PartitionSpec(_AXIS),
                check_vma=False,
            ),
            donate_argnums=1,
        )

    @functools.cached_property
    def _program(self) -> jax.stages.Compiled:
        """The compiled chunk of epochs, for the shapes of this sweep."""
        runs = tuple(
            jax.tree.map(
                lambda leaf: jax.ShapeDtypeStruct(
                    leaf.shape, leaf.dtype, sharding=self._sharding
                ),
                jax.eval_shape(self._init_runs, *self._start(group)),
            )
            for group in self.groups
        )
        span = (np.int32(0), np.int32(0))
        return self._chunk.lower(self._data, runs, span).compile()

    def shapes(self) -> tuple[Run, ...]:
        """Shapes and types of what `gather` returns."""

        def of_group(keys, live, group):
            runs = _with_key(self._init_runs(keys, live), jax.random.key_data)
            return jax.tree.map(lambda leaf: leaf[: len(group.seeds)], runs)

        return tuple(
            jax.eval_shape(
                functools.partial(of_group, group=group), *self._start(group)
            )
            for group in self.groups
        )

    def memory(self) -> Memory:
        """What a device needs, as the compiler has planned it; compiles the sweep."""
        used = self._program.memory_analysis()
        data = sum(leaf.nbytes for leaf in jax.tree.leaves(self._data))
        total = (
            used.argument_size_in_bytes
            + used.output_size_in_bytes
            + used.temp_size_in_bytes
            - used.alias_size_in_bytes
        )
        runs = sum(map(self._num_padded, self.groups)) // self._mesh.size
        return Memory(data, max(total - data, 0) / runs, runs)

    @property
    def num_devices(self) -> int:
        """Devices that the runs are spread over."""
        return self._mesh.size

    @property
    def num_at_once(self) -> int:
        """Runs of a group that train side by side, at least: a block on each device."""
        return self._mesh.size * (self.config.block or 1)

    def padding(self) -> float:
        """The share of latents, over all runs, that are padding or of spare runs."""
        latents = sum(size(level) for group in self.groups for level in group.levels)
        padded = sum(
            size(group.width) * self._num_padded(group) for group in self.groups
        )
        return 1 - latents / padded

    def _num_padded(self, group: Group) -> int:
        return len(group.seeds) + -len(group.seeds) % self.num_at_once

    def _start(self, group: Group) -> tuple[np.ndarray, Any]:
        """Key data and masks of a group's runs, filled up with repeats of the last."""
        runs = list(zip(group.seeds, group.levels, strict=True))
        runs += runs[-1:] * (self._num_padded(group) - len(runs))
        keys = [jax.random.key_data(run_key(seed, level)) for seed, level in runs]
        masks = [live_mask(level, group.width) for _, level in runs]
        live = jax.tree.map(lambda *mask: np.stack(mask), *masks)
        return np.stack(jax.device_get(keys)), live

    def init(self) -> tuple[Run, ...]:
        """The runs before the first epoch, a stacked Run for each group.

        A group is filled up to whole blocks on every device with repeats of its last
        run.
        """
        return tuple(self._init(*self._start(group)) for group in self.groups)

    def gather(self, runs: tuple[Run, ...]) -> tuple[Run, ...]:
        """Copies runs to the host, without spare ones and with keys as numbers.

        Args:
          runs: from `init` or a chunk. With several processes, all call this, and
            all get all runs.

        Returns:
          A Run of arrays for each group, which training does not touch.
        """
        return tuple(
            jax.tree.map(lambda leaf, group=group: leaf[: len(group.seeds)], run)
            for group, run in zip(
                self.groups,
                _gather([_with_key(run, jax.random.key_data) for run in runs]),
                strict=True,
            )
        )

    def place(self, runs: tuple[Run, ...]) -> tuple[Run, ...]:
        """Puts runs from `gather` on this sweep's devices, however many there are."""

        def on_devices(leaf, num_padded):
            spare = np.repeat(leaf[-1:], num_padded - len(leaf), axis=0)
            leaf = np.concatenate([leaf, spare])
            return jax.make_array_from_callback(
                leaf.shape, self._sharding, lambda index: leaf[index]
            )

        placed = [
            jax.tree.map(
                functools.partial(on_devices, num_padded=self._num_padded(group)), run
            )
            for group, run in zip(self.groups, runs, strict=True)
        ]
        return tuple(_with_key(run, jax.random.wrap_key_data) for run in placed)

    def train(self, runs: tuple[Run, ...], start: int, stop: int) -> Iterator[Chunk]:
        """Trains from after epoch `start` to `stop`, a compiled call at a time.

        Args:
          runs: from `init`, `place` or an earlier chunk. They are consumed.
          start: the epoch that they have reached.
          stop: the epoch to reach.

        Yields:
          A Chunk after each compiled call.
        """
        for done in range(start, stop, self.config.epochs_per_call):
            count = min(self.config.epochs_per_call, stop - done)
            span = (np.int32(done), np.int32(count))
            runs, records = self._program(self._data, runs, span)
            records = tuple(
                jax.tree.map(
                    lambda leaf, group=group, count=count: leaf[
                        : len(group.seeds), :count
                    ],
                    record,
                )
                for group, record in zip(self.groups, _gather(records), strict=True)
            )
            yield Chunk(done + count, runs, records)

    def kept(self, runs: tuple[Run, ...], epoch: int) -> dict[Level, Kept]:
        """What every run keeps when training ends: its best candidate.

        The last epoch, which may lie between two snapshots, is a candidate too.

        Args:
          runs: from `gather`.
          epoch: the epoch that they have reached.

        Returns:
          The models of each level, by seed as the config lists them.
        """
        keep = jax.jit(
            jax.vmap(functools.partial(keep_if_better, is_candidate=True), (0, None))
        )
        kept = {}
        for group, run in zip(self.groups, runs, strict=True):
            run = jax.device_get(keep(run, epoch))
            models = Kept(
                run.kept, run.live, run.kept_objective, run.kept_epoch, run.diverged
            )
            for start in range(0, len(group.seeds), len(self.config.seeds)):
                own = slice(start, start + len(self.config.seeds))
                kept[group.levels[start]] = jax.tree.map(
                    lambda leaf, own=own: leaf[own], models
                )
        return {level: kept[level] for level in self.config.levels}


def _init_runs(learner: Learner, block: int | None, keys: np.ndarray, live: Any) -> Run:
    """The runs of a group, from key data [R, ...] and masks [R, K]."""
    return jax.lax.map(
        lambda start: init_run(learner, jax.random.wrap_key_data(start[0]), start[1]),
        (keys, live),
        batch_size=block or len(keys),
    )


def _with_key(run: Run, convert: Callable[[Any], Any]) -> Run:
    return run._replace(key=convert(run.key))


def _gather(tree: Any) -> Any:
    """Copies of arrays that are spread over devices, of other processes too."""
    if jax.process_count() > 1:
        return multihost_utils.process_allgather(tree, tiled=True)
    return jax.tree.map(np.array, tree)


def _train_chunk(
    learner: Learner,
    recover: Callable[[Any, Any], Recovery],
    config: SweepConfig,
    data: tuple[Any, Any],
    groups: tuple[Run, ...],
    span: tuple[chex.Array, chex.Array],
) -> tuple[tuple[Run, ...], tuple[Record, ...]]:
    """Trains every group of a device. The number of epochs is a traced value, so that
    one compiled program serves calls of any length up to `epochs_per_call`.
    """
    start, count = span
    # Under jit the epoch is traced once, for its shapes and for its code.
    train_one_epoch = jax.jit(
        jax.vmap(
            functools.partial(train_epoch, learner, recover, config, *data), (0, None)
        )
    )

    def train_epochs(carry):
        def one_epoch(index, carry):
            runs, records = carry
            runs, record = train_one_epoch(runs, start + index + 1)
            records = jax.tree.map(
                lambda epochs, value: epochs.at[:, index].set(value), records, record
            )
            return runs, records

        return jax.lax.fori_loop(0, count, one_epoch, carry)

    def train_group(runs):
        block = config.block or len(runs.diverged)
        _, record = jax.eval_shape(
            lambda runs: train_one_epoch(_slice(runs, 0, block), start), runs
        )
        shape = len(runs.diverged), config.epochs_per_call
        records = jax.tree.map(lambda leaf: jnp.zeros(shape, leaf.dtype), record)
        return _by_block(train_epochs, block, (runs, records))

    trained = [train_group(runs) for runs in groups]
    return tuple(runs for runs, _ in trained), tuple(records for _, records in trained)


def _slice(tree: Any, start: chex.Array, size: int) -> Any:
    return jax.tree.map(
        lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, start, size), tree
    )


def _by_block(function: Callable[[Any], Any], block: int, tree: Any) -> Any:
    """Applies a function to `block` rows of a tree at a time, each in their place.

    The number of rows is a multiple of `block`.
    """
    num_rows = len(jax.tree.leaves(tree)[0])
    if num_rows == block:
        return function(tree)

    def one_block(index, tree):
        start = index * block
        return jax.tree.map(
            lambda leaf, part: jax.lax.dynamic_update_slice_in_dim(
                leaf, part, start, axis=0
            ),
            tree,
            function(_slice(tree, start, block)),
        )

    return jax.lax.fori_loop(0, num_rows // block, one_block, tree)
