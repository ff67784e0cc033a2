"""Seeds x levels on one axis of runs, trained in compiled chunks of epochs.

The sweep knows runs, levels, data, keys and devices, and no model. Levels of similar
width share a group, padded to the widest; all groups train in one compiled call,
each vmapped over its runs and sharded over the devices.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from lvm_jax.numerics import permutation
from lvm_jax.types import Buckets, Learner, Level, Recovery

# The largest ratio of a group's width to a level's in it.
_MAX_PADDING = 1.3
_AXIS = "runs"


@dataclasses.dataclass(frozen=True)
class SweepConfig:
    """What is trained and how it is cut into compiled calls.

    Attributes:
      levels: numbers of latents.
      seeds: one run for each, at each level.
      batch_size: B, samples of one step.
      epochs_per_call: epochs of one compiled call. It changes when results are
        seen, never what they are.
      snapshot_every: the model of every so many epochs is a candidate to be kept,
        100 in the study.
    """

    levels: tuple[Level, ...]
    seeds: tuple[int, ...]
    batch_size: int = 20
    epochs_per_call: int = 10
    snapshot_every: int = 100

    def __post_init__(self):
        """Checks every field.

        Raises:
          ValueError: if a field is out of range.
        """
        for name in ("levels", "seeds"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise ValueError(f"expected {name} without repeats, got {values}")
        for level in self.levels:
            if min(jax.tree.leaves(level)) < 1:
                raise ValueError(f"expected levels of at least 1, got {level}")
        for name in ("batch_size", "epochs_per_call", "snapshot_every"):
            value = getattr(self, name)
            if value < 1:
                raise ValueError(f"expected {name} of at least 1, got {value}")


class Group(NamedTuple):
    """Runs that share a width.

    Attributes:
      width: the number of latents that the group's runs are padded to.
      levels: [R]. Level of each run.
      seeds: [R]. Seed of each run.
    """

    width: Level
    levels: tuple[Level, ...]
    seeds: tuple[int, ...]


class Run(NamedTuple):
    """One run of a sweep, or with a leading axis all runs of a group.

    Attributes:
      key: the run's random key, from its seed and level.
      live: [K] mask of the latents of its level.
      state: the learner's.
      objective: [] the last epoch's held-out objective.
      kept: the learner's `params` of the best snapshot by held-out objective.
      kept_objective: [] held-out objective of `kept`, -inf before there is one.
      kept_epoch: [] epoch of `kept`, 0 before there is one.
      diverged: [] bool. Whether an objective has not been finite.
    """

    key: chex.PRNGKey
    live: Any
    state: Any
    objective: chex.Array
    kept: Any
    kept_objective: chex.Array
    kept_epoch: chex.Array
    diverged: chex.Array


class Record(NamedTuple):
    """What is known of a run after an epoch; with leading axes, of runs and epochs.

    Attributes:
      train: the steps' metrics, averaged over the epoch.
      held_out: the evaluation's metrics.
      recovery: scalars of the run's Recovery; its arrays are left out.
      diverged: [] bool.
    """

    train: dict[str, chex.Array]
    held_out: dict[str, chex.Array]
    recovery: dict[str, chex.Array]
    diverged: chex.Array


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
        records and of what a step computes with.
      runs: runs of a device, spare ones included.
    """

    data: int
    per_run: float
    runs: int

    @property
    def total(self) -> float:
        """Bytes of the data and of all runs of a device."""
        return self.data + self.runs * self.per_run


class Keys(NamedTuple):
    """Independent random keys of a run, one for each use."""

    init: chex.PRNGKey
    order: chex.PRNGKey
    step: chex.PRNGKey
    evaluate: chex.PRNGKey


def run_key(seed: int, level: Level) -> chex.PRNGKey:
    """The random key of a run: it depends on its seed and level alone."""
    return functools.reduce(
        jax.random.fold_in, jax.tree.leaves(level), jax.random.key(seed)
    )


def plan(levels: Sequence[Level], seeds: Sequence[int]) -> tuple[Group, ...]:
    """Puts levels of similar width together, widest last.

    Args:
      levels: distinct levels.
      seeds: distinct seeds.

    Returns:
      Groups whose runs together are all pairs of a level and a seed.
    """

    def widest(members):
        return jax.tree.map(lambda *sizes: max(sizes), *members)

    groups = [[level] for level in sorted(levels, key=_size)[:1]]
    for level in sorted(levels, key=_size)[1:]:
        wider = widest([*groups[-1], level])
        if _size(wider) <= _MAX_PADDING * min(map(_size, groups[-1])):
            groups[-1].append(level)
        else:
            groups.append([level])
    return tuple(
        Group(
            widest(members),
            tuple(level for level in members for _ in seeds),
            tuple(seeds) * len(members),
        )
        for members in groups
    )


