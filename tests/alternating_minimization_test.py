"""The alternating minimization learner against the study's own steps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lvm_jax
from lvm_jax import sparse_coding
from lvm_jax.sparse_coding import (
    AlternatingMinimizationHyperparams,
    MaskedHyperparams,
    SparseCoding,
    alternating_minimization,
    masked,
)
from lvm_jax.sparse_coding.alternating_minimization import State


def test_steps_are_the_study_s(golden):
    with np.load(golden / "sparse_coding_steps.npz") as file:
        arrays = dict(file)
    threshold = float(arrays["relu_threshold"])
    numbers = AlternatingMinimizationHyperparams(float(arrays["step_size"]), threshold)
    learner = alternating_minimization(100, numbers)
    with jax.enable_x64(True):
        matrix = jnp.asarray(arrays["initial_matrix"].T)
        state = State(SparseCoding(matrix, jnp.asarray(threshold)))
        live = np.ones(48, np.float32)
        for batch, matrix, error in zip(
            arrays["batches"],
            arrays["matrix_after_step"],
            arrays["squared_error_of_step"],
            strict=True,
        ):
            state, info = jax.jit(learner.step)(None, state, live, jnp.asarray(batch))
            np.testing.assert_allclose(
                state.params.dictionary, matrix.T, rtol=0, atol=1e-6
            )
            total = float(info.metrics["error"]) * len(batch)
            np.testing.assert_allclose(total, error, rtol=1e-6)


def _train(num_latents, width, num_steps=10):
    """The initial and the final dictionary, and all Infos, the evaluations last."""
    dataset = sparse_coding.make(lvm_jax.key(0), 10.0, num_samples=20 * num_steps)
    samples = dataset.samples
    live = (np.arange(width) < num_latents).astype(np.float32)
    learner = alternating_minimization(100)

    @jax.jit
    def train():
        start = learner.init(jax.random.key(1), live, samples)
        end, steps = jax.lax.scan(
            lambda state, batch: learner.step(None, state, live, batch),
            start,
            samples.reshape(num_steps, 20, 100),
        )
        before, after = (
            learner.evaluate(None, state, live, samples) for state in (start, end)
        )
        return start, end, steps, before, after

    start, end, *infos = jax.device_get(train())
    return start.params.dictionary, end.params.dictionary, infos


@pytest.mark.parametrize(
    ("num_latents", "width", "tolerance"), [(20, 26, 1e-4), (96, 110, 2e-2)]
)
def test_dead_columns_stay_zero_and_change_nothing(num_latents, width, tolerance):
    *alone, alone_infos = _train(num_latents, num_latents)
    *padded, padded_infos = _train(num_latents, width)
    for a, b in zip(alone, padded, strict=True):
        assert (b[num_latents:] == 0).all()
        np.testing.assert_allclose(np.linalg.norm(a, axis=1), 1, rtol=1e-5)
        np.testing.assert_allclose(b[:num_latents], a, atol=tolerance)
    for a, b in zip(alone_infos, padded_infos, strict=True):
        np.testing.assert_allclose(a.objective, b.objective, rtol=tolerance)


def test_the_objective_is_minus_the_error_and_rises():
    *_, infos = _train(24, 24, num_steps=60)
    for info in infos:
        np.testing.assert_array_equal(info.objective, -info.metrics["error"])
    _, before, after = infos
    assert after.objective > before.objective


def test_a_sweep_trains_in_float64():
    dataset = sparse_coding.make(lvm_jax.key(0), 10.0, 5, 90, precision="float64")
    assert dataset.samples.dtype == np.float64
    plan = lvm_jax.Plan(
        levels=(4,),
        seeds=(0, 1),
        settings={"study": AlternatingMinimizationHyperparams()},
        epochs_per_call=3,
        precision="float64",
    )
    sweep = lvm_jax.Sweep(sparse_coding.task(dataset), plan)
    (*_, last) = sweep.train(sweep.init(), 0, 4)
    runs = last.runs[0]
    assert runs.state.params.dictionary.dtype == np.float64
    assert runs.hyperparams.step_size.dtype == np.float64
    assert runs.objective.dtype == np.float32
    assert not runs.diverged.any()


@pytest.mark.parametrize("num_latents", [6, 96])
def test_hidden_variables_are_predicted_from_those_that_are_seen(num_latents):
    samples = sparse_coding.make(lvm_jax.key(0), 10.0, num_samples=20).samples
    hidden, guard = np.float32(0.3), 0.01  # of which 100 are more than 30
    learner = masked(100, MaskedHyperparams(hidden=hidden, guard=guard))
    live = np.ones(num_latents, np.float32)
    state = jax.jit(learner.init)(jax.random.key(0), live, samples)
    columns = np.asarray(state.params.dictionary, np.float64)
    key = jax.random.key(1)
    new, info = jax.jit(learner.step)(key, state, live, samples)
    places, samples = np.asarray(jax.random.uniform(key, (100,))), np.asarray(samples)
    is_seen = places >= np.sort(places)[30]
    seen = columns[:, is_seen]
    gram = np.linalg.inv(seen @ seen.T + guard * np.eye(num_latents))
    rough = samples[:, is_seen] @ seen.T @ gram
    h = np.maximum(rough + guard * rough @ gram - sparse_coding.THRESHOLD, 0)
    residual = h @ columns - samples
    error = (residual**2).sum(1).mean()
    np.testing.assert_allclose(info.metrics["error"], error, rtol=1e-3)
    stepped = columns - 0.1 * h.T @ residual / 20
    stepped /= np.linalg.norm(stepped, axis=1, keepdims=True)
    np.testing.assert_allclose(new.params.dictionary, stepped, atol=1e-4)


def test_nothing_hidden_is_alternating_minimization():
    samples = sparse_coding.make(lvm_jax.key(0), 10.0, num_samples=20).samples
    live, plain = np.ones(30, np.float32), alternating_minimization(100)
    learner = masked(100, MaskedHyperparams(guard=0.0, hidden=0.0))
    state = jax.jit(plain.init)(jax.random.key(0), live, samples)
    ends = [
        jax.jit(of.step)(jax.random.key(1), state, live, samples)[0].params.dictionary
        for of in (plain, learner)
    ]
    np.testing.assert_allclose(*ends, atol=1e-6)
