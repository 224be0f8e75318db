"""Model configs by family: every key, with its unit or effect. Keyword arguments change keys: `transformer("encoder", depth=4)`."""

from typing import Any

from ml_collections import ConfigDict

from assay.config.groups import changed


def transformer(name: str, **changes: Any) -> ConfigDict:
    """Returns the config of a Transformer: `decoder`, `encoder` or `encoder_decoder`."""
    return changed(
        {
            "name": name,
            "depth": 2,  # blocks
            "loops": 1,  # number of times the blocks are applied, with the same parameters
            "test_loops": 0,  # number of times the blocks are applied in evaluation; 0: as in training
            "width": 64,  # features of the residual stream
            # token mixers of blocks 0, 1, ..., repeated cyclically: attention, local, rnn, lstm, gru, stack_rnn, queue_rnn, automaton,
            # automata_network, pushdown; in an encoder also bilstm
            "mixers": ("attention",),
            "heads": 4,  # attention heads
            "kv_heads": 4,  # key/value heads, each shared by a group of attention heads
            "head_dim": 0,  # features per head; 0: width / heads
            "window": 0,  # attention window in tokens, including the current token; 0: all tokens
            "mlp": 256,  # hidden features of the feed-forward layer
            "positions": "rotary",  # none, sinusoidal, learned, rotary, alibi, t5, transformer_xl, direction
            "randomised": 0,  # number of positions to sample from; 2048 in the paper; 0: positions are 0, 1, 2, ...
            "norm": "layernorm",  # layernorm, rmsnorm
            "norm_place": "pre",  # pre, post
            "gate": False,  # whether a learned gate lets a block copy its input
            "activation": "gelu",  # relu, gelu, swiglu
            "residual_init": "plain",  # plain, or scaled by the number of terms in the residual stream
            "tied": False,  # whether the output head shares the embedding matrix
            "attention_weights": "softmax",  # softmax, geometric: how attention weights are computed from logits
            "attention": "auto",  # attention kernel: auto, plain, fused
            "dropout": 0.0,  # dropout rate after each half of a block
            "max_length": 1024,  # maximum number of learned positions, in tokens
            "local_window": 16,  # local: attention window in tokens, including the current token
            "local_positions": "rotary",  # local: position encoding of its attention
            "stack_cell": 8,  # stack_rnn, queue_rnn: features per cell of the stack or queues
            "stack_depth": 0,  # stack_rnn, queue_rnn, pushdown: number of cells; 0: the number of tokens
            "remat": "none",  # none, dots, full: what the backward pass recomputes instead of storing
            "scan": False,  # whether to run the blocks in one scan, which compiles faster but stores the parameters twice
        },
        changes,
    )


def recurrent(name: str, **changes: Any) -> ConfigDict:
    """Returns the config of a recurrent model: `rnn`, `lstm`, `bilstm`, `gru`, `automaton` or `automata_network`."""
    return changed(
        {
            "name": name,
            "depth": 1,  # layers
            "width": 64,  # features of the hidden state and cell state, per direction
            "embedding": 0,  # features of the embedding; 0: the width
            "dropout": 0.0,  # dropout rate after each layer
        },
        changes,
    )


def memory_rnn(name: str, **changes: Any) -> ConfigDict:
    """Returns the config of an RNN with differentiable memory: `stack_rnn` (a stack) or `queue_rnn` (two queues)."""
    values = recurrent(name).to_dict() | {
        "stack_cell_size": 8,  # features per cell of the stack or queue
        "stack_depth": 0,  # number of cells; 0: the number of tokens
    }
    return changed(values, changes)


def cnn(**changes: Any) -> ConfigDict:
    """Returns the config of a convolutional network."""
    return changed(
        {
            "name": "cnn",
            "filters": (32, 64),  # channels of each convolution
            "kernel": 3,  # side of each filter in pixels
            "pools": 2,  # number of leading convolutions followed by pooling, which halves the image size
            "padding": "same",  # same, or valid, which removes kernel - 1 pixels
            "dense": 0,  # features of the head's hidden layer; 0: none
            "dropout": 0.0,  # dropout rate before each layer of the head
        },
        changes,
    )


def resnet(**changes: Any) -> ConfigDict:
    """Returns the config of a ResNet."""
    return changed(
        {
            "name": "resnet",
            "layout": "cifar",  # cifar: three stages; imagenet: four
            "depth": 20,  # layers with weights: 6 n + 2 for cifar; 18, 34 or 50 for imagenet
            "width": 16,  # channels of the first stage
            "groups": 8,  # groups of GroupNorm; must divide the width
            "stem": "small",  # small: a 3 x 3 convolution; large: a 7 x 7 convolution and pooling
            "dropout": 0.0,  # dropout rate before the output layer
        },
        changes,
    )


def mlp(**changes: Any) -> ConfigDict:
    """Returns the config of a multilayer perceptron."""
    return changed(
        {
            "name": "mlp",
            "depth": 2,  # hidden layers; 0: a linear model
            "width": 64,  # features of each hidden layer
            "activation": "relu",  # relu, gelu, swiglu
            "dropout": 0.0,  # dropout rate after each hidden layer
        },
        changes,
    )


def ngram(**changes: Any) -> ConfigDict:
    """Returns the config of an n-gram model."""
    return changed(
        {
            "name": "ngram",
            "order": 3,  # tokens per n-gram, including the predicted token: 1 to 6
            "smoothing": "kneser_ney",  # add_k, kneser_ney
            "add": 1.0,  # add_k: constant added to each count
            "discount": 0.0,  # kneser_ney: discount subtracted from each count, in (0, 1]; 0: estimated for each order
            "capacity": 5_000_000,  # maximum number of distinct n-grams over all orders, 20 bytes each
        },
        changes,
    )
