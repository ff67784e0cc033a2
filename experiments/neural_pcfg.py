r"""Recovery of grammars by level of overparameterization.

    python -m experiments.neural_pcfg --workdir runs/small --levels 5,10 \
        --num_seeds 2 --epochs 3 --max_words 10 --num_samples 2000 --num_buckets 1

Draws sentences from a grammar of English with 10 nonterminals and 10 preterminals, 6000
by default, learns neural PCFGs of 10, 20 and 30 symbols of each kind from them, and
compares their Viterbi trees of new sentences with the true grammar's. The true grammar
may instead be random, read from a file, or learned from a corpus, one sentence a line.
The command above takes two minutes, most of it compiling, and is too short for a claim.
The study takes one sentence a step: --mode faithful.
"""

import functools
import os
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from absl import flags
from matplotlib.figure import Figure

import lvm_jax
from experiments import cli, true_grammar
from lvm_jax import measure, pcfg, report, training
from lvm_jax.files import archive, atomic
from lvm_jax.sweep import devices
from lvm_jax.training import ownership, workdir
from lvm_jax.types import level_name

_DATA = cli.Drawn(num_samples=6000, held_out=1000)
# An epoch of a sweep of grammars takes minutes.
_SWEEP = cli.Sweep(
    pcfg.MaximumLikelihoodHyperparams,
    levels=[10, 20, 30],
    epochs=12,
    batch_size=16,
    block=1,
    epochs_per_call=1,
    checkpoint_every=1,
)
_MODE = flags.DEFINE_enum(
    "mode",
    "batched",
    ["batched", "faithful"],
    "faithful: one sentence a step and Adam at 0.001, as in the paper; batched: "
    "--batch_size sentences a step and Adam at 0.002.",
)
_TRUTH_ONLY = flags.DEFINE_bool(
    "truth_only",
    False,
    "Write the true grammar to truth.npz in --workdir, and learn nothing from it.",
)
_NUM_TEST = flags.DEFINE_integer(
    "num_test",
    1000,
    "Further sentences that the final measures are of.",
    lower_bound=1,
    upper_bound=cli.MAX_SAMPLES,
)
_NUM_PARSED = flags.DEFINE_integer(
    "num_parsed",
    200,
    "Held-out sentences that are parsed every epoch, at most.",
    lower_bound=1,
)
_MIN_WORDS = flags.DEFINE_integer(
    "min_words", 2, "Least words of a sentence.", lower_bound=2
)
_MAX_WORDS = flags.DEFINE_integer(
    "max_words",
    20,
    "Most words of a sentence, 40 in the paper.",
    lower_bound=2,
    upper_bound=1000,
)
_NUM_BUCKETS = flags.DEFINE_integer(
    "num_buckets", 3, "Lengths that sentences are padded to, at most.", lower_bound=1
)
flags.adopt_module_key_flags(true_grammar)

_NUM_PICTURED = 4
_RATES = {"faithful": 0.001, "batched": 0.002}
_HEADERS = {
    "test_nll": "test NLL per word",
    "test_f1": "F1",
    "test_f1_inner": "F1, inner spans",
    "num_nonterminals_recovered": "nonterminals recovered",
}
_SHARES = dict.fromkeys(("test_f1", "test_f1_inner", "f1"), (0, 1))
_BY_EPOCH = {
    "held_out_nll": "held-out NLL per word, nats",
    "f1": "F1 with the true trees",
}


def _draw(truth: true_grammar.Truth, seed: int, num_samples: int) -> lvm_jax.Dataset:
    return pcfg.from_truth(
        truth.name,
        jax.random.fold_in(lvm_jax.key(_DATA.seed), seed),
        truth.grammar,
        num_samples,
        min_words=_MIN_WORDS.value,
        max_words=_MAX_WORDS.value,
        recipe=truth.recipe,
    )


def _task(
    truth: true_grammar.Truth, dataset: lvm_jax.Dataset, batch_size: int
) -> lvm_jax.Task:
    return pcfg.task(
        dataset,
        **_DATA.split(_DATA.seed),
        num_words=len(truth.words),
        num_parsed=_NUM_PARSED.value,
        num_buckets=_NUM_BUCKETS.value,
        batch_size=batch_size,
    )