def _size(level: Level) -> int:
    return math.prod(jax.tree.leaves(level))


def _live_mask(level: Level, width: Level) -> Any:
    return jax.tree.map(
        lambda n, w: (np.arange(w) < n).astype(np.float32), level, width
    )


def _init_run(learner: Learner, key: chex.PRNGKey, live: Any) -> Run:
    state = learner.init(Keys(*jax.random.split(key, 4)).init, live)
    return Run(
        key=key,
        live=live,
        state=state,
        objective=jnp.float32(-jnp.inf),
        kept=state.params,
        kept_objective=jnp.float32(-jnp.inf),
        kept_epoch=jnp.int32(0),
        diverged=jnp.bool_(False),
    )


def _parts(train: Any) -> tuple[Any, ...]:
    """The buckets of training data; data without buckets are one."""
    return train.parts if isinstance(train, Buckets) else (train,)


def _num_samples(part: Any) -> int:
    return jax.tree.leaves(part)[0].shape[0]


def _batches(key: chex.PRNGKey, part: Any, batch_size: int) -> chex.Array:
    """[steps, B] indices of an epoch's batches, without a last one that is not full."""
    num_steps = _num_samples(part) // batch_size
    order = permutation(key, _num_samples(part))
    return order[: num_steps * batch_size].reshape(num_steps, -1)


def _schedule(
    steps: Sequence[Callable[..., Any]],
    batches: Sequence[chex.Array],
    epoch: chex.Array,
) -> tuple[Callable[..., Any], Sequence[chex.Array]]:
    """One step function for all buckets, and what it is given in turn.

    Which bucket a step takes depends on the epoch alone: under vmap over runs it
    stays one number, and a step computes that bucket and no other.

    Args:
      steps: (state, key, indices) -> (state, Info), for each bucket.
      batches: [steps, B] indices of each bucket's batches.
      epoch: counted from 1.

    Returns:
      (state, key, *inputs) -> (state, Info), and inputs with an axis of steps.
    """
    if len(steps) == 1:
        return steps[0], batches
    num_steps = [len(indices) for indices in batches]
    order = permutation(jax.random.fold_in(jax.random.key(0), epoch), sum(num_steps))
    bucket_of_step = np.repeat(np.arange(len(steps)), num_steps)
    batch_of_step = np.concatenate([np.arange(count) for count in num_steps])

    def step(state, key, bucket, batch):
        branches = [
            lambda state, key, batch, step=step, indices=indices: step(
                state, key, indices[batch]
            )
            for step, indices in zip(steps, batches, strict=True)
        ]
        return jax.lax.switch(bucket, branches, state, key, batch)

    return step, (
        jnp.asarray(bucket_of_step)[order],
        jnp.asarray(batch_of_step)[order],
    )


def _train_epoch(
    learner: Learner,
    recover: Callable[[Any, Any], Recovery],
    config: SweepConfig,
    train: Any,
    held_out: Any,
    run: Run,
    epoch: chex.Array,
) -> tuple[Run, Record]:
    """One epoch of one run; epochs count from 1."""
    keys = Keys(*jax.random.split(run.key, 4))
    parts = _parts(train)
    order_key = jax.random.fold_in(keys.order, epoch)
    order_keys = [order_key] + [
        jax.random.fold_in(order_key, index) for index in range(1, len(parts))
    ]
    batches = [
        _batches(key, part, config.batch_size)
        for key, part in zip(order_keys, parts, strict=True)
    ]
    epoch_key = jax.random.fold_in(keys.step, epoch)
    step_keys = jax.vmap(jax.random.fold_in, (None, 0))(
        epoch_key, jnp.arange(sum(map(len, batches)))
    )

    def step_on(part, state, key, indices):
        batch = jax.tree.map(lambda data: data[indices], part)
        return learner.step(key, state, run.live, batch)

    steps = [functools.partial(step_on, part) for part in parts]
    step, inputs = _schedule(steps, batches, epoch)
    state, infos = jax.lax.scan(
        lambda state, inputs: step(state, *inputs), run.state, (step_keys, *inputs)
    )
    evaluate_key = jax.random.fold_in(keys.evaluate, epoch)
    info = learner.evaluate(evaluate_key, state, run.live, held_out)
    is_finite = jnp.isfinite(info.objective) & jnp.isfinite(infos.objective).all()
    run = run._replace(
        state=state,
        objective=info.objective.astype(jnp.float32),
        diverged=run.diverged | ~is_finite,
    )
    run = _keep_if_better(run, epoch, epoch % config.snapshot_every == 0)
    recovery = recover(state.params, run.live)
    scalars = {
        name: jnp.where(run.diverged, 0, value)
        for name, value in recovery.scalars().items()
    }
    train_metrics = jax.tree.map(lambda metric: metric.mean(), infos.metrics)
    return run, Record(train_metrics, info.metrics, scalars, run.diverged)


