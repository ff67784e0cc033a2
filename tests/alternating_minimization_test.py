"""The alternating minimization learner against the study's own steps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lvm_jax.data import sparse_coding as data
from lvm_jax.learners.alternating_minimization import (
    AlternatingMinimizationConfig,
    State,
    alternating_minimization,
)
from lvm_jax.models.sparse_coding import SparseCoding
from lvm_jax.plan import SweepConfig
from lvm_jax.sweep import Sweep
from lvm_jax.types import Recovery


def test_steps_are_the_study_s(golden):
    with np.load(golden / "sparse_coding_steps.npz") as file:
        arrays = dict(file)
    config = AlternatingMinimizationConfig(
        float(arrays["step_size"]), float(arrays["relu_threshold"])
    )
    learner = alternating_minimization(100, config)
    with jax.enable_x64(True):
        state = State(SparseCoding(jnp.asarray(arrays["initial_matrix"].T)))
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
    samples = data.make(jax.random.key(0), 10.0, num_samples=20 * num_steps).samples
    live = (np.arange(width) < num_latents).astype(np.float32)
    learner = alternating_minimization(100)

    @jax.jit
    def train():
        start = learner.init(jax.random.key(1), live)
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
    with jax.enable_x64(True):
        samples = np.asarray(data.make(jax.random.key(0), 10.0, 5, 90).samples)
        sweep = Sweep(
            alternating_minimization(100),
            lambda params, live: Recovery(*[jnp.int32(0)] * 7, measures={}),
            SweepConfig((4,), (0, 1), epochs_per_call=3),
            train=samples[10:],
            held_out=samples[:10],
        )
        (*_, last) = sweep.train(sweep.init(), 0, 4)
    runs = last[1][0]
    assert runs.state.params.dictionary.dtype == np.float64
    assert runs.objective.dtype == np.float32
    assert not runs.diverged.any()
