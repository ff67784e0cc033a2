"""How much estimates of a gradient vary, as it is measured."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sweep_process import run

import lvm_jax
from experiments.cli.tables import Tables
from experiments.estimators import ESTIMATORS, Rate, of_estimator, relative_variance
from lvm_jax import noisy_or
from lvm_jax.noisy_or import variational
from lvm_jax.noisy_or.recognition import Recognition
from lvm_jax.types import Learner


def _learner(mean, deviation):
    """Adam on a gradient of three numbers: a mean and noise, whatever the batch."""
    adam = optax.scale_by_adam()

    def of(adam_state):
        return variational.State(None, variational.Optimizers(None, (adam_state,)))

    def step(key, state, live, batch):
        gradient = mean + deviation * jax.random.normal(key, (3,))
        weights = Recognition(gradient, 0.0, 0.0)
        return of(adam.update(weights, state.optimizers.q[0])[1]), {}

    zeros = Recognition(jnp.zeros(3), 0.0, 0.0)
    past = zeros._replace(weight=jnp.array([5.0, -7.0, 1.0]))  # No part of it.
    start = of(adam.init(zeros)._replace(mu=past))
    return Learner(None, step, None, None), start


@pytest.mark.parametrize(("mean", "deviation"), [(2.0, 1.0), (0.5, 2.0), (1.0, 0.0)])
def test_variance_is_by_the_squared_length_of_the_mean(mean, deviation):
    learner, state = _learner(mean, deviation)
    train = jnp.zeros((8, 2), jnp.uint32)
    found = relative_variance(learner, state, jnp.ones(3), train, 4, num_draws=20_000)
    np.testing.assert_allclose(found, deviation**2 / mean**2, rtol=0.1, atol=1e-5)


def test_a_mean_that_cannot_be_told_from_zero_makes_it_infinite():
    train = jnp.zeros((8, 2), jnp.uint32)
    found = [
        relative_variance(*_learner(0.0, deviation), jnp.ones(3), train, 4, 100)
        for deviation in (0.5, 1.0, 2.0)
    ]
    assert all(value > 10 for value in found)
    learner, state = _learner(0.0, 0.0)
    assert relative_variance(learner, state, jnp.ones(3), train, 4, 100) == np.inf


@pytest.mark.parametrize("name", ["noisy1", "rloo2"])
def test_an_estimator_goes_on_with_the_parameters_of_nvil(name):
    task = noisy_or.task(noisy_or.make("IMG", lvm_jax.key(0), 50))
    live = jnp.ones(8)
    nvil, other = (ESTIMATORS[of](64, Rate()) for of in ("nvil", name))
    state = nvil.init(lvm_jax.key(1), live, task.train)
    own = of_estimator(state, other, live, task.train)
    expected = jax.eval_shape(other.init, lvm_jax.key(1), live, task.train)
    assert jax.tree.structure(own) == jax.tree.structure(expected)
    assert own.params is state.params and own.optimizers is state.optimizers


@pytest.mark.slow  # Compiles every estimator.
def test_variances_are_measured_into_a_workdir_of_their_own(tmp_path):
    flags = (f"--workdir={tmp_path / 'run'}", "--num_draws=4")
    assert run("gradient_variances", *flags).returncode == 0
    rows = Tables(tmp_path / "run").rows("variances")
    assert len(rows) == 3 * 4 * (len(ESTIMATORS) + 1)
    assert all(row["relative_variance"] > 0 for row in rows)
    assert "made" in json.loads((tmp_path / "run" / "flags.json").read_text())
    refused = run("gradient_variances", *flags, "--dataset=UNIF")
    assert refused.returncode == 2
    (line,) = refused.stderr.splitlines()
    assert "IMG" in line and "UNIF" in line
