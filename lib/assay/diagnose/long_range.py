"""Long range: whether what stands far back is used. Where attention looks, how far back a changed token still changes the answer, and the
score of answers whose needed token is far away."""

import jax
import jax.numpy as jnp
import numpy as np

from assay.core.tree import PyTree, widened
from assay.data.source import content_hash
from assay.diagnose.measurement import HIGHER, POINT, Measurement, Plot, inapplicable, sample
from assay.diagnose.subject import Subject
from assay.models.model import Batch, Model

GROUP = "long range"
CHANGED = 0.05  # total variation of the answer from which on a token counts as used
INSIDE = ("recall/", "stdlib/lm")  # tasks that need the place where the token just read stood before
MOST_TOKENS = 4096
PARTS = 8


def far_tokens(subject: Subject) -> list[Measurement]:
    """The accuracy of those answers, of a half of all, whose needed token is farthest away."""
    name = "far_tokens"
    if not _reads_in_place(subject):
        return [inapplicable(GROUP, name, _why_not(subject))]
    most = min(subject.examples, 256)
    batch, groups = subject.first(most), subject.groups(most)
    right, loss = jax.device_get(_by_token(subject.model)(subject.params, batch))
    distance, needed = _distance(batch, subject.task.name.startswith(INSIDE))
    rows, columns = np.nonzero((batch["mask"] > 0) & (distance > 0))
    if len(rows) == 0 or len(np.unique(distance[rows, columns])) < 2:
        return [inapplicable(GROUP, name, "does not apply: all answers need tokens equally far away.")]
    kept = np.linspace(0, len(rows) - 1, min(MOST_TOKENS, len(rows))).round().astype(int)
    rows, columns = rows[kept], columns[kept]
    away, right, loss = (values[rows, columns].astype(float) for values in (distance, right, loss))
    order = np.argsort(away, kind="stable")
    far = order[len(order) // 2 :]
    parts = np.array_split(order, min(PARTS, len(np.unique(away))))
    near = order[: len(order) // 2]
    curve = Plot(
        "line",
        [round(float(away[part].mean()), 2) for part in parts],
        {"right": [round(100 * float(right[part].mean()), 3) for part in parts]},
        "distance (tokens)",
        "right (%)",
    )
    split = f"{subject.split}, {len(far)} far tokens"
    return [
        sample(
            GROUP,
            name,
            "mean",
            {f"{split}/score": right[far]},
            {split: rows[far].astype(str) if groups is None else groups[rows[far]]},
            ids={split: _numbers(batch["inputs"])[rows[far]] * np.uint64(1 << 20) + columns[far].astype(np.uint64)},
            unit="fraction",
            how=f"right answers among {len(far)} tokens of {subject.split} at {away[far].min():.0f} tokens or more from {needed}, "
            "the true answers before them given",
            meaning=f"Answers that need a token from far away are right in {100 * right[far].mean():.1f} %, "
            f"from near in {100 * right[near].mean():.1f} %; their loss is {loss[far].mean():.3f} against {loss[near].mean():.3f} nats.",
            better=HIGHER,
            margin=POINT,
            plot=curve,
        )
    ]


def attention_distance(subject: Subject) -> list[Measurement]:
    """How many tokens lie between a query and what it attends to, weighted by attention; the mean over layers, heads and queries."""
    name = "attention_distance"
    batch = subject.first(min(subject.examples, 64))
    if not subject.tokens or "length" not in batch:
        return [inapplicable(GROUP, name, "does not apply: the model reads no sequence of tokens.")]
    per_example, by_layer, _ = jax.device_get(attention_of(subject.model)(subject.params, batch))
    if not by_layer:
        return [inapplicable(GROUP, name, "does not apply: the model has no attention.")]
    layers = list(by_layer)
    value, longest = float(per_example.mean()), int(batch["length"].max())
    split = f"{subject.split}, {len(per_example)} examples"
    return [
        sample(
            GROUP,
            name,
            "mean",
            {f"{split}/distance": per_example},
            unit="tokens",
            how=f"attention-weighted distance on {len(per_example)} examples of {subject.split}, the mean over {len(layers)} layers",
            meaning=f"A query looks {value:.1f} tokens away on average, in inputs of up to {longest}.",
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
    """How far back a changed token still changes the last answer, by more than CHANGED in total variation."""
    name = "effective_context"
    batch = subject.first(min(subject.examples, 64))
    if not subject.tokens or "decoder_inputs" in batch or subject.task.vocabulary.heads:
        return [inapplicable(GROUP, name, "does not apply: there is no one stream of tokens that ends in an answer.")]
    inputs, length = batch["inputs"], batch["length"]
    at = length - 1 if subject.task.vocabulary.pooled else batch["mask"].shape[1] - 1 - batch["mask"][:, ::-1].argmax(axis=1)
    distances = _distances(int(at.max()))
    apart = np.full((len(distances), len(inputs)), np.nan)
    program = _answering(subject.model, subject.task.vocabulary.pooled)
    clean = np.asarray(program(subject.params, batch, at))
    spare = np.roll(inputs, 1, axis=0)
    for i, distance in enumerate(distances):
        place, rows = at - distance, np.arange(len(inputs))
        allowed = (place >= 0) & (place < length)
        if "given" in batch:
            allowed &= np.take_along_axis(batch["given"], np.maximum(place, 0)[:, None], axis=1)[:, 0] > 0
        changed = inputs.copy()
        for row in rows[allowed]:
            pool = spare[:, place[row]][(spare[:, place[row]] != inputs[row, place[row]]) & (place[row] < length)]
            if len(pool) == 0:
                allowed[row] = False
            else:
                changed[row, place[row]] = pool[(row * 7 + distance) % len(pool)]
        found = np.asarray(program(subject.params, {**batch, "inputs": changed}, at))
        apart[i, allowed] = 0.5 * np.abs(found - clean).sum(axis=-1)[allowed]
    reach = np.array(
        [max((distances[i] for i in range(len(distances)) if apart[i, row] > CHANGED), default=0) for row in range(len(inputs))]
    )
    tried = [i for i in range(len(distances)) if np.isfinite(apart[i]).any()]
    if not tried:
        return [inapplicable(GROUP, name, "does not apply: no token before the last answer can be changed.")]
    curve = [round(float(np.nanmean(apart[i])), 5) for i in tried]
    split = f"{subject.split}, {len(inputs)} examples"
    return [
        sample(
            GROUP,
            name,
            "mean",
            {f"{split}/reach": reach.astype(float)},
            unit="tokens",
            how=f"on {len(inputs)} examples of {subject.split}, one token changed to another's at each of {len(tried)} distances "
            f"up to {distances[tried[-1]]}; the farthest that changes the last answer by more than {CHANGED} in total variation",
            meaning=f"Tokens up to {reach.mean():.1f} back still change the answer, of {distances[tried[-1]]} that were tried.",
            better=HIGHER,
            plot=Plot("line", [distances[i] for i in tried], {"change": curve}, "tokens back", "change of the answer"),
        )
    ]


# -- private --------------------------------------------------------------------------------------------------------------


def _reads_in_place(subject: Subject) -> bool:
    return (
        subject.tokens
        and not subject.task.vocabulary.pooled
        and not subject.task.vocabulary.heads
        and "decoder_inputs" not in subject.first(1)
    )


def _why_not(subject: Subject) -> str:
    if not subject.tokens:
        return "does not apply: the model reads no tokens."
    if subject.task.vocabulary.pooled:
        return "does not apply: one class for a whole text needs no one token."
    return "does not apply: what is read and what is written are two sequences, or several heads answer."


def _numbers(inputs: np.ndarray) -> np.ndarray:
    """uint64 [n]: a hash of each row, of 44 bits."""
    return content_hash(np.asarray(inputs)) >> np.uint64(20)


def _distance(batch: Batch, inside: bool) -> tuple[np.ndarray, str]:
    """[n, width]: how far back the token lies that each place needs, 0 where there is none; and what it is."""
    inputs = np.asarray(batch["inputs"])
    places = np.arange(inputs.shape[1])
    if not inside:
        return np.broadcast_to(places[None, :], inputs.shape), "the first token of the input"
    found = np.zeros(inputs.shape, np.int64)
    for row, tokens in enumerate(inputs):
        last: dict[int, int] = {}
        for place, token in enumerate(tokens.tolist()):
            found[row, place] = place - last[token] if token in last else 0
            last[token] = place
    return found, "where the token just read stood before"


def _by_token(model: Model):
    def answer(params: PyTree, batch: Batch) -> tuple[jax.Array, jax.Array]:
        log_probability = jax.nn.log_softmax(widened(model.apply(params, batch).logits), axis=-1)
        loss = -jnp.take_along_axis(log_probability, batch["targets"][..., None], axis=-1)[..., 0]
        return log_probability.argmax(axis=-1) == batch["targets"], loss

    return jax.jit(answer)


def _answering(model: Model, pooled: bool):
    """[n, classes]: the probabilities of the last answer."""

    def answer(params: PyTree, batch: Batch, at: jax.Array) -> jax.Array:
        logits = widened(model.apply(params, batch).logits)
        if not pooled:
            logits = jnp.take_along_axis(logits, at[:, None, None], axis=1)[:, 0]
        return jax.nn.softmax(logits, axis=-1)

    return jax.jit(answer)


def attention_of(model: Model):
    """`(params, batch) -> (distance [n], {layer: distance [n]}, {layer: entropy [n]})` of attention within one sequence.

    Entropy is a share of that of even attention to as many tokens as a query may see; 1 looks at all alike.
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
            visible = (weights > 0).sum(axis=-1).max(axis=1)
            entropies[path] = (jnp.where(visible > 1, entropy / jnp.log(jnp.maximum(visible, 2)), 0.0) * real).sum(axis=1) / jnp.maximum(
                ((visible > 1) * real).sum(axis=1), 1.0
            )
        each = jnp.stack(list(distances.values())).mean(axis=0) if distances else jnp.zeros(())
        return each, distances, entropies

    return jax.jit(read)


def _distances(most: int) -> list[int]:
    """1, 2, 3, 4, 6, 8, 12, 16, ... up to `most`."""
    found = sorted({round(2 ** (k / 2)) for k in range(1, 40)} | {1})
    return [distance for distance in found if distance <= most]
