"""Long range: use of distant tokens. Measures attention distance, how far back a changed token still changes the answer, and the score of
answers whose needed token is distant."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from assay.core.tree import PyTree, widened
from assay.diagnostics.measurement import HIGHER, LOWER, NATS, POINT, Measurement, Plot, inapplicable, sample
from assay.diagnostics.statistics import parts_of
from assay.diagnostics.subject import Subject, program
from assay.diagnostics.tokens import Tokens, spread, taken, tokens_of
from assay.models.model import Batch, Model

GROUP = "long range"
FAR = ("far_tokens", "far_loss")
CHANGED = 0.05  # minimum total variation of the answer for a token to count as used
PARTS = 8
NEAR = 64  # distances tried one by one
DRAWS = 8  # replacements tried for each block of tokens, and for each token, or all if it has fewer


def far_tokens(subject: Subject) -> list[Measurement]:
    """Measures accuracy and loss on the half of the answers whose needed token is most distant."""
    if not _answers_in_tokens(subject):
        return [inapplicable(GROUP, name, _why_not(subject)) for name in FAR]
    every = tokens_of(subject, subject.split)
    inside = subject.task.recalls and "decoder_inputs" not in every.batch
    away = _distance(every, inside).astype(float)
    known = np.flatnonzero(away > 0)
    if len(np.unique(away[known])) < 2:
        return [inapplicable(GROUP, name, "does not apply: the needed token is equally distant for all answers.") for name in FAR]
    kept = known[spread(len(known))]
    tokens, away = taken(every, kept), away[kept]
    near, far = parts_of(away, 2)
    needed = "the previous occurrence of the token just read" if inside else "the first token of the input"
    split = f"{subject.split}, {len(far)} far tokens"
    on = f"{len(far)} tokens of {subject.split} at {away[far].min():.0f} tokens or more from {needed}, under teacher forcing"
    shared: dict[str, Any] = {"groups": {split: tokens.groups[far]}, "ids": {split: tokens.ids[far]}}
    right, loss = 100 * tokens.right, tokens.loss
    return [
        sample(
            GROUP,
            FAR[0],
            "mean",
            {f"{split}/score": tokens.right[far]},
            right=("score",),
            unit="fraction",
            how=f"accuracy on {on}",
            meaning=f"Accuracy is {right[far].mean():.1f} % when the needed token is distant and "
            f"{right[near].mean():.1f} % when it is nearby.",
            better=HIGHER,
            margin=POINT,
            plot=_by_distance(away, right, "right", "right (%)"),
            **shared,
        ),
        sample(
            GROUP,
            FAR[1],
            "mean",
            {f"{split}/loss": loss[far]},
            unit="nats",
            how=f"mean negative log-likelihood of {on}",
            meaning=f"The loss is {loss[far].mean():.3f} nats when the needed token is distant and "
            f"{loss[near].mean():.3f} when it is nearby.",
            better=LOWER,
            margin=NATS,
            plot=_by_distance(away, loss, "loss", "nats"),
            **shared,
        ),
    ]


def attention_distance(subject: Subject) -> list[Measurement]:
    """Measures the attention-weighted distance in tokens between query and key, averaged over layers, heads and queries."""
    name = "attention_distance"
    batch = subject.first(min(subject.examples, 64))
    if not subject.tokens or "length" not in batch:
        return [inapplicable(GROUP, name, "does not apply: the model reads no sequence of tokens.")]
    per_example, by_layer, _ = attention(subject, batch)
    if not by_layer:
        return [inapplicable(GROUP, name, "does not apply: no attention weights were found in the model.")]
    layers = list(by_layer)
    value, longest = float(per_example.mean()), int(batch["length"].max())
    split = f"{subject.split}, {len(per_example)} examples"
    return [
        sample(
            GROUP,
            name,
            "mean",
            {f"{split}/distance": per_example},
            {split: subject.groups(len(per_example))},
            unit="tokens",
            how=f"attention-weighted distance on {len(per_example)} examples of {subject.split}, averaged over {len(layers)} layers",
            meaning=f"A query attends {value:.1f} tokens away on average, in inputs of up to {longest} tokens.",
            plot=Plot(
                "bar",
                list(range(len(layers))),
                {"distance": [round(float(by_layer[layer].mean()), 4) for layer in layers]},
                "",
                "tokens",
                layers,
            ),
        )
    ]


def effective_context(subject: Subject) -> list[Measurement]:
    """Measures how far back a changed token still changes the last answer, by more than CHANGED in total variation."""
    name = "effective_context"
    batch = subject.first(min(subject.examples, 64))
    if not subject.tokens or "decoder_inputs" in batch or subject.task.vocabulary.heads:
        return [inapplicable(GROUP, name, "does not apply: the model reads no single stream of tokens that ends in an answer.")]
    if not subject.of_classes:
        return [inapplicable(GROUP, name, "does not apply: the model answers with numbers or several labels, not with a single class.")]
    groups = subject.groups(min(subject.examples, 64))
    if not subject.task.vocabulary.pooled:  # examples in which nothing is asked have no answer to change
        asked = np.asarray(batch["mask"]).any(axis=1)
        batch = {key: np.asarray(array)[asked] for key, array in batch.items()}
        groups = None if groups is None else groups[asked]
    length = batch["length"]
    at = length - 1 if subject.task.vocabulary.pooled else batch["mask"].shape[1] - 1 - batch["mask"][:, ::-1].argmax(axis=1)
    if not len(at):
        return [inapplicable(GROUP, name, "does not apply: no example asks for an answer.")]
    most = int(at.max())
    near = list(range(1, min(most, NEAR) + 1))
    change, known, draws = _changes(subject, batch, at)
    if not known.any():
        return [inapplicable(GROUP, name, f"the value is not finite: the answers to all {len(at)} examples are not finite.")]
    apart = np.stack([_most(change, distance, draws) for distance in near]) if near else np.full((1, len(at)), np.nan)
    tried = [i for i in range(len(near)) if np.isfinite(apart[i]).any()]
    reach = np.array([max((near[i] for i in tried if apart[i, row] > CHANGED), default=0) for row in range(len(at))])
    if most > NEAR:
        far = _farthest(change, at, draws)
        reach, tried = np.where(far > 0, far, reach), tried or [0]
    if not tried:
        return [inapplicable(GROUP, name, "does not apply: no token before the last answer can be changed.")]
    shown = [i for i in tried if np.isfinite(apart[i]).any()]
    curve = [round(float(np.nanmean(apart[i])), 5) for i in shown]
    split = f"{subject.split}, {len(at)} examples"
    searched = f"each of {len(near)} distances" + (f", and by bisection up to {most}" if most > NEAR else "")
    return [
        sample(
            GROUP,
            name,
            "mean",
            {f"{split}/reach": np.where(known, reach, np.nan)},
            {split: groups},
            unit="tokens",
            how=f"on {len(at)} examples of {subject.split}, one token replaced by up to {max(draws, 1)} of other examples at {searched}; "
            f"the largest distance that changes the last answer by more than {CHANGED} in total variation",
            meaning=f"Tokens up to {reach.mean():.1f} back still change the answer; distances up to {most} were tested.",
            better=HIGHER,
            plot=Plot("line", [near[i] for i in shown], {"change": curve}, "tokens back", "change of the answer"),
        )
    ]


# -- private --------------------------------------------------------------------------------------------------------------


def _answers_in_tokens(subject: Subject) -> bool:
    return subject.tokens and not subject.task.vocabulary.pooled and not subject.task.vocabulary.heads


def _why_not(subject: Subject) -> str:
    if not subject.tokens:
        return "does not apply: the model reads no tokens."
    if subject.task.vocabulary.pooled:
        return "does not apply: one class for a whole text does not depend on one needed token."
    return "does not apply: several heads answer."


def _distance(tokens: Tokens, inside: bool) -> np.ndarray:
    """Returns how far back the needed token of each answer lies, int [tokens]; 0 if there is none.

    The needed token is the first of the input, or the previous occurrence of the token just read. A separate output sequence is counted
    as following the input.
    """
    if not inside:
        return tokens.place + (np.asarray(tokens.batch["length"])[tokens.row] if "decoder_inputs" in tokens.batch else 0)
    inputs = np.asarray(tokens.batch["inputs"])
    found = np.zeros(inputs.shape, np.int64)
    for row, read in enumerate(inputs):
        last: dict[int, int] = {}
        for place, token in enumerate(read.tolist()):
            found[row, place] = place - last[token] if token in last else 0
            last[token] = place
    return found[tokens.row, tokens.place]


def _by_distance(away: np.ndarray, values: np.ndarray, name: str, label: str) -> Plot:
    parts = parts_of(away, PARTS)
    x = [round(float(away[part].mean()), 2) for part in parts]
    return Plot("line", x, {name: [round(float(values[part].mean()), 4) for part in parts]}, "distance (tokens)", label)


Change = Callable[..., np.ndarray]  # (nearest, farthest, draw) -> total variation of each answer, [n]


def _changes(subject: Subject, batch: Batch, at: np.ndarray) -> tuple[Change, np.ndarray, int]:
    """Returns (change, known, draws): the change of each answer when its tokens at distances nearest..farthest are replaced, [n], which
    answers are finite, bool [n], and how many replacements a token has, at most DRAWS.

    The change is NaN where no token can be replaced or the answer is not finite, and 1 where it is lost: no longer finite. Replacements are
    tokens of other examples at the same place, of which `draw` chooses; of a block, all draws but the first replace only half.
    """
    inputs, length = batch["inputs"], batch["length"]
    places = np.arange(inputs.shape[1])[None, :]
    free = places < length[:, None]
    if "given" in batch:
        free &= np.asarray(batch["given"]) > 0
    pools = _pools(np.asarray(inputs), np.asarray(length))
    spares = [_spare(np.asarray(inputs), pools, draw) for draw in range(DRAWS)]
    halves = np.random.default_rng(0).random((DRAWS, *inputs.shape)) < 0.5
    answering = _answering(subject.model, subject.task.vocabulary.pooled)
    clean = np.asarray(answering(subject.params, batch, at))
    known = np.isfinite(clean).all(axis=-1)

    def change(nearest: Any, farthest: Any, draw: int = 0) -> np.ndarray:
        away = at[:, None] - places
        block = np.reshape(np.asarray(farthest) > np.asarray(nearest), (-1, 1))
        wanted = (
            (~block | halves[draw] | (draw == 0))
            & (away >= np.reshape(nearest, (-1, 1)))
            & (away <= np.reshape(farthest, (-1, 1)))
            & free
            & (spares[draw] != inputs)
        )
        changed = np.where(wanted, spares[draw], inputs)
        found = np.asarray(answering(subject.params, {**batch, "inputs": changed}, at))
        moved = np.where(np.isfinite(found).all(axis=-1), 0.5 * np.abs(found - clean).sum(axis=-1), 1.0)
        return np.where(wanted.any(axis=1) & known, moved, np.nan)

    return change, known, min(DRAWS, max((len(pool) for pool in pools.values()), default=2) - 1)


def _most(change: Change, distance: Any, draws: int) -> np.ndarray:
    """Returns the largest change of each answer by a replacement of its token at a distance; NaN where it has none."""
    tried = np.stack([change(distance, distance, draw) for draw in range(max(draws, 1))])
    return np.where(np.isnan(tried).all(axis=0), np.nan, np.nan_to_num(tried, nan=-1.0).max(axis=0))


def _pools(inputs: np.ndarray, length: np.ndarray) -> dict[int, np.ndarray]:
    """Returns the different tokens at each place, sorted."""
    return {place: np.unique(inputs[length > place, place]) for place in range(inputs.shape[1])}


def _spare(inputs: np.ndarray, pools: Mapping[int, np.ndarray], draw: int) -> np.ndarray:
    """Returns another example's token for each place, [n, seq]; the token itself where no other example has another.

    Until all tokens of a place have been tried, each draw gives another one.
    """
    found, rows = inputs.copy(), np.arange(len(inputs))
    for place, pool in pools.items():
        if len(pool) > 1:
            own = np.searchsorted(pool, np.minimum(inputs[:, place], pool[-1]))
            step = 1 + (rows * 7 + place + draw) % (len(pool) - 1)
            found[:, place] = pool[(own + step) % len(pool)]
    return found


def _farthest(change: Change, at: np.ndarray, draws: int) -> np.ndarray:
    """Returns the largest distance beyond NEAR at which a token changes the answer, int [n]; 0 if none does.

    Bisection: all tokens at a distance or beyond are replaced together, in several ways, since two changes may cancel; the token that is
    found is then replaced alone.
    """
    low, high = np.full(len(at), NEAR), at + 1  # tokens beyond `low` matter, those beyond `high - 1` do not
    matters = _matters(change, NEAR + 1, at)
    low = np.where(matters, NEAR + 1, 0)
    while ((high - low > 1) & matters).any():
        middle = (low + high) // 2
        far = _matters(change, middle, at)
        low, high = np.where(far, middle, low), np.where(far, high, middle)
    return np.where(matters & (_most(change, low, draws) > CHANGED), low, 0)


def _matters(change: Change, nearest: Any, farthest: Any) -> np.ndarray:
    return np.any([change(nearest, farthest, draw) > CHANGED for draw in range(DRAWS)], axis=0)


def _answering(model: Model, pooled: bool):
    """Returns a function for the probabilities of the last answer, [n, classes]."""

    def answer(params: PyTree, batch: Batch, at: jax.Array) -> jax.Array:
        logits = widened(model.apply(params, batch).logits)
        if not pooled:
            logits = jnp.take_along_axis(logits, at[:, None, None], axis=1)[:, 0]
        return jax.nn.softmax(logits, axis=-1)

    return program(model, answer)


def attention(subject: Subject, batch: Batch) -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Applies attention_of to a batch; compiled once per subject."""
    if "attention" not in subject.asked:
        subject.asked["attention"] = attention_of(subject.model)
    return jax.device_get(subject.asked["attention"](subject.params, batch))


