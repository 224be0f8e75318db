"""Treatments that carry state, draw clients and pad rows, written as a user would; and a script that trains one of them on any mesh.

python carrying.py WORKDIR STEPS MESH
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np

from assay.config.groups import defaults
from assay.config.models import mlp
from assay.config.overrides import override
from assay.config.schema import to_dict
from assay.config.tasks import digits
from assay.core import rng
from assay.core.rng import example_keys, integers
from assay.data.clients import by_label
from assay.data.loader import Drawn
from assay.train import loop
from assay.train.treatment import Treatment


def of_clients(gradient, params, batch, key, step, carried, local):
    """(mean change of the parameters, aux of all) where `local(gradient, params, rows, client, key)` is what a client does."""

    def one(part):
        rows, client = {name: array for name, array in part.items() if name != "client"}, part["client"]
        return local(gradient, params, rows, client, rng.stream(key, "client", client))

    found, auxes = jax.lax.map(one, dict(batch))
    weight, sums = auxes.weight.sum(), jax.tree.map(lambda leaf: leaf.sum(axis=0), auxes.sums)
    return found, auxes._replace(weight=weight, sums=sums)


def averaged(rate: float = 0.05):
    """FedAvg (McMahan et al. 2017): clients of a batch [clients, steps, rows, ...] take their steps, and the mean of their moves counts."""

    def arrow(gradient):
        def federated(params, batch, key, step, carried):
            def local(gradient, params, rows, client, key):
                def one(at, part):
                    grads, aux, _ = gradient(at, part[1], rng.stream(key, "local", part[0]), step, carried)
                    return jax.tree.map(lambda leaf, g: leaf - rate * g, at, grads), aux._replace(output=None)

                steps = jnp.arange(rows["weight"].shape[0])
                end, aux = jax.lax.scan(one, params, (steps, rows))
                return jax.tree.map(jnp.subtract, params, end), aux

            moves, aux = of_clients(gradient, params, batch, key, step, carried, local)
            return jax.tree.map(lambda leaf: leaf.mean(axis=0), moves), aux, carried

        return federated

    return arrow


def scaffold_gradient(rate: float):
    """SCAFFOLD, option II (Karimireddy et al. 2020): clients correct their steps by control variates, which are carried."""

    def arrow(gradient):
        def federated(params, batch, key, step, carried):
            server, every = carried["scaffold"]["server"], carried["scaffold"]["clients"]

            def local(gradient, params, rows, client, key):
                own = jax.tree.map(lambda leaf: leaf[client], every)

                def one(at, part):
                    grads, aux, _ = gradient(at, part[1], rng.stream(key, "local", part[0]), step, carried)
                    at = jax.tree.map(lambda leaf, g, mine, all_: leaf - rate * (g - mine + all_), at, grads, own, server)
                    return at, aux._replace(output=None)

                count = rows["weight"].shape[0]
                end, aux = jax.lax.scan(one, params, (jnp.arange(count), rows))
                move = jax.tree.map(jnp.subtract, params, end)
                new = jax.tree.map(lambda mine, all_, leaf: mine - all_ + leaf / (count * rate), own, server, move)
                return (move, new, jax.tree.map(jnp.subtract, new, own)), aux

            (moves, new, change), aux = of_clients(gradient, params, batch, key, step, carried, local)
            total, ids = jax.tree.leaves(every)[0].shape[0], batch["client"]
            share = len(ids) / total
            after = {
                "server": jax.tree.map(lambda leaf, moved: leaf + share * moved.mean(axis=0), server, change),
                "clients": jax.tree.map(lambda leaf, values: leaf.at[ids].set(values), every, new),
            }
            return jax.tree.map(lambda leaf: leaf.mean(axis=0), moves), aux, {**carried, "scaffold": after}

        return federated

    return arrow


def carry_scaffold(count: int):
    def carry(shapes, batch):
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        each = jax.tree.map(lambda leaf: jnp.zeros((count, *leaf.shape), leaf.dtype), shapes)
        return {"scaffold": {"server": zeros, "clients": each}}

    return carry


def draw_clients(count: int, chosen: int, local: int, rows: int):
    """Each step sees `chosen` of `count` clients, with `local` times `rows` of their examples."""

    def arrow(sample, source):
        parts = by_label(np.arange(source.size), source.labels(), count, 1.0, source.seed)

        def draw(step):
            keys = example_keys("round", source.seed, np.arange(step * count, (step + 1) * count))
            who = np.argsort(keys)[:chosen]
            places = integers(keys[:chosen], "rows", local * rows, 2**31)
            indices = [parts[client][place % len(parts[client])].reshape(local, rows) for client, place in zip(who, places, strict=True)]
            return Drawn(np.stack(indices), columns={"client": who.astype(np.int32)})

        return draw

    return arrow


def one_client(batch):
    return {name: array[0, 0] for name, array in batch.items() if name != "client"}


def fed_avg(**shape: int) -> Treatment:
    return Treatment(gradient=averaged(), sample=draw_clients(**shape), one=one_client, unclipped=True, name="fed_avg")


def scaffold(count: int = 6, chosen: int = 2, local: int = 2, rows: int = 3, rate: float = 0.05) -> Treatment:
    return Treatment(
        gradient=scaffold_gradient(rate),
        carry=carry_scaffold(count),
        sample=draw_clients(count, chosen, local, rows),
        one=one_client,
        unclipped=True,
        name="scaffold",
    )


def config_of(**changes: object) -> dict:
    """An MLP of 618 numbers on digits, in calls of three steps."""
    config = defaults()
    config.task, config.model = digits(), mlp(depth=1, width=8)
    config.optimizer.update({"name": "sgd", "learning_rate": 1.0, "clip_norm": 0.0})
    config.train.update({"steps": 4, "batch_size": 12, "steps_per_call": 3, "log_every": 1})
    config.evaluate.splits = ()
    return to_dict(override(config, {key.replace("__", "."): str(value) for key, value in changes.items()}))


if __name__ == "__main__":
    workdir, steps, mesh = sys.argv[1:]
    loop.run(config_of(train__steps=steps, mesh=mesh), workdir, [scaffold()], quiet=True)
