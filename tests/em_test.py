"""EM against enumeration, the study's own numbers and float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

import lvm_jax
from lvm_jax import noisy_or
from lvm_jax.noisy_or.expectation import (
    Posterior,
    Rates,
    as_network,
    as_rates,
    gains,
    infer,
    off_logits,
    start_weights,
    update_weights,
)
from lvm_jax.noisy_or.maximization import ascend, maximize, prior_logits, slopes

# Compiled, as each operation that is not is a program of its own.
_as_rates, _as_network = jax.jit(as_rates), jax.jit(as_network)
_update = jax.jit(update_weights)
_infer, _maximize, _ascend = jax.jit(infer), jax.jit(maximize), jax.jit(ascend)
_slopes = jax.jit(slopes)
_log_likelihood = jax.jit(noisy_or.log_likelihood)


@pytest.fixture(scope="module", params=["em_img_k8", "em_img_k12"])
def published(golden, request):
    return np.load(golden / "release2" / f"{request.param}.npz")


def _published_rates(data, epoch=1, priors="right"):
    """Rates at the start of the first or second epoch of the study's run."""
    network = noisy_or.NoisyOr(
        data["prior_logits"], data["failure_logits"], data["noise_logits"]
    )
    rates = _as_rates(network)
    if epoch == 1:
        return rates
    # As its model holds them: the prior where a logit belongs, or that logit.
    prior = {"release": "m_prior_slot_release", "right": "m_prior_logits_right"}
    return Rates(
        np.float32(data[prior[priors]]),
        np.float32(data["m_theta"]),
        np.float32(data["m_leak"]),
    )


@jax.jit
def _q(rates, x, weights):
    gain, slope = gains(rates.theta, 1 / jnp.expm1(rates.leak), weights)
    evidence = (x[:, None] * weights * gain).sum(-1)
    return jax.nn.sigmoid(off_logits(rates, x) + evidence), slope


@jax.jit
def _published_update(weights, q, slope):
    """The study's, and its change: small weights are zero from then on.

    They no longer sum to one.
    """
    new = update_weights(weights, q, slope)
    new = jnp.where(new <= 1e-3, 0.0, new)
    return new, ((new - weights) ** 2).sum()


def _published_e_step(rates, x):
    """q and weights after each of the study's iterations, and its changes."""
    num_latents, num_observed = rates.theta.shape
    weights = np.full((len(x), num_latents, num_observed), 1 / num_latents, np.float32)
    q, slope = _q(rates, x, weights)
    states, changes = [(q, weights)], []
    while not changes or changes[-1] > 1e-2:
        weights, change = _published_update(weights, q, slope)
        changes.append(float(change))
        q, slope = _q(rates, x, weights)
        states.append((q, weights))
    return states, changes


def test_e_iterations_match_the_study(published):
    data = published
    states, changes = _published_e_step(_published_rates(data), np.float32(data["x"]))
    assert len(changes) == data["num_e_iterations"]
    np.testing.assert_allclose(changes, data["e_changes"], rtol=1e-3, atol=1e-4)
    for place, name in ((0, "0"), (1, "1"), (2, "2"), (-1, "end")):
        q, weights = states[place]
        np.testing.assert_allclose(q, data[f"q_after_{name}"], atol=2e-5)
        if place:
            np.testing.assert_allclose(weights, data[f"w_after_{name}"], atol=2e-5)


@pytest.mark.parametrize("priors", ["release", "right"])
def test_a_second_epoch_matches_the_study(published, priors):
    """Where it runs on with a prior in place of its logit, and where it does not."""
    data = published
    rates = _published_rates(data, epoch=2, priors=priors)
    states, changes = _published_e_step(rates, np.float32(data["x"]))
    assert len(changes) == data[f"epoch2_num_e_iterations_{priors}"]
    for place, name in ((0, "q0"), (-1, "q_end")):
        expected = data[f"epoch2_{name}_{priors}"]
        np.testing.assert_allclose(states[place][0], expected, atol=5e-4)
    prior = special.expit(jax.jit(prior_logits)(np.mean(states[-1][0], 0)))
    np.testing.assert_allclose(prior, data[f"epoch2_prior_{priors}"], atol=1e-5)
    theta, leak, _ = _published_m_step(rates, data["x"], _posterior(*states[-1]))
    np.testing.assert_allclose(theta, data[f"epoch2_theta_{priors}"], atol=1e-4)
    np.testing.assert_allclose(leak, data[f"epoch2_leak_{priors}"], atol=1e-4)


