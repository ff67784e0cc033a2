"""Grammars whose probabilities come from networks on embeddings of their symbols.

    log P(A -> B C | A)  = log softmax_BC (rule_BC . e_A + bias_BC)
    log P(A | root)      = log softmax_A  (root_A . f(e_root) + bias_A)
    log P(word | P)      = log softmax_w  (word_w . g(e_P) + bias_w)

with embeddings e of 256 numbers, and f and g each a linear layer and two residual
blocks of two ReLU layers. Source: Buhai et al. 2020, on neural PCFGs; Kim, Dyer and
Rush, "Compound Probabilistic Context-Free Grammars for Grammar Induction", ACL 2019,
section 2.2.
"""

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from lvm_jax.pcfg.grammar import Live, Pcfg, normalise

DIMENSION = 256  # of embeddings and hidden layers, as in the study
_BOUND = 0.1  # of the initial parameters, as in the study
_FIRST_PRETERMINAL = 1 << 16  # folded into keys of draws, as a symbol's number


class _Perceptron(nn.Module):
    """A linear layer and two residual blocks of two ReLU layers."""

    dimension: int

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(self.dimension)(x)
        for _ in range(2):
            hidden = nn.relu(nn.Dense(self.dimension)(x))
            x = x + nn.relu(nn.Dense(self.dimension)(hidden))
        return x


class NeuralPcfg(nn.Module):
    """The networks; calling them gives the logits of a grammar.

    Symbol axes come first in every parameter, N nonterminals before T preterminals.

    Attributes:
      num_nonterminals: N.
      num_preterminals: T.
      num_words: V.
      dimension: of embeddings and hidden layers.
    """

    num_nonterminals: int
    num_preterminals: int
    num_words: int
    dimension: int = DIMENSION

    @nn.compact
    def __call__(self) -> Pcfg:
        """Logits of the grammar's probabilities, a Pcfg."""
        num, preterminals = self.num_nonterminals, self.num_preterminals
        size, dimension = num + preterminals, self.dimension

        def param(name, *shape):
            return self.param(name, nn.initializers.zeros, shape)

        root = param("root", 1, dimension)
        nonterminals = param("nonterminals", num, dimension)
        terminals = param("preterminals", preterminals, dimension)
        root_weight = param("root_weight", num, dimension)
        root_bias = param("root_bias", num)
        rule_weight = param("rule_weight", size, size, dimension)
        rule_bias = param("rule_bias", size, size)
        words = nn.Dense(self.num_words, name="words")
        hidden_root = _Perceptron(dimension, name="root_network")(root)[0]
        hidden_words = _Perceptron(dimension, name="word_network")(terminals)
        flat = rule_weight.reshape(size * size, dimension)
        rules = jnp.einsum("ad,pd->ap", nonterminals, flat)
        return Pcfg(
            root_weight @ hidden_root + root_bias,
            rules.reshape(num, size, size) + rule_bias,
            words(hidden_words),
        )


def _uniform(key, shape):
    """Uniform(-0.1, 0.1). The first rows of a wider draw are the draw of so many."""
    return jax.random.uniform(key, shape, minval=-_BOUND, maxval=_BOUND)


def _draw_pairs(key, num_nonterminals, num_preterminals, size):
    """[S, S, size] for pairs of symbols, each from a key of its own."""
    symbols = jnp.concatenate(
        [
            jnp.arange(num_nonterminals),
            _FIRST_PRETERMINAL + jnp.arange(num_preterminals),
        ]
    )
    fold_in = jax.vmap(jax.random.fold_in, (None, 0))
    keys = jax.vmap(fold_in, (0, None))(fold_in(key, symbols), symbols)
    return jax.vmap(jax.vmap(lambda key: _uniform(key, (size,))))(keys)


def _draw_tree(key, shapes):
    """A tree of arrays, cut from one draw: drawing each would take long to compile."""
    leaves, treedef = jax.tree.flatten(shapes)
    ends = np.cumsum([leaf.size for leaf in leaves])
    parts = jnp.split(_uniform(key, (ends[-1],)), ends[:-1])
    return treedef.unflatten(
        part.reshape(leaf.shape) for part, leaf in zip(parts, leaves, strict=True)
    )


def init(
    key: chex.PRNGKey, live: Live, num_words: int, dimension: int = DIMENSION
) -> dict:
    """Draws every parameter from Uniform(-0.1, 0.1), as the study does.

    Args:
      key: random key.
      live: masks, of the sizes N and T. What a symbol draws, and a pair of symbols,
        depends on neither size.
      num_words: V.
      dimension: of embeddings and hidden layers.

    Returns:
      Parameters of `NeuralPcfg`, a tree of arrays.
    """
    nonterminals, preterminals = live
    num, size = nonterminals.size, nonterminals.size + preterminals.size
    module = NeuralPcfg(num, size - num, num_words, dimension)
    shapes = jax.eval_shape(module.init, key)["params"]
    keys = jax.random.split(key, 4)
    of_pairs = _draw_pairs(keys[2], num, size - num, dimension + 1)
    of_nonterminals = _uniform(keys[0], (num, 2 * dimension + 1))
    of_symbols = {
        "nonterminals": of_nonterminals[:, :dimension],
        "root_weight": of_nonterminals[:, dimension:-1],
        "root_bias": of_nonterminals[:, -1],
        "preterminals": _uniform(keys[1], (size - num, dimension)),
        "rule_weight": of_pairs[..., :-1],
        "rule_bias": of_pairs[..., -1],
    }
    shared = {name: shapes[name] for name in shapes if name not in of_symbols}
    return of_symbols | _draw_tree(keys[3], shared)


def grammar_of(params: dict, live: Live) -> Pcfg:
    """The grammar of the networks, in which dead symbols are impossible.

    Args:
      params: of `init`.
      live: masks of the symbols.

    Returns:
      Pcfg with N nonterminals and T preterminals.
    """
    dimension, num_words = params["words"]["kernel"].shape
    nonterminals, preterminals = live
    module = NeuralPcfg(nonterminals.size, preterminals.size, num_words, dimension)
    return normalise(module.apply({"params": params}), Live(*live))
