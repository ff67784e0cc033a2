"""Figures of what single models have learned: pictures, similarities, trees."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import ConnectionPatch
from matplotlib.ticker import MaxNLocator

from lvm_jax import dynamics
from lvm_jax.report import style
from lvm_jax.types import Recovery

_LEAST_WIDTH = 4.2  # inches, of a legend in one line
_COLUMNS = 8  # pictures in a row, even
_WORD_CHARACTERS = 14  # shown of a word under a tree
_SMALL = {"axes.grid": False, "font.size": 7}
STATE_COLORS = ("0.75", "C1", "C0", "C3")  # in the order of `dynamics.STATES`


def _status(recovery: Recovery, latent: int) -> str:
    """What the filter says of a latent that recovers nothing."""
    for status in ("discarded", "duplicate"):
        if getattr(recovery, status)[latent]:
            return status
    return "unmatched" if recovery.kept[latent] else "padding"


def _by_status(recovery: Recovery, num_latents: int) -> dict[str, list[int]]:
    """Latents by what the filter says of them: matched first, in the truths' order.

    Padding is left out.
    """
    matched = [
        latent for latent in np.asarray(recovery.matched).tolist() if latent >= 0
    ]
    groups = {"matched": matched}
    for latent in sorted(set(range(num_latents)) - set(matched)):
        groups.setdefault(_status(recovery, latent), []).append(latent)
    groups.pop("padding", None)
    return groups


@style.styled(_SMALL)
def plot_pictures(
    truths: np.ndarray, latents: np.ndarray, recovery: Recovery, title: str = ""
) -> Figure:
    """True and learned latents as pictures.

    Each truth stands beside the latent that recovers it; the latents that recover
    nothing follow, each with what the filter says of it.

    Args:
      truths: [T, height, width] from 0 to 1; or [T, D], which are drawn as high as
        they can be without being higher than wide.
      latents: [K, height, width] or [K, D].
      recovery: the match of the two.
      title: of the figure.
    """
    truths, latents = as_pictures(truths), as_pictures(latents)
    groups = _by_status(recovery, len(latents))
    groups.pop("matched")
    rest = [(status, k) for status in sorted(groups) for k in groups[status]]
    num_pair_rows = -(-2 * len(truths) // _COLUMNS)
    num_rows = num_pair_rows - (-len(rest) // _COLUMNS)
    figure = style.new_figure(6.4, 0.92 * num_rows + 0.35)
    grid = figure.subplots(num_rows, _COLUMNS, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    pairs = grid[:num_pair_rows].reshape(-1, 2)
    matched = np.asarray(recovery.matched).tolist()
    for index, (truth, latent) in enumerate(zip(truths, matched, strict=True)):
        left, right = pairs[index]
        draw_picture(left, truth, f"truth {index + 1}")
        if latent >= 0:
            draw_picture(right, latents[latent], "learned")
        else:
            _write_not_recovered(right)
    for axes, (status, latent) in zip(grid[num_pair_rows:].flat, rest, strict=False):
        draw_picture(axes, latents[latent], status, color="0.45")
    figure.suptitle(style.wrap(title, 6.4), fontsize=9)
    return figure


@style.styled(_SMALL)
def plot_moments(
    latents: np.ndarray,
    state: np.ndarray,
    nearest: np.ndarray,
    names: Sequence[str],
    title: str = "",
) -> Figure:
    """Latents of a run at several moments, by what they are to the truths.

    A column is a latent at all moments, in the order of the truths that latents are
    nearest to in the end, empty ones last. Frames have the state's colour, and a line
    below joins latents that contend for one truth.

    Args:
      latents: [M, K, D] from 0 to 1, at M moments.
      state: [M, K]. Of `lvm_jax.dynamics`.
      nearest: [M, K]. The truth that each latent is nearest to.
      names: of the moments.
      title: of the figure.
    """
    order = np.lexsort((nearest[-1], state[-1] == dynamics.EMPTY))
    num_moments, num_latents = state.shape
    width = max(0.48 * num_latents + 0.9, _LEAST_WIDTH)
    figure = style.new_figure(width, 0.58 * num_moments + 0.75)
    grid = figure.subplots(num_moments, num_latents, squeeze=False)
    for row, name, pictures, states, truths in zip(
        grid, names, latents, state, nearest, strict=True
    ):
        for axes, latent in zip(row, order, strict=True):
            color = STATE_COLORS[states[latent]]
            draw_picture(axes, as_pictures(pictures[latent][None])[0], "", color=color)
            for spine in axes.spines.values():
                spine.set_linewidth(1.5)
        row[0].set_ylabel(style.wrap(name, 1.0), rotation=0, ha="right", va="center")
        of_truth = {}
        for axes, latent in zip(row, order, strict=True):
            if states[latent] == dynamics.CONTENDING:
                of_truth.setdefault(truths[latent], []).append(axes)
        for level, contenders in enumerate(of_truth.values()):
            _join(contenders, level)
    handles = [Line2D([], [], color=color, lw=1.5) for color in STATE_COLORS]
    figure.legend(
        handles, dynamics.STATES, loc="outside lower center", ncols=len(handles)
    )
    figure.suptitle(style.wrap(title, width), fontsize=9)
    return figure


def _join(panels: Sequence[Axes], level: int) -> None:
    """A line below some panels of a row, lower at a higher level."""
    first, last = panels[0], panels[-1]
    depth = -0.1 - 0.09 * level
    line = ConnectionPatch(
        (0.5, depth),
        (0.5, depth),
        "axes fraction",
        "axes fraction",
        axesA=first,
        axesB=last,
        color=STATE_COLORS[dynamics.CONTENDING],
        lw=1,
    )
    first.figure.add_artist(line)
    for axes in panels:
        axes.plot(
            [0.5, 0.5],
            [0, depth],
            transform=axes.transAxes,
            color=STATE_COLORS[dynamics.CONTENDING],
            lw=1,
            clip_on=False,
        )


def as_pictures(values: np.ndarray) -> np.ndarray:
    """Rows [K, D] as pictures that are no higher than wide, and as high as can be."""
    if values.ndim == 3:
        return values
    size = values.shape[1]
    height = next(n for n in range(math.isqrt(size), 0, -1) if size % n == 0)
    return values.reshape(-1, height, size // height)


def draw_picture(
    axes: Axes,
    picture: np.ndarray,
    name: str,
    color: str = "black",
    limits: tuple[float, float] = (0, 1),
) -> None:
    """A picture [height, width] in a frame, from white to black, its name above."""
    axes.set_axis_on()
    low, high = limits
    axes.imshow(picture, cmap="Greys", vmin=low, vmax=high, interpolation="nearest")
    axes.set_title(name, color=color, pad=2)
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(visible=True, linewidth=0.5, color=color)


def _write_not_recovered(axes: Axes) -> None:
    middle = {"ha": "center", "va": "center", "transform": axes.transAxes}
    axes.text(0.5, 0.5, "not\nrecovered", color="C3", **middle)


@style.styled({"axes.grid": False})
def plot_similarity(
    similarity: np.ndarray, recovery: Recovery, title: str = "", *, label: str
) -> Figure:
    """The similarity of every true and learned latent as a matrix.

    The latents that recover a truth come first, in the order of the truths; the
    others follow, by what the filter says of them.

    Args:
      similarity: [T, K], from -1 to 1.
      recovery: the match of the two.
      title: of the figure.
      label: what the similarity is.
    """
    num_truths, num_latents = similarity.shape
    groups = {
        status: latents
        for status, latents in _by_status(recovery, num_latents).items()
        if latents
    }
    order = [latent for latents in groups.values() for latent in latents]
    width = min(1.6 + 3.2 * num_latents / num_truths, 10.0)
    figure = style.new_figure(width, 3.2)
    axes = figure.subplots()
    image = axes.imshow(
        similarity[:, order],
        cmap="RdBu_r",
        vmin=-1,
        vmax=1,
        aspect="auto",
        extent=(0.5, num_latents + 0.5, num_truths + 0.5, 0.5),
    )
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    _mark_groups(axes, groups)
    axes.set(xlabel="latent variables learned", ylabel="truth")
    axes.set_title(style.wrap(title, width))
    figure.colorbar(image, label=label)
    return figure


def _mark_groups(axes: Axes, groups: Mapping[str, Sequence[int]]) -> None:
    """A line after each group of columns, and how many there are below it."""
    sizes = np.array([len(latents) for latents in groups.values()])
    ends = np.cumsum(sizes)
    for end in ends[:-1]:
        axes.axvline(end + 0.5, color="black", lw=0.8)
    names = [f"{size} {status}" for size, status in zip(sizes, groups, strict=True)]
    slanted = {"rotation": 20, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(ends - (sizes - 1) / 2, names, **slanted)


@style.styled(_SMALL)
def plot_trees(
    sentences: Sequence[Sequence[str]],
    true: Sequence[np.ndarray],
    learned: Sequence[np.ndarray],
    title: str = "",
) -> Figure:
    """True and learned trees of a few sentences, side by side.

    Spans carry the number of their symbol; those that only one of the two trees has
    are red.

    Args:
      sentences: the words of each.
      true: spans [n, 3] of each true tree: first word, last word, symbol.
      learned: the same of the learned trees.
      title: of the figure.
    """
    figure = style.new_figure(7.0, 1.9 * len(sentences))
    grid = figure.subplots(len(sentences), 2, squeeze=False)
    for row, (words, *trees) in zip(
        grid, zip(sentences, true, learned, strict=True), strict=True
    ):
        spans = [np.asarray(tree).tolist() for tree in trees]
        ends = [{(first, last) for first, last, _ in tree} for tree in spans]
        for axes, tree, name in zip(row, spans, ("true", "learned"), strict=True):
            _draw_tree(axes, words, tree, ends[0] & ends[1])
            axes.set_title(name, fontsize=8)
    figure.suptitle(style.wrap(title, 7.0), fontsize=9)
    return figure


def _heights(spans: Sequence[Sequence[int]]) -> dict[tuple[int, int], int]:
    """How many spans are below the top of each, itself counted, by its ends."""
    heights = {}
    for first, last, _ in sorted(spans, key=lambda span: span[1] - span[0]):
        inner = [
            height
            for (start, stop), height in heights.items()
            if first <= start and stop <= last
        ]
        heights[first, last] = 1 + max(inner, default=0)
    return heights


def _draw_tree(
    axes: Axes,
    words: Sequence[str],
    spans: Sequence[Sequence[int]],
    shared: set[tuple[int, int]],
) -> None:
    """A tree over its words; spans that the other tree lacks are red."""
    heights = _heights(spans)
    for first, last, symbol in spans:
        height = heights[first, last]
        color = "black" if (first, last) in shared else "C3"
        axes.plot([first, last], [height, height], color=color, lw=1.2)
        for end in (first, last):
            axes.plot([end, end], [height - 0.35, height], color=color, lw=1.2)
        axes.text(
            (first + last) / 2, height + 0.08, str(symbol), ha="center", color=color
        )
    for place, word in enumerate(words):
        if len(word) > _WORD_CHARACTERS:
            word = f"{word[: _WORD_CHARACTERS - 1]}…"
        axes.text(place, 0.1, word, rotation=60, ha="right", va="top")
    top = max(heights.values(), default=0)
    axes.set(xlim=(-0.7, len(words) - 0.3), ylim=(-0.2, top + 0.8))
    axes.set_axis_off()