def _check(plan: lvm_jax.Plan, stand_in: true_grammar.Truth) -> None:
    """Refuses what would be refused when the true grammar is there.

    Raises:
      ValueError: if the workdir or a flag does not fit.
      OSError: if the workdir cannot be written.
    """
    if _TRUTH_ONLY.value:
        _check_folder()
        return
    dataset = _draw(stand_in, 0, _DATA.num_samples)._replace(truth=None)
    _SWEEP.check(_task(stand_in, dataset, plan.batch_size), plan)


def _check_folder() -> None:
    """Checks that the true grammar alone may be written into the workdir.

    Raises:
      ValueError: if there is something else, or one that is not to be overwritten.
      OSError: if the workdir cannot be written.
    """
    path = _SWEEP.workdir
    if not os.path.lexists(path):
        with ownership.opened(path, None):
            return
    found = {entry.name for entry in path.iterdir()}
    truth = path / workdir.TRUTH
    if found - {workdir.TRUTH, atomic.partial(truth).name}:
        raise ValueError(
            f"expected a folder for {workdir.TRUTH} alone, got {path}, which has other "
            "files"
        )
    if found and not _SWEEP.is_overwriting:
        raise training.WorkdirError(f"expected no true grammar yet, got {truth}")
    if truth.is_dir() or not os.access(path, os.W_OK):
        raise ValueError(f"expected a folder to write {workdir.TRUTH} into, got {path}")


def _test_measures(test: pcfg.Truth, params: Any, live: Any) -> dict[str, jax.Array]:
    """What a learned grammar makes of the test sentences."""
    grammar = pcfg.grammar_of(params, live)
    log_likelihood, num_words = pcfg.score(grammar, test.sentences)
    spans, _ = pcfg.compare(test, grammar)
    return {
        "test_nll": -log_likelihood / num_words,
        "test_f1": spans.f1(),
        "test_f1_inner": spans.f1_inner(),
    }


def _print_truth(truth: true_grammar.Truth, test: pcfg.Truth) -> float:
    """The truth's own measures and those of trees that nothing was learned for."""
    log_likelihood, num_words = jax.jit(pcfg.score)(truth.grammar, test.sentences)
    nll = float(-log_likelihood / num_words)
    num_sentences = sum(int(pcfg.has_tree(x).sum()) for x in test.sentences)
    num_words = sum(int(pcfg.num_words(x).sum()) for x in test.sentences)
    share = pcfg.log_length_share(truth.grammar, _MIN_WORDS.value, _MAX_WORDS.value)
    conditioned = nll + share * num_sentences / num_words
    print(
        f"test NLL per word of the truth: {nll:.4f}; given lengths of "
        f"{_MIN_WORDS.value} to {_MAX_WORDS.value} words, which have a share of "
        f"{np.exp(share):.3f} of its sentences: {conditioned:.4f}"
    )
    for name, is_left in (("left", True), ("right", False)):
        trees = [pcfg.branching(x, left=is_left) for x in test.sentences]
        _print_f1(f"{name}-branching", test, trees)
    num = truth.grammar.log_root.size
    learner = pcfg.maximum_likelihood(len(truth.words))
    live = (np.ones(num), np.ones(len(truth.grammar.log_emissions)))
    key = lvm_jax.key(_DATA.seed)
    untrained = jax.jit(lambda key: learner.init(key, live, None).params)(key)
    trees = pcfg.annotate(learner.model(untrained, live), test.sentences).spans
    _print_f1("untrained", test, trees)
    return conditioned


def _print_f1(name: str, test: pcfg.Truth, trees: Sequence[jax.Array]) -> None:
    num = test.grammar.log_root.size
    parts = [
        pcfg.count_spans(true, other, num, num)
        for true, other in zip(test.spans, trees, strict=True)
    ]
    counts = jax.tree.map(lambda *values: sum(values), *parts)
    print(f"F1 of {name} trees: {counts.f1():.3f}, inner {counts.f1_inner():.3f}")


