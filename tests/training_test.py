"""Training from Python: it resumes, grows, stops, and depends on no setting of JAX."""

import dataclasses
import functools
import multiprocessing
import os
import signal
import socket
import threading
import time
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lvm_jax
from lvm_jax import noisy_or, sparse_coding
from lvm_jax.sweep import Plan, Sweep, devices
from lvm_jax.training import Progress, WorkdirError, describe, workdir
from lvm_jax.training.identity import identity

_STUDY = sparse_coding.AlternatingMinimizationHyperparams()
_EPOCHS = 12
_SIGNALS = signal.SIGINT, signal.SIGTERM


def _task(seed=0, **fields):
    dataset = sparse_coding.make(lvm_jax.key(seed), 30.0, 3, 120)
    return sparse_coding.task(dataset._replace(**fields), num_held_out=20)


def _plan(levels=(4, 5), seeds=(0, 1, 2), settings=None, **fields):
    return Plan(
        levels=levels,
        seeds=seeds,
        settings=settings or {"a": _STUDY},
        **{"epochs_per_call": 4, "block": 2, "snapshot_every": 5, **fields},
    )


def _silent(progress):
    del progress


def _train(task=None, plan=None, epochs=_EPOCHS, **arguments):
    arguments.setdefault("progress", _silent)
    return lvm_jax.train(task or _task(), plan or _plan(), epochs, **arguments)


def _check_same(one, other):
    assert list(one.history) == list(other.history)
    assert list(one.kept) == list(other.kept)
    for a, b in zip(
        jax.tree.leaves((one.history, one.kept, one.epochs)),
        jax.tree.leaves((other.history, other.kept, other.epochs)),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)


@pytest.fixture(scope="module")
def whole():
    """A plan of two settings, trained at once and in memory."""
    settings = {"a": _STUDY, "b": _STUDY._replace(step_size=0.2)}
    return _train(plan=_plan(settings=settings))


@pytest.fixture(scope="module")
def trained():
    return _train()


def test_results_are_arrays_by_level_setting_seed_and_record(whole):
    assert whole.history["held_out_error"].shape == (2, 2, 3, _EPOCHS)
    assert whole.history["num_recovered"].dtype == np.int32
    assert whole.epochs.tolist() == list(range(1, _EPOCHS + 1))
    assert whole.epochs.dtype.kind == "i"
    assert whole.kept[5].params.dictionary.shape == (2, 3, 5, 100)
    assert whole.num_truths == 24
    assert {row["epoch"] for row in whole.kept_rows()} <= {5, 10, 12}


def test_a_workdir_gives_what_memory_gives_and_loads(tmp_path, trained):
    kept = _train(workdir=tmp_path / "run", checkpoint_every=4)
    _check_same(kept, trained)
    loaded = lvm_jax.load(tmp_path / "run")
    _check_same(loaded, trained)
    assert (loaded.name, loaded.num_truths) == (trained.name, 24)
    assert type(loaded.kept[4].params) is sparse_coding.SparseCoding
    moments = []
    again = _train(workdir=tmp_path / "run", progress=moments.append)
    _check_same(again, trained)
    assert not moments


def test_more_of_everything_trains_only_what_is_new(tmp_path, whole):
    """By a setting, then by a level, a seed and epochs at once, bit for bit."""
    path = tmp_path / "run"
    _train(plan=_plan((4,), (0, 1)), epochs=6, workdir=path)
    settings = dict(whole.plan.settings)
    seen = []
    _train(
        plan=_plan((4,), (0, 1), settings), epochs=6, workdir=path, progress=seen.append
    )
    assert {progress.num_runs for progress in seen} == {2}
    grown = _train(plan=_plan(settings=settings), workdir=path, progress=seen.append)
    _check_same(grown, whole)
    assert {(p.start, p.num_runs) for p in seen if p.num_epochs == _EPOCHS} == {
        (6, 2),
        (0, 2),
        (0, 6),
    }


def test_training_that_is_told_to_stop_raises_and_goes_on(tmp_path, trained):
    path, seen = tmp_path / "run", []
    with pytest.raises(lvm_jax.Stopped, match="after epoch 4") as stopped:
        _train(workdir=path, progress=seen.append, stop=lambda: len(seen) > 0)
    assert stopped.value.epoch == 4
    assert [progress.epoch for progress in seen] == [0, 4]
    assert isinstance(seen[0], Progress) and seen[0].moments == ()
    with pytest.raises(FileNotFoundError, match="training has not ended"):
        lvm_jax.load(path)
    _check_same(_train(workdir=path), trained)