def _posterior(q, weights):
    count = np.zeros(len(q), np.int32)
    bound = np.zeros(len(q), np.float32)
    return Posterior(np.float32(weights), np.float32(q), bound, count)


def _published_posterior(data):
    return _posterior(data["q_after_end"], data["w_after_end"])


def test_slopes_match_the_study(published):
    data = published
    by_theta, by_leak = _slopes(
        _published_rates(data), np.float32(data["x"]), _published_posterior(data)
    )
    for actual, name in ((by_theta, "failure"), (by_leak, "noise")):
        expected = data[f"slope_{name}_before_m"]
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=2e-5)


def _bisect(slope, shape):
    """The study's: down to a slope or a bracket of 1e-3, with the last midpoint."""
    low, high = np.zeros(shape, np.float32), np.full(shape, 10, np.float32)
    value, has_ended = np.zeros(shape, np.float32), np.zeros(shape, bool)
    while not has_ended.all():
        value = np.where(has_ended, value, (low + high) / 2)
        found = np.asarray(slope(value))
        low = np.where(~has_ended & (found > 0), value, low)
        high = np.where(~has_ended & (found < 0), value, high)
        has_ended |= (np.abs(found) <= 1e-3) | (high - low < 1e-3)
    return value


def _published_m_step(rates, x, posterior):
    """Theta and leak of the study's rounds, in each by the other's value before."""
    x, num_rounds, change = np.float32(x), 0, np.inf
    theta, leak = np.asarray(rates.theta), np.asarray(rates.leak)
    while change > 1e-2:
        new_theta = _bisect(
            lambda value, leak=leak: _slopes(
                rates._replace(theta=value, leak=leak), x, posterior
            )[0],
            theta.shape,
        )
        new_leak = _bisect(
            lambda value, theta=theta: _slopes(
                rates._replace(theta=theta, leak=value), x, posterior
            )[1],
            leak.shape,
        )
        change = ((new_theta - theta) ** 2).sum() + ((new_leak - leak) ** 2).sum()
        theta, leak, num_rounds = new_theta, new_leak, num_rounds + 1
    return theta, leak, num_rounds


def test_bisection_matches_the_study(published):
    data = published
    theta, leak, num_rounds = _published_m_step(
        _published_rates(data), data["x"], _published_posterior(data)
    )
    assert num_rounds == data["num_m_rounds"]
    np.testing.assert_allclose(theta, data["m_theta"], atol=1e-5)
    np.testing.assert_allclose(leak, data["m_leak"], atol=1e-5)