def _plot_trees(
    truth: true_grammar.Truth, test: pcfg.Truth, results: lvm_jax.Results
) -> Figure:
    level, *model = cli.pictured(results)
    grammar = pcfg.grammar_of(*model)
    bucket = len(test.sentences) // 2
    sentences = np.asarray(test.sentences[bucket][:_NUM_PICTURED])
    learned = np.asarray(jax.jit(pcfg.viterbi)(grammar, sentences))
    true = np.asarray(test.spans[bucket][:_NUM_PICTURED])
    return report.plot_trees(
        [[truth.words[word] for word in row if word >= 0] for row in sentences],
        [spans[spans[:, 0] >= 0] for spans in true],
        [spans[spans[:, 0] >= 0] for spans in learned],
        title=f"{truth.name}: first run with {level_name(level)} symbols",
    )


def _write_truth(truth: true_grammar.Truth) -> None:
    words = {"words": np.array(truth.words)}
    archive.write(_SWEEP.workdir / workdir.TRUTH, truth.grammar._asdict() | words)


def main() -> None:
    """Runs the sweep that the flags ask for and reports on it."""
    _SWEEP.start()
    levels = tuple((size, size) for size in _SWEEP.levels)
    if _MODE.value == "faithful":
        cli.refuse("--mode faithful", "batch_size")
        _SWEEP.set_defaults(batch_size=1)
    base = {
        level: pcfg.MaximumLikelihoodHyperparams(_RATES[_MODE.value])
        for level in levels
    }
    plan = _SWEEP.plan(base, name=_MODE.value, levels=levels, snapshot_every=1)
    truth = true_grammar.load(
        _SWEEP,
        seed=_DATA.seed,
        min_words=_MIN_WORDS.value,
        max_words=_MAX_WORDS.value,
        num_buckets=_NUM_BUCKETS.value,
        check=functools.partial(_check, plan),
    )
    if truth is None:
        print("all else is planned once the true grammar is learned")
    elif _TRUTH_ONLY.value:
        _save_truth(truth)
    else:
        _learn(truth, plan)


def _save_truth(truth: true_grammar.Truth) -> None:
    """Writes the true grammar alone, unless this is a dry run."""
    if devices.is_first_process():
        _check_folder()
        if not _SWEEP.is_dry_run:
            _SWEEP.workdir.mkdir(parents=True, exist_ok=True)
            _write_truth(truth)


def _learn(truth: true_grammar.Truth, plan: lvm_jax.Plan) -> None:
    """Learns grammars from sentences of the true one and reports on them."""
    dataset = _draw(truth, 0, _DATA.num_samples)
    task = _task(truth, dataset, plan.batch_size)
    results, task = trained = _SWEEP.train(task, plan)
    truth = truth._replace(grammar=task.truth.grammar)
    bounds = [part.shape[1] for part in task.train.parts[:-1]] + [_MAX_WORDS.value]
    test_set = _draw(truth, 1, _NUM_TEST.value).samples
    test = pcfg.annotate(truth.grammar, pcfg.to_buckets(test_set, bounds))
    true_nll = _print_truth(truth, test)
    _write_truth(truth)
    by_epoch = {
        f"{name.removeprefix('held_out_')}_by_epoch.png": functools.partial(
            report.plot_by_epoch,
            results,
            name,
            label=label,
            limits=_SHARES.get(name),
        )
        for name, label in _BY_EPOCH.items()
    }
    cli.report(
        _SWEEP.workdir,
        {_DATA.seed: trained},
        _HEADERS,
        measures=lambda *_: measure(functools.partial(_test_measures, test), results),
        limits={
            **_SHARES,
            "num_nonterminals_recovered": (0, truth.grammar.log_root.size),
        },
        truth={"test_nll": true_nll},
        figures={
            **by_epoch,
            "trees.png": functools.partial(_plot_trees, truth, test, results),
        },
        digits=3,
    )


if __name__ == "__main__":
    cli.run(main)
