"""The grammar that sentences are drawn from, and the flags that choose it."""

import functools
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from absl import flags

import lvm_jax
from experiments import cli
from lvm_jax import numerics, pcfg
from lvm_jax.files import regular
from lvm_jax.training import Progress

_GRAMMAR = flags.DEFINE_string(
    "grammar",
    "english",
    "True grammar: english, the package's own, learned from sentences of WordNet; "
    "random; or an .npz file such as the truth.npz of a run.",
)
_CORPUS = flags.DEFINE_string(
    "corpus",
    None,
    "Learn the true grammar from this text, one sentence a line, in a directory of the "
    "name of --workdir and .truth, with checkpoints.",
)
_VOCABULARY = flags.DEFINE_integer(
    "vocabulary",
    1000,
    "Words of the true grammar: of a corpus the most frequent ones, 10 000 in the "
    "paper; of a random grammar 100 unless this is given.",
    lower_bound=2,
    upper_bound=1_000_000,
)
_TRUE_SYMBOLS = flags.DEFINE_integer(
    "true_symbols",
    10,
    "Symbols of each kind of the true grammar.",
    lower_bound=1,
    upper_bound=256,
)
_TRUE_EPOCHS = flags.DEFINE_integer(
    "true_epochs",
    20,
    "Epochs to learn the true grammar for, 20 in the paper.",
    lower_bound=1,
    upper_bound=cli.LARGEST,
)
_SHARPNESS = flags.DEFINE_float(
    "sharpness",
    5.0,
    "Standard deviation of a random grammar's rule and word logits.",
    lower_bound=0.0,
    upper_bound=1000.0,
)
_RADIUS = flags.DEFINE_float(
    "radius", 0.93, "Largest spectral radius of a random grammar's expected offspring."
)

# Of which grammars a flag says something.
_SOURCES = {
    **dict.fromkeys(("vocabulary", "true_symbols"), ("--corpus", "--grammar random")),
    "true_epochs": ("--corpus",),
    **dict.fromkeys(("sharpness", "radius"), ("--grammar random",)),
}

_RANDOM_VOCABULARY = 100
_BATCH = 4  # of a corpus, as in the study


class Truth(NamedTuple):
    """The true grammar with its name and vocabulary, and what it was made from."""

    name: str
    grammar: pcfg.Pcfg
    words: tuple[str, ...]
    recipe: Mapping[str, Any]


def _show(progress: Progress) -> None:
    for moment in progress.moments:
        print(
            f"true grammar, epoch {progress.epoch}: NLL per word of some sentences "
            f"{moment.held_out:.4f}",
            flush=True,
        )


def _stand_in(mean_length: float, num_words: int) -> pcfg.Pcfg:
    """A grammar of sentences of any words and of such a length on average.

    Its only tree is right-branching: a nonterminal has a word, and then the
    nonterminal again or the last word.
    """
    last = 1 / max(mean_length - 1, 1)
    rules = [[[0, 0], [1 - last, last]]]
    smallest = np.finfo(np.float32).tiny
    return pcfg.Pcfg(
        np.zeros(1, np.float32),
        np.log(np.maximum(np.array(rules, np.float32), smallest)),
        np.full((1, num_words), -np.log(num_words), np.float32),
    )


def _learn(
    sweep: cli.Sweep,
    corpus: pcfg.Corpus,
    recipe: Mapping[str, Any],
    check: Callable[[Truth], None],
) -> Truth | None:
    """Learns a grammar from the corpus, the model of the last epoch."""
    path = pathlib.Path(_CORPUS.value)
    lengths = pcfg.num_words(corpus.sentences)
    bounds = pcfg.bucket_lengths(lengths, recipe["buckets"], _BATCH)
    buckets = pcfg.to_buckets(corpus.sentences, bounds)
    level = (_TRUE_SYMBOLS.value, _TRUE_SYMBOLS.value)
    task = lvm_jax.Task(
        name=path.stem,
        learner=functools.partial(pcfg.maximum_likelihood, len(corpus.words)),
        train=lvm_jax.Buckets(buckets),
        held_out=tuple(bucket[:_BATCH] for bucket in buckets),
        recipe=recipe,
    )
    plan = lvm_jax.Plan(
        levels=(level,),
        seeds=(recipe["seed"],),
        settings={"study": pcfg.MaximumLikelihoodHyperparams()},
        batch_size=_BATCH,
        epochs_per_call=1,
        snapshot_every=_TRUE_EPOCHS.value,
        block=1,
    )
    stand_in = _stand_in(lengths.mean(), len(corpus.words))
    truth = Truth(path.stem, stand_in, corpus.words, recipe)
    check(truth)
    print(
        f"{path}: {len(lengths)} sentences of {lengths.mean():.1f} words, "
        f"{len(corpus.words)} different ones, {(corpus.sentences == 0).sum()} unknown; "
        f"skipped {corpus.num_one_word} of one word, {corpus.num_outside} for length",
        flush=True,
    )
    results = sweep.prepare(
        task, plan, _TRUE_EPOCHS.value, name="truth", progress=_show
    )
    if results is None:
        return None
    if results.kept[level].diverged.any():
        raise ValueError(
            f"expected a grammar learned from {path}, got one that diverged"
        )
    return truth._replace(grammar=pcfg.grammar_of(*results.kept_model(level)))


