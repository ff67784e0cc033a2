"""The mean field learner against the study's own, and against enumeration."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import special

import lvm_jax
from lvm_jax import noisy_or
from lvm_jax.noisy_or.mean_field import (
    draw,
    elbo,
    log_odds,
    negative_log_joint,
    terms,
    update,
)

_BYTE = 256.0

_terms = jax.jit(terms)
_update = jax.jit(update)
_log_odds, _draw = jax.jit(log_odds), jax.jit(draw)
_posterior = jax.jit(
    noisy_or.mean_field_posterior, static_argnames=("num_sweeps", "num_draws")
)


def _uniforms(numbers):
    """[K, S] of the golden bytes [S, K]."""
    return np.float32((numbers.T + 0.5) / _BYTE)


@pytest.fixture(scope="module", params=[8, 16])
def study(request, golden):
    """Arrays of the release: three data points in a row."""
    with np.load(golden / "release2" / f"mean_field_img_k{request.param}.npz") as file:
        return dict(file)


def _networks(study):
    """The network before each point, and after the last."""
    names = ("prior_logits", "failure_logits", "noise_logits")
    before = [study[name][None] for name in names]
    after = [study[f"{name}_after_step"] for name in names]
    stacked = map(np.concatenate, zip(before, after, strict=True))
    return [noisy_or.NoisyOr(*leaves) for leaves in zip(*stacked, strict=True)]


@pytest.fixture(scope="module")
def draws(study):
    """[point, sweep, place, S, K] of the release, before h_k is overwritten."""
    shape = study["u_sweeps_byte"].shape
    h = np.unpackbits(study["h_sweeps_packed"])[: np.prod(shape)]
    return h.reshape(shape)


def test_every_update_is_the_studys(study, draws):
    for point, network in enumerate(_networks(study)[:3]):
        of, x = _terms(network), np.float32(study["x"][point])
        q = study["q_init"][point]
        for place in np.ndindex(study["order"].shape[1:]):
            place = point, *place
            uniforms = _uniforms(study["u_sweeps_byte"][place])
            h = np.asarray(_draw(uniforms, q))
            np.testing.assert_array_equal(h.T, draws[place])
            q = _update(of, x, q, study["order"][place], uniforms)
            expected = study["q_after_update"][place]
            np.testing.assert_allclose(q, expected, rtol=2e-5, atol=1e-7)


def test_mean_log_joints_and_their_difference_are_the_studys(study, draws):
    def both(network, x, h, latent):
        of = terms(network)
        set_to = [jnp.float32(h.at[latent].set(value > 0)).T for value in (0, 1)]
        log_joints = [noisy_or.log_joint(network, x, h).mean() for h in set_to]
        return log_odds(of, x, h, latent), jnp.stack(log_joints)

    compare = jax.jit(jax.vmap(both, (None, None, 0, 0)))
    for point, network in enumerate(_networks(study)[:3]):
        h = draws[point].reshape(-1, *draws.shape[3:]).swapaxes(1, 2) > 0
        latents = study["order"][point].reshape(-1)
        odds, log_joints = compare(network, jnp.float32(study["x"][point]), h, latents)
        expected = study["mean_log_joint"][point].reshape(-1, 2)
        np.testing.assert_allclose(log_joints, expected, rtol=1e-5)
        difference = expected[:, 1] - expected[:, 0]
        np.testing.assert_allclose(odds, difference, rtol=2e-5, atol=2e-5)


def test_bounds_gradients_and_steps_are_the_studys(study):
    names = ("prior", "failure", "noise")
    differentiate, bound = jax.jit(jax.grad(negative_log_joint)), jax.jit(elbo)
    adam = optax.adam(study["rate"].item())

    @jax.jit
    def step(network, gradient, state):
        updates, state = adam.update(gradient, state)
        return optax.apply_updates(network, updates), state

    networks = _networks(study)
    state = adam.init(networks[0])
    for point, network in enumerate(networks[:3]):
        x = np.float32(study["x"][point])[None]
        q = study["q_after_update"][point, -1, -1]
        h = np.asarray(_draw(_uniforms(study["u_elbo_byte"][point]), q))
        np.testing.assert_array_equal(h.T, study["h_elbo"][point])
        h = np.float32(h.T)[:, None]
        bounds = np.asarray(bound(network, x, q[None], h))[:, 0]
        expected = study["log_joint"][point] - study["log_q"][point]
        np.testing.assert_allclose(bounds, expected, rtol=1e-5, atol=2e-6)
        np.testing.assert_allclose(np.mean(bounds), study["elbo"][point], rtol=2e-6)
        gradient = differentiate(network, x, h)
        for leaf, name in zip(gradient, names, strict=True):
            expected = study[f"grad_sum_nll_{name}"][point]
            error = np.abs(leaf - expected).max()
            assert error <= 3e-6 * np.abs(expected).max(), (name, error)
        moved, state = step(network, gradient, state)
        for a, b in zip(moved, networks[point + 1], strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-6, atol=2e-6)


@functools.partial(jax.jit, static_argnums=(1, 2))
def _network(key, num_latents, num_observed, scale=2.0):
    """One whose logits are normal."""
    shapes = (num_latents,), (num_latents, num_observed), (num_observed,)
    keys = jax.random.split(key, 3)
    return noisy_or.NoisyOr(
        *(
            scale * jax.random.normal(key, shape)
            for key, shape in zip(keys, shapes, strict=True)
        )
    )


def _log_joint(network, x, h):
    """[S] log P(x, h) of h [S, K] in float64, where P(x_d = 1 | h) has no 1 - p."""
    prior, failure, noise = (np.asarray(leaf, np.float64) for leaf in network)
    log_off = special.log_expit(noise) + h @ special.log_expit(failure)
    given = np.where(x > 0, np.log(-np.expm1(log_off)), log_off).sum(1)
    return given + special.log_expit(np.where(h > 0, prior, -prior)).sum(1)


def _odds(network, x, h, latent):
    """The mean difference that an update takes."""
    on, off = np.array(h, np.float64), np.array(h, np.float64)
    on[:, latent], off[:, latent] = 1, 0
    return (_log_joint(network, x, on) - _log_joint(network, x, off)).mean()


def test_states_drawn_as_often_as_they_are_likely_give_the_expectation():
    """With q of quarters, 64 draws hold every state of the others by its weight."""
    network = _network(jax.random.key(0), 4, 7)
    q, x = np.array([0.25, 0.5, 0.75, 0.5]), np.arange(7) % 2
    states = np.array(list(itertools.product([0, 1], repeat=4)))
    counts = 64 * np.prod(np.where(states, q, 1 - q), axis=1)
    h = np.repeat(states, np.round(counts).astype(int), axis=0)
    assert len(h) == 64
    for latent in range(4):
        expected = np.float64(0)
        for state, count in zip(states, counts / 64, strict=True):
            expected += count * _odds(network, x, state[None], latent)
        odds = _log_odds(_terms(network), np.float32(x), h.T > 0, latent)
        np.testing.assert_allclose(odds, expected, rtol=1e-5)


@pytest.mark.parametrize("num_draws", [1, 20, 300])
def test_odds_are_those_of_float64_however_sure_the_network_is(num_draws):
    """Logits up to 40: no noise, sure failures, latents that always turn all on."""
    keys = jax.random.split(jax.random.key(1), 3)
    network = _network(keys[0], 6, 9, scale=15.0)
    network = jax.tree.map(lambda leaf: leaf.clip(-40, 40), network)
    h = jax.random.bernoulli(keys[1], 0.4, (6, num_draws))
    x = jax.random.bernoulli(keys[2], 0.5, (9,)).astype(jnp.float32)
    of = _terms(network)
    for latent in range(6):
        odds = _log_odds(of, x, h, latent)
        expected = _odds(network, x, np.asarray(h.T), latent)
        np.testing.assert_allclose(odds, expected, rtol=3e-6, atol=1e-5)


def test_what_is_impossible_has_finite_odds():
    """An x_d that no latent turns on and no noise: as log P(x, h) has it, 1e-30."""
    network = noisy_or.from_probabilities([0.5, 0.5], [[1.0], [0.5]], [1.0])
    of, x, h = _terms(network), jnp.ones(1), jnp.zeros((2, 3), bool)
    assert _log_odds(of, x, h, 0) == 0
    expected = np.log(0.5) - np.log(1e-30)
    np.testing.assert_allclose(_log_odds(of, x, h, 1), expected, rtol=1e-6)


def test_with_many_draws_a_posterior_is_a_fixed_point():
    """Every q_k is the sigmoid of its expected difference, by enumeration."""
    network = _network(jax.random.key(2), 3, 8)
    x = jax.random.bernoulli(jax.random.key(3), 0.5, (4, 8)).astype(jnp.float32)
    q = _posterior(jax.random.key(4), network, x, num_sweeps=20, num_draws=1000)
    assert ((q > 0) & (q < 1)).all() and (q.std(0) > 0.01).any()
    states = np.array(list(itertools.product([0, 1], repeat=3)))
    for own, sample in zip(np.asarray(q, np.float64), x, strict=True):
        weights = np.prod(np.where(states, own, 1 - own), axis=1)
        for latent in range(3):
            odds = sum(
                weight * _odds(network, sample, state[None], latent)
                for state, weight in zip(states, weights, strict=True)
            )
            np.testing.assert_allclose(own[latent], special.expit(odds), atol=0.03)


def test_samples_side_by_side_have_posteriors_of_their_own():
    """Given their keys: of as many as there are at once, and of one more."""
    network = _network(jax.random.key(5), 5, 8)
    x = jax.random.bernoulli(jax.random.key(6), 0.5, (21, 8)).astype(jnp.float32)
    keys = jax.random.split(jax.random.key(7), 21)
    together = np.asarray(_posterior(keys, network, x))
    apart = [_posterior(keys[n : n + 1], network, x[n : n + 1])[0] for n in (0, 9, 20)]
    np.testing.assert_allclose(together[np.array([0, 9, 20])], apart, rtol=1e-5)
    assert (together[0] != _posterior(keys[1:2], network, x[:1])[0]).any()


def test_a_posterior_in_float64_is_that_in_float32():
    network = _network(jax.random.key(16), 5, 8)
    x = np.random.default_rng(1).random((3, 8)) < 0.5
    found = _posterior(jax.random.key(17), network, jnp.float32(x))
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda leaf: jnp.array(leaf, jnp.float64), network)
        exact = _posterior(jax.random.key(17), wide, jnp.float64(x))
    assert exact.dtype == np.float64
    np.testing.assert_allclose(found, exact, rtol=1e-5)


def test_dead_latents_move_no_posterior():
    """After one sweep: draws of later ones would hide where they started."""
    network = _network(jax.random.key(8), 9, 8)
    x = jax.random.bernoulli(jax.random.key(9), 0.5, (3, 8)).astype(jnp.float32)
    live = jnp.array([1.0] * 6 + [0.0] * 3)
    cut = network._replace(
        prior_logits=network.prior_logits[:6], failure_logits=network.failure_logits[:6]
    )
    padded = _posterior(jax.random.key(10), network, x, live, num_sweeps=1)
    assert (padded[:, 6:] == 0).all()
    alone = _posterior(jax.random.key(10), cut, x, num_sweeps=1)
    np.testing.assert_allclose(padded[:, :6], alone, rtol=1e-6)


def test_a_step_follows_the_gradient_of_the_expected_log_joint():
    """With so many draws that Adam's first moment is a tenth of its mean; latents have
    variables of their own, so that every start leads to one posterior.
    """
    num_draws = 2000
    x = np.array([[1, 1, 0, 0, 1, 0], [0, 1, 1, 1, 0, 1]], bool)
    own = np.arange(6) // 2 == np.arange(3)[:, None]
    network = noisy_or.NoisyOr(
        jnp.array([-1.0, 0.0, 1.0]), jnp.where(own, -0.5, 4.0), jnp.full(6, 1.0)
    )
    learner = noisy_or.mean_field(6, num_draws=num_draws)
    live, packed = jnp.ones(3), noisy_or.pack(x)
    state = jax.jit(learner.init)(jax.random.key(11), live, packed)
    state = state._replace(params=network)
    moved, info = jax.jit(learner.step)(jax.random.key(12), state, live, packed)
    q = _posterior(jax.random.key(13), network, jnp.float32(x), num_draws=num_draws)
    states = np.array(list(itertools.product([0.0, 1.0], repeat=3)))[:, None]
    weights = jnp.prod(jnp.where(states > 0, q, 1 - q), axis=-1)

    @jax.jit
    @jax.value_and_grad
    def expected(network):
        log_joint = noisy_or.log_joint(network, jnp.float32(x), states)
        return (weights * log_joint).sum(0).mean()

    value, gradients = expected(network)
    moments = moved.theta_optimizer[0].mu
    for moment, gradient in zip(moments, gradients, strict=True):
        assert np.abs(gradient).max() > 0.1
        np.testing.assert_allclose(-moment / (0.1 * num_draws), gradient, atol=0.03)
    entropy = -(q * jnp.log(q) + (1 - q) * jnp.log(1 - q)).sum(1).mean()
    np.testing.assert_allclose(info.objective, value + entropy, atol=0.1)
    assert info.metrics["elbo"] == info.objective


def test_draws_for_a_bound_without_a_recognition_network_come_near_it():
    """24 latents, 6 of them alive: beside the exact value of those 6."""
    dataset = noisy_or.make("IMG", jax.random.key(14), 60)
    task = noisy_or.task(dataset, noisy_or.mean_field, num_held_out=30)
    live = jnp.array([1.0] * 6 + [0.0] * 18)
    key = jax.random.key(15)
    noise = jax.random.normal(key, (24, 64))
    padded = noisy_or.NoisyOr(
        jnp.full(24, -1.0),
        jnp.concatenate([dataset.truth.failure_logits.clip(-3, 3)] * 3) + noise,
        jnp.full(64, 3.0),
    )
    cut = padded._replace(
        prior_logits=padded.prior_logits[:6], failure_logits=padded.failure_logits[:6]
    )
    measure = jax.jit(noisy_or.held_out_log_likelihood(task))
    bound, exact = measure(padded, live), measure(cut, live[:6])
    assert bound["held_out_log_likelihood_is_bound"]
    assert not exact["held_out_log_likelihood_is_bound"]
    column = "held_out_log_likelihood"
    assert exact[column] - 0.3 < bound[column] < exact[column] + 0.1


@pytest.mark.parametrize(
    ("name", "levels", "expected"),
    [
        ("IMG", (4, 16, 64), (1, 2, 1)),
        ("PLNT", (8,), (1, 3, 1)),
    ],
)
def test_the_studys_settings(name, levels, expected):
    recipe = {"name": name}
    dataset = lvm_jax.Dataset(name, np.zeros((2, 2), bool), recipe=recipe)
    setting, snapshot_every = noisy_or.published(dataset, levels, learner="mean_field")
    rate = noisy_or.MeanFieldHyperparams(0.01)
    assert setting == dict.fromkeys(levels, rate)
    assert noisy_or.training(dataset, "mean_field") == expected
    assert snapshot_every == 1
    own = dataset._replace(recipe=None)
    assert noisy_or.published(own, levels, learner="mean_field") == (None, 1)
    assert noisy_or.training(own, "mean_field") == (1, 2, 1)