def test_what_is_traced_goes_on_as_it_began(tmp_path):
    """Stopped on its way, and loaded."""
    task = dataclasses.replace(_task(), trace=sparse_coding.trace)
    whole, path, seen = _train(task), tmp_path / "run", []
    with pytest.raises(lvm_jax.Stopped):
        _train(task, workdir=path, progress=seen.append, stop=lambda: len(seen) > 1)
    for results in (_train(task, workdir=path), lvm_jax.load(path)):
        _check_same(results, whole)
        assert list(results.traces) == [4, 5]
        for level, traced in whole.traces.items():
            assert traced.keys() == results.traces[level].keys()
            assert any(len(np.unique(values)) > 1 for values in traced.values())
            for name, values in traced.items():
                assert values.shape[:3] == (1, 3, _EPOCHS)
                found = results.traces[level][name]
                assert found.dtype == values.dtype
                np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("a", jnp.zeros(3, jnp.bfloat16), "got bfloat16 as 'a'"),
        ("a", 0.5, "got float as 'a'"),
        ("a/b", jnp.zeros(3), "got float32 as 'a/b'"),
    ],
)
def test_a_trace_that_cannot_be_kept_is_refused(name, values, message):
    task = dataclasses.replace(_task(), trace=lambda *_: {name: values})
    with pytest.raises(ValueError, match=f"expected arrays of numpy's .*{message}"):
        _train(task)


def test_without_a_limit_waves_fit_into_what_a_device_has(monkeypatch):
    plan = _plan((4,), range(5))
    assert len(describe(_task(), plan).splitlines()) == 2
    memory = Sweep(_task(), plan).memory()
    monkeypatch.setattr(devices, "memory", lambda _: memory.total - 1)
    assert "wave 2 of 2: 1 run " in describe(_task(), plan)


def test_signals_are_what_they_were_once_training_has_ended():
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    with socket.socket() as own:
        own.setblocking(False)
        woken = signal.set_wakeup_fd(own.fileno())  # as asyncio has one
        try:
            with lvm_jax.Interruption() as stop:
                assert not stop()
                assert all(signal.getsignal(of) != before[of] for of in _SIGNALS)
            assert {of: signal.getsignal(of) for of in _SIGNALS} == before
        finally:
            assert signal.set_wakeup_fd(woken) == own.fileno()


def test_an_interruption_leaves_no_thread_and_no_descriptor():
    def held():
        return len(os.listdir("/dev/fd"))

    threads, descriptors = threading.active_count(), held()
    for _ in range(10):
        lvm_jax.Interruption().close()
    for _ in range(100):
        if threading.active_count() > threads:
            time.sleep(0.01)
    assert threading.active_count() <= threads
    assert held() <= descriptors


def test_progress_is_the_mean_of_the_last_record(trained):
    seen = []
    _train(progress=seen.append)
    last = seen[-1]
    assert (last.epoch, last.num_epochs, last.num_runs) == (12, 12, 6)
    for level, moment in enumerate(last.moments):
        assert moment.level == trained.plan.levels[level] and moment.setting == "a"
        values = trained.history["held_out_error"][level, 0, :, -1]
        np.testing.assert_allclose(moment.held_out, values.mean(), rtol=1e-6)
        counts = trained.history["num_recovered"][level, 0, :, -1]
        assert moment.num_recovered == counts.mean()


@pytest.mark.slow  # Compiles two sweeps.
def test_validation_data_choose_what_is_kept_and_held_out_data_report(trained):
    task, plan = _task(), _plan(snapshot_every=1)
    parts = task.held_out[:1], task.held_out[1:2]
    chosen, other = (
        _train(dataclasses.replace(task, validation=half), plan) for half in parts
    )
    # What all see is the same; what is kept goes by the data that choose alone.
    for column, values in trained.history.items():
        for results in (chosen, other):
            np.testing.assert_array_equal(results.history[column], values)
    for half, results in zip(parts, (chosen, other), strict=True):
        seen = _train(dataclasses.replace(task, held_out=half), plan)
        for index, level in enumerate(plan.levels):
            errors = seen.history["held_out_error"][index]
            kept = results.kept[level]
            np.testing.assert_array_equal(kept.epoch, errors.argmin(-1) + 1)
            np.testing.assert_array_equal(kept.objective, -errors.min(-1))
    assert any(
        (chosen.kept[level].epoch != other.kept[level].epoch).any()
        for level in plan.levels
    )
    row = chosen.kept_rows()[0]
    assert row["objective"] == chosen.kept[4].objective[0, 0]
    assert (
        row["held_out_error"]
        == trained.history["held_out_error"][0, 0, 0, row["epoch"] - 1].item()
    )