def test_maximum_is_the_exact_one(published):
    data = published
    found = _maximize(
        _published_rates(data), np.float32(data["x"]), _published_posterior(data)
    )
    np.testing.assert_allclose(found.leak, data["exact_leak"], rtol=1e-3, atol=2e-6)
    np.testing.assert_allclose(found.theta, data["exact_theta"], rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(
        found.prior_logits, data["m_prior_logits_right"], rtol=1e-5
    )
    assert (np.asarray(data["m_theta"]) == 5).sum() in (27, 66)  # Flat to the study.


def test_gradient_step_matches_the_study(published):
    data = published
    start = noisy_or.NoisyOr(
        *(data[f"{name}_logits"] for name in ("prior", "failure", "noise"))
    )
    found = _ascend(start, np.float32(data["x"]), _published_posterior(data), 10.0)
    for name in ("failure", "noise"):
        actual = getattr(found, f"{name}_logits")
        np.testing.assert_allclose(actual, data[f"hybrid_{name}_logits"], atol=1e-4)
    np.testing.assert_allclose(found.prior, data["hybrid_prior"], rtol=1e-5)


def _network(seed, num_latents, num_observed, rate):
    """Random rates around one, theta and leak over four orders of magnitude."""
    random = np.random.default_rng(seed)
    return Rates(
        random.normal(-1, 1, num_latents).astype(np.float32),
        np.exp(random.uniform(-7, 2, (num_latents, num_observed))).astype(np.float32),
        (rate * np.exp(random.normal(0, 1, num_observed))).astype(np.float32),
    )


def _bound64(rates, x, q, weights):
    """The bound for any weights and q, from its definition, in float64."""
    logits, theta, leak = (np.asarray(leaf, np.float64) for leaf in rates)
    x, q, weights = (np.asarray(leaf, np.float64) for leaf in (x, q, weights))
    u = theta / np.maximum(weights, 1e-30)
    off = np.log(-np.expm1(-leak))
    jensen = weights * (
        q[..., None] * np.log(-np.expm1(-leak - u)) + (1 - q)[..., None] * off
    )
    given = x * jensen.sum(-2) - (1 - x) * (leak + q @ theta)
    prior = q * special.log_expit(logits) + (1 - q) * special.log_expit(-logits)
    return given.sum(-1) + (prior + special.entr(q) + special.entr(1 - q)).sum(-1)


_CASES = [(0, 0.001), (1, 0.05), (2, 1.0)]
_X = np.random.default_rng(3).random((40, 12)) < np.linspace(0.1, 0.9, 12)
_FLOAT_X = np.float32(_X)


def _start(num_latents):
    start = np.asarray(start_weights(jnp.ones(num_latents), _X.shape[1]))
    return np.broadcast_to(start, (len(_X), *start.shape))


def _bounds(rates, num_iterations):
    """[iterations, N], float64, at the weights before each update and the best q."""
    weights, found = _start(rates.theta.shape[0]), []
    for _ in range(num_iterations):
        q, slope = _q(rates, _FLOAT_X, weights)
        found.append(_bound64(rates, _X, q, weights))
        weights = _update(weights, q, slope)
        np.testing.assert_allclose(np.sum(weights, 1), 1, rtol=1e-5)
    return np.array(found)


@pytest.mark.parametrize(("seed", "leak"), _CASES)
def test_no_e_iteration_lowers_the_bound(seed, leak):
    rates = _network(seed, 5, 12, leak)
    bounds = _bounds(rates, 40)
    assert (np.diff(bounds, axis=0) > -1e-5).all()
    assert (bounds[-1] > bounds[0] + 0.01).any()
    exact = _log_likelihood(_as_network(rates), _FLOAT_X)
    assert (bounds[-1] < exact + 1e-4).all()


def test_gains_match_float64():
    random = np.random.default_rng(4)
    theta, leak = np.exp(random.uniform(-14, 2, (2, 3, 500)))
    rates = Rates(None, np.float32(theta), np.float32(leak[0]))
    weights = np.float32(np.exp(random.uniform(-15, 0, (50, 3, 500))))
    gain, slope = jax.jit(gains)(rates.theta, 1 / jnp.expm1(rates.leak), weights)
    u = np.minimum(np.float64(rates.theta) / weights, 300)
    odds = 1 / np.expm1(np.float64(rates.leak))
    total = 1 - odds * np.expm1(-u)
    expected = np.log1p(-odds * np.expm1(-u))
    np.testing.assert_allclose(gain, expected, rtol=2e-6)
    expected = expected - u * odds * np.exp(-u) / total
    is_exact = expected > 1e-9  # in float64
    np.testing.assert_allclose(slope[is_exact], expected[is_exact], rtol=3e-5)


@pytest.fixture(scope="module")
def inferred():
    """Rates and the posteriors of samples, in the order of their numbers."""
    rates = _network(0, 5, 12, 0.01)
    return rates, _arrays(_infer(rates, jnp.ones(5), _FLOAT_X, 1e-5))


def _arrays(tree):
    return jax.tree.map(np.asarray, tree)


def test_an_e_step_ends_where_nothing_moves(inferred):
    rates, posterior = inferred
    x, weights = _FLOAT_X, posterior.weights
    q, slope = _q(rates, x, weights)
    np.testing.assert_allclose(posterior.q, q, atol=1e-6)
    new = np.asarray(_update(weights, q, slope))
    assert ((x[:, None] * (new - weights) ** 2).sum((1, 2)) <= 1.01e-5).all()
    np.testing.assert_allclose(weights.sum(1), x, atol=1e-5)
    exact = _bound64(rates, x, posterior.q, weights)
    np.testing.assert_allclose(posterior.bound, exact, rtol=1e-5)
    assert (posterior.bound < _log_likelihood(_as_network(rates), x)).all()
    assert len(set(np.asarray(posterior.iterations))) > 5


def test_a_sample_is_inferred_alike_among_any_others(inferred):
    """By itself, among more samples than run side by side, and with dead latents."""
    rates, expected = inferred
    place = np.arange(300) % len(_X)
    many = _infer(rates, jnp.ones(5), _FLOAT_X[place], 1e-5)
    wide = rates._replace(
        prior_logits=np.append(rates.prior_logits, np.float32(-1e30)),
        theta=np.concatenate([rates.theta, np.full((1, 12), 0.3, np.float32)]),
    )
    live = jnp.array([1, 1, 1, 1, 1, 0])
    padded = _arrays(_infer(wide, live, _FLOAT_X, 1e-5))
    assert (padded.q[:, 5] == 0).all() and (padded.weights[:, 5] == 0).all()
    one = _infer(rates, jnp.ones(5), _FLOAT_X[7:8], 1e-5)
    for found, samples in (
        (many, place),
        (padded, np.arange(40)),
        (one, np.array([7])),
    ):
        np.testing.assert_array_equal(found.iterations, expected.iterations[samples])
        found, weights = _arrays(found), expected.weights[samples]
        np.testing.assert_allclose(found.q[:, :5], expected.q[samples], atol=1e-6)
        np.testing.assert_allclose(found.weights[:, :5], weights, atol=1e-6)
        np.testing.assert_allclose(found.bound, expected.bound[samples], rtol=1e-6)


@pytest.mark.parametrize(("seed", "leak"), _CASES)
def test_an_m_step_raises_the_bound_to_its_maximum(seed, leak):
    """No slope is left but at a limit, and both M-steps gain; the bound is concave."""
    rates, x = _network(seed, 5, 12, leak), _FLOAT_X
    posterior = _infer(rates, jnp.ones(5), x, 1e-6)
    new = _arrays(_maximize(rates, x, posterior))
    climbed = _ascend(_as_network(rates), x, posterior, 0.1)
    before, after, between = (
        _bound64(rates, x, posterior.q, posterior.weights).mean()
        for rates in (rates, new, _as_rates(climbed))
    )
    assert before + 0.01 < between < after
    by_theta, by_leak = _arrays(_slopes(new, x, posterior))
    for value, slope, least in (
        (new.theta, by_theta, 1e-9),
        (new.leak, by_leak, 1e-6),
    ):
        is_least, is_most = value <= 1.1 * least, value >= 10
        assert (np.abs(slope) < 1e-4)[~is_least & ~is_most].all()
        assert (slope[is_least] < 0).all() and (slope[is_most] > 0).all()


def test_a_latent_that_is_never_on_keeps_its_failures():
    rates, x = _network(0, 5, 12, 0.01), _FLOAT_X
    posterior = _infer(rates, jnp.ones(5), x, 1e-6)
    posterior = posterior._replace(q=posterior.q * (np.arange(5) != 2))
    new = _arrays(_maximize(rates, x, posterior))
    is_kept = (new.theta == rates.theta).all(1)
    assert is_kept.tolist() == [False, False, True, False, False]
    assert 0 < special.expit(new.prior_logits[2]) < 1e-5


@pytest.mark.slow  # Compiles two sweeps.
@pytest.mark.parametrize("learner", [noisy_or.em, noisy_or.gradient_em])
def test_learning_raises_the_bound_and_stays_below_the_likelihood(learner):
    dataset = noisy_or.make("IMG", lvm_jax.key(0), 300)
    learner, packed = learner(64), noisy_or.pack(dataset.samples)
    live, key, bounds = jnp.ones(8), jax.random.key(0), []
    state = learner.init(key, live, packed)
    step = jax.jit(learner.step)
    for _ in range(6):
        likelihood = _log_likelihood(state.params, dataset.samples).mean()
        state, info = step(key, state, live, packed)
        assert info.metrics["elbo"] < likelihood
        bounds.append(float(info.objective))
    assert (np.diff(bounds) > 0).all()


@pytest.mark.parametrize("learner", [noisy_or.em, noisy_or.gradient_em])
def test_padding_changes_no_step(learner):
    """To rounding; and a dead latent keeps whatever its parameters are."""
    learner, packed = learner(12), noisy_or.pack(_X)
    step, key = jax.jit(learner.step), jax.random.key(0)
    ends = []
    for live in (jnp.ones(4), jnp.array([1.0, 1, 1, 1, 0])):
        state = start = learner.init(key, live, packed)
        for _ in range(3):
            state, info = step(key, state, live, packed)
        ends.append((state.params, info.objective))
    (alone, objective), (padded, same) = _arrays(ends)
    np.testing.assert_allclose(objective, same, rtol=1e-5)
    assert (padded.failure_logits[4] == start.params.failure_logits[4]).all()
    assert padded.prior_logits[4] == start.params.prior_logits[4]
    for a, b in zip(alone, padded, strict=True):
        cut = b[:4] if len(b) == 5 else b
        np.testing.assert_allclose(a, cut, rtol=1e-3, atol=1e-3)