def load(
    sweep: cli.Sweep,
    *,
    seed: int,
    min_words: int,
    max_words: int,
    num_buckets: int,
    check: Callable[[Truth], None],
) -> Truth | None:
    """The grammar that the flags ask for: read, learned from a corpus, or random.

    Args:
      sweep: the flags of the binary's sweep, to learn by.
      seed: of a random or learned grammar.
      min_words: of the corpus' sentences; shorter ones are skipped.
      max_words: of the corpus' sentences; longer ones are skipped.
      num_buckets: lengths that the corpus' sentences are padded to, at most.
      check: called with a stand-in before a grammar is learned, to refuse what would be
        refused after it.

    Returns:
      Truth; None in a dry run, if it is to be learned.

    Raises:
      ValueError: if both a grammar and a corpus are asked for, a file is not what it
        should be, or a value is out of range.
      OSError: if a file cannot be read.
    """
    if _CORPUS.value is not None:
        if flags.FLAGS["grammar"].present:
            raise ValueError("expected --grammar or --corpus, got both")
        _check_source("--corpus")
        corpus = pcfg.read_corpus(
            _CORPUS.value,
            vocabulary=_VOCABULARY.value,
            min_words=min_words,
            max_words=max_words,
        )
        recipe = {
            "corpus": regular.digest([pathlib.Path(_CORPUS.value)]),
            "seed": seed,
            "epochs": _TRUE_EPOCHS.value,
            "symbols": _TRUE_SYMBOLS.value,
            "vocabulary": _VOCABULARY.value,
            "words": [min_words, max_words],
            "buckets": num_buckets,
        }
        return _learn(sweep, corpus, recipe, check)
    _check_source(f"--grammar {_GRAMMAR.value}")
    if _GRAMMAR.value == "random":
        return _draw(seed)
    path = pathlib.Path(_GRAMMAR.value)
    if _GRAMMAR.value == "english":
        path = pcfg.ENGLISH
    elif not path.is_file():
        raise ValueError(f"expected english, random or a file as grammar, got {path}")
    grammar, words = pcfg.read_grammar(path)
    return Truth(path.stem, grammar, words, {"grammar": regular.digest([path])})


def _check_source(source: str) -> None:
    """Refuses flags that have no effect on a grammar from there.

    Raises:
      ValueError: if one is given.
    """
    for name, sources in _SOURCES.items():
        if flags.FLAGS[name].present and source not in sources:
            raise ValueError(
                f"expected {' or '.join(sources)} with --{name}, got {source}"
            )


def _draw(seed: int) -> Truth:
    """Draws a random grammar."""
    is_given = flags.FLAGS["vocabulary"].present
    num_words = _VOCABULARY.value if is_given else _RANDOM_VOCABULARY
    shape = {"sharpness": _SHARPNESS.value, "radius": _RADIUS.value}
    grammar = pcfg.random_grammar(
        numerics.key(seed),
        _TRUE_SYMBOLS.value,
        _TRUE_SYMBOLS.value,
        num_words,
        **shape,
    )
    words = tuple(f"w{index}" for index in range(num_words))
    name = f"random grammar {seed}, sharpness {_SHARPNESS.value:g}"
    recipe = {
        "random": seed,
        "symbols": _TRUE_SYMBOLS.value,
        "vocabulary": num_words,
        **shape,
    }
    return Truth(name, grammar, words, recipe)