def attention_of(model: Model):
    """Returns `(params, batch) -> (distance [n], {layer: distance [n]}, {layer: entropy [n]})` for self-attention.

    Entropy is relative to uniform attention over the tokens that a query can see; 1 means uniform attention.
    """

    def read(params: PyTree, batch: Batch):
        taps = model.apply(params, batch).taps
        distances, entropies = {}, {}
        for path, weights in taps.items():
            if not path.endswith("weights") or weights.ndim != 4 or weights.shape[2] != weights.shape[3]:
                continue
            weights, seq = widened(weights), weights.shape[2]
            known = (
                batch["length"] if not path.startswith("decoder/") or "mask" not in batch else batch["mask"].sum(axis=1).astype(jnp.int32)
            )
            real = (jnp.arange(seq)[None, :] < known[:, None]).astype(jnp.float32)
            away = jnp.abs(jnp.arange(seq)[:, None] - jnp.arange(seq)[None, :])
            count = jnp.maximum(real.sum(axis=1), 1.0)
            distances[path] = ((weights * away[None, None]).sum(axis=-1).mean(axis=1) * real).sum(axis=1) / count
            entropy = -(weights * jnp.log(jnp.maximum(weights, 1e-12))).sum(axis=-1).mean(axis=1)
            visible = ((weights > 0) | jnp.isnan(weights)).sum(axis=-1).max(axis=1)  # a row that is not finite is not seen as focused
            entropies[path] = (jnp.where(visible > 1, entropy / jnp.log(jnp.maximum(visible, 2)), 0.0) * real).sum(axis=1) / jnp.maximum(
                ((visible > 1) * real).sum(axis=1), 1.0
            )
        each = jnp.stack(list(distances.values())).mean(axis=0) if distances else jnp.zeros(())
        return each, distances, entropies

    return program(model, read)