def _without_truth():
    dataset = sparse_coding.make(lvm_jax.key(0), 30.0, 3, 120)._replace(truth=None)
    return sparse_coding.task(dataset, num_held_out=20)


def test_without_a_truth_nothing_is_said_of_recovery(tmp_path, trained):
    known = _train(_without_truth(), workdir=tmp_path / "run")
    assert known.num_truths is None
    assert set(known.history) == {"train_error", "held_out_error", "diverged"}
    for name in known.history:
        np.testing.assert_array_equal(known.history[name], trained.history[name])
    assert lvm_jax.load(tmp_path / "run").num_truths is None
    assert not [name for name in known.kept_rows()[0] if name.startswith("num_")]


def test_a_sweep_of_other_numbers_compiles_nothing():
    compiled = []

    def listen(event, seconds, **_):
        del seconds
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(event)

    plan = _plan()
    tasks = [_task(seed) for seed in (0, 1)]
    _train(tasks[0], plan)
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        results = _train(tasks[1], plan)
        assert not compiled
        _train(tasks[1], _plan(levels=(7,)))
        assert compiled
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert results.history["held_out_error"].size


@pytest.mark.slow  # Compiles anew for each.
@pytest.mark.parametrize("make", [_task, lambda: _networks()])
def test_a_user_s_settings_of_jax_change_no_bit(make):
    expected = _train(make(), _plan_of(make()), 3)
    jax.numpy.ones(3).block_until_ready()  # JAX has been used before.
    with (
        jax.enable_x64(True),
        jax.default_prng_impl("rbg"),
        jax.threefry_partitionable(False),
        jax.default_matmul_precision("bfloat16"),
        jax.numpy_dtype_promotion("strict"),
        jax.numpy_rank_promotion("raise"),
        jax.disable_jit(True),
        jax.debug_infs(True),
        jax.debug_key_reuse(True),
        jax.transfer_guard("disallow"),
    ):
        task = make()
        found = _train(task, _plan_of(task), 3)
        assert jax.config.jax_enable_x64
    _check_same(found, expected)


def _networks():
    dataset = noisy_or.make("CON8", lvm_jax.key(3), 120)
    return noisy_or.task(dataset, num_held_out=20)


def _plan_of(task):
    if task.name == "CON8":
        return _plan((4,), (0,), {"a": noisy_or.NvilHyperparams()})
    return _plan((4,), (0,))


def test_a_workdir_goes_on_with_the_data_it_began_with(tmp_path, trained):
    """A machine that rounds otherwise draws other samples by the same recipe."""
    path = tmp_path / "run"
    _train(epochs=4, workdir=path)
    task = _task()
    nudged = task.train + np.float64(1e-6) * np.arange(100)
    object.__setattr__(task, "train", nudged)
    _check_same(_train(task, workdir=path), trained)


def _recover_alike(truth, model, live, held_out):
    return sparse_coding.recover(truth, model, live, held_out)


def test_other_data_are_refused(tmp_path):
    path = tmp_path / "run"
    _train(epochs=4, workdir=path)
    with pytest.raises(WorkdirError, match=r"data.num_samples=130 \(there 120\)"):
        dataset = sparse_coding.make(lvm_jax.key(0), 30.0, 3, 130)
        _train(sparse_coding.task(dataset, num_held_out=20), workdir=path)
    with pytest.raises(WorkdirError, match=r"data.key=\[.*\] \(there \["):
        _train(_task(1), workdir=path)
    own = _task(recipe=None)
    with pytest.raises(WorkdirError, match=r"data.sha256=\w{64} \(there None\)"):
        _train(own, workdir=path)
    with pytest.raises(WorkdirError, match=r"batch_size=10 \(there 20\)"):
        _train(plan=_plan(batch_size=10), workdir=path)
    other = dataclasses.replace(_task(), recover=_recover_alike)
    with pytest.raises(WorkdirError, match=r"recover\.function=\S+_recover_alike "):
        _train(other, workdir=path)