def _keep_if_better(run: Run, epoch: chex.Array, is_candidate: chex.Array) -> Run:
    """Keeps the run's parameters if they are the best candidate so far."""
    is_better = is_candidate & ~run.diverged & (run.objective > run.kept_objective)

    def choose(new, old):
        return jnp.where(is_better, new, old)

    return run._replace(
        kept=jax.tree.map(choose, run.state.params, run.kept),
        kept_objective=choose(run.objective, run.kept_objective),
        kept_epoch=choose(epoch, run.kept_epoch),
    )


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
        num_samples = min(map(_num_samples, _parts(train)))
        if config.batch_size > num_samples:
            raise ValueError(
                f"expected a batch of at most {num_samples}, the number of training "
                f"samples, got {config.batch_size}"
            )
        self.config = config
        self._learner = learner
        self.groups = plan(config.levels, config.seeds)
        self._mesh = Mesh(np.array(devices or jax.devices()), (_AXIS,))
        self._sharding = NamedSharding(self._mesh, PartitionSpec(_AXIS))
        everywhere = NamedSharding(self._mesh, PartitionSpec())
        self._data = jax.device_put((train, held_out), everywhere)
        self._init = jax.jit(self._init_runs, out_shardings=self._sharding)
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

    def padding(self) -> float:
        """The share of latents, over all runs, that are padding or of spare runs."""
        latents = sum(_size(level) for group in self.groups for level in group.levels)
        padded = sum(
            _size(group.width) * self._num_padded(group) for group in self.groups
        )
        return 1 - latents / padded

    def _num_padded(self, group: Group) -> int:
        return len(group.seeds) + -len(group.seeds) % self._mesh.size

    def _start(self, group: Group) -> tuple[np.ndarray, Any]:
        """Key data and masks of a group's runs, filled up with repeats of the last."""
        runs = list(zip(group.seeds, group.levels, strict=True))
        runs += runs[-1:] * (self._num_padded(group) - len(runs))
        keys = [jax.random.key_data(run_key(seed, level)) for seed, level in runs]
        masks = [_live_mask(level, group.width) for _, level in runs]
        live = jax.tree.map(lambda *mask: np.stack(mask), *masks)
        return np.stack(jax.device_get(keys)), live

    def _init_runs(self, keys: np.ndarray, live: Any) -> Run:
        init = jax.vmap(functools.partial(_init_run, self._learner))
        return init(jax.random.wrap_key_data(keys), live)

    def init(self) -> tuple[Run, ...]:
        """The runs before the first epoch, a stacked Run for each group.

        A group is filled up to a multiple of the number of devices with repeats of
        its last run.
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
            jax.vmap(functools.partial(_keep_if_better, is_candidate=True), (0, None))
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
    epoch_of_run = functools.partial(_train_epoch, learner, recover, config, *data)

    def train_group(runs):
        def train_epoch(index, carry):
            runs, records = carry
            epoch = start + index + 1
            runs, record = jax.vmap(epoch_of_run, (0, None))(runs, epoch)
            records = jax.tree.map(
                lambda all_epochs, value: all_epochs.at[:, index].set(value),
                records,
                record,
            )
            return runs, records

        _, record = jax.eval_shape(jax.vmap(epoch_of_run, (0, None)), runs, start)
        records = jax.tree.map(
            lambda value: jnp.zeros(
                (value.shape[0], config.epochs_per_call), value.dtype
            ),
            record,
        )
        return jax.lax.fori_loop(0, count, train_epoch, (runs, records))

    trained = [train_group(runs) for runs in groups]
    return tuple(runs for runs, _ in trained), tuple(records for _, records in trained)