def test_a_task_is_known_by_the_numbers_of_arrays_applied_to_its_learner():
    def of(weights):
        learner = functools.partial(_task().learner, weights=weights)
        return identity(dataclasses.replace(_task(), learner=learner), _plan(), 2)

    assert of(np.ones(3)) == of(np.ones(3))
    assert of(np.ones(3)) != of(np.zeros(3)) != of(np.zeros(4))


def test_own_data_are_known_by_their_numbers(tmp_path):
    path, samples = tmp_path / "run", np.random.default_rng(0).random((90, 6))
    task = sparse_coding.task(lvm_jax.Dataset("mine", samples))
    assert len(task.held_out) == 9
    results = _train(task, epochs=4, workdir=path)
    assert results.num_truths is None
    samples[7, 3] += 1e-3
    other = sparse_coding.task(lvm_jax.Dataset("mine", samples))
    with pytest.raises(WorkdirError, match=r"data\.sha256="):
        _train(other, epochs=4, workdir=path)


def test_damaged_data_are_refused(tmp_path):
    path = tmp_path / "run"
    _train(epochs=4, workdir=path)
    arrays = dict(np.load(path / workdir.DATA))
    arrays["train"][0, 0] += 1
    np.savez(path / workdir.DATA, **arrays)
    with pytest.raises(WorkdirError, match=r"the data of the digest in plan.json"):
        _train(workdir=path)


def test_a_kill_before_the_data_are_written_leaves_a_workdir(
    tmp_path, trained, monkeypatch
):
    path = tmp_path / "run"

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(workdir.archive, "write", stop)
        with pytest.raises(KeyboardInterrupt):
            _train(workdir=path)
    assert not (path / workdir.DATA).exists()
    _check_same(_train(workdir=path), trained)


def test_overwriting_starts_anew(tmp_path):
    path = tmp_path / "run"
    _train(_task(1), epochs=4, workdir=path)
    anew = _train(epochs=4, workdir=path, overwrite=True)
    _check_same(anew, _train(epochs=4))


def test_fewer_epochs_than_there_are_are_refused(tmp_path):
    _train(epochs=8, workdir=tmp_path / "run")
    with pytest.raises(ValueError, match="at least the 8 epochs that are there, got 4"):
        _train(epochs=4, workdir=tmp_path / "run")


@pytest.mark.parametrize("name", ["epochs", "checkpoint_every"])
def test_arguments_out_of_range_are_refused(tmp_path, name):
    for value in (0, 2**31, 1.5):
        with pytest.raises(ValueError, match=f"from 1 to 2147483647, got {value}"):
            _train(workdir=tmp_path / "run", **{name: value})
    with pytest.raises(ValueError, match="a memory_limit in bytes, got nan"):
        _train(workdir=tmp_path / "run", memory_limit=float("nan"))
    assert not (tmp_path / "run").exists()


def test_progress_may_be_silent(capsys):
    _train(plan=_plan((4,), (0,)), epochs=1, progress=None)
    assert capsys.readouterr() == ("", "")


def test_a_measure_is_of_every_kept_model(whole):
    def measure(params, live):
        return {"norm": (params.dictionary**2).sum(), "columns": live.sum()}

    measured = lvm_jax.measure(measure, whole)
    assert measured["norm"].shape == (2, 2, 3)
    for place, level in enumerate(whole.plan.levels):
        np.testing.assert_allclose(measured["columns"][place], level)
        expected = (whole.kept[level].params.dictionary ** 2).sum((-2, -1))
        np.testing.assert_allclose(measured["norm"][place], expected, rtol=1e-6)


def _train_elsewhere(path):
    _train(_task(), _plan((4,), (0,)), workdir=path)


@pytest.mark.slow  # A process that imports everything.
def test_a_spawned_process_trains(tmp_path, trained):
    """As a notebook or a worker starts it: another interpreter, nothing configured."""
    process = multiprocessing.get_context("spawn").Process(
        target=_train_elsewhere, args=(tmp_path / "run",)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        process.start()
    process.join(120)
    assert process.exitcode == 0
    found = lvm_jax.load(tmp_path / "run")
    for name in found.history:  # one device here, two in this process
        np.testing.assert_allclose(
            found.history[name],
            trained.history[name][:1, :, :1],
            rtol=1e-4,
            atol=1e-6,
        )
