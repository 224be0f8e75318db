"""Model families as configs name them: every key, with its unit or effect. Example: `transformer("encoder", depth=4)`."""

from typing import Any

from ml_collections import ConfigDict

from assay.config.groups import changed


def transformer(name: str, **changes: Any) -> ConfigDict:
    """Returns the config of a `decoder`, `encoder` or `encoder_decoder`."""
    return changed(
        {
            "name": name,
            "depth": 2,  # number of blocks
            "loops": 1,  # times that the blocks are applied, with shared parameters
            "test_loops": 0,  # times that the blocks are applied during evaluation; 0: as in training
            "width": 64,  # features of the residual stream
            # mixers of blocks 0, 1, ..., cycling through the tuple: attention, local, rnn, lstm, gru, stack_rnn, queue_rnn, automaton,
            # automata_network, pushdown; bilstm in an encoder
            "mixers": ("attention",),
            "heads": 4,  # attention heads
            "kv_heads": 4,  # key/value heads, shared by groups of heads
            "head_dim": 0,  # features per head; 0: width / heads
            "window": 0,  # tokens that attention sees backwards, including the current one; 0: all
            "mlp": 256,  # hidden features of the feed-forward layer
            "positions": "rotary",  # none, sinusoidal, learned, rotary, alibi, t5, transformer_xl, direction
            "randomised": 0,  # size of the range that random positions are drawn from; 2048 in the paper; 0: positions are 0, 1, 2, ...
            "norm": "layernorm",  # layernorm, rmsnorm, none
            "norm_variance": "fast",  # fast: in one pass; two_pass: accurate where the mean is large relative to the deviation
            "norm_place": "pre",  # pre, post
            "gate": False,  # whether a block may copy its input through a learned gate
            "activation": "gelu",  # relu, gelu, swiglu
            "residual_init": "plain",  # plain, scaled (by the number of terms in the residual stream)
            "tied": False,  # whether the output head shares its weights with the embedding
            "attention_weights": "softmax",  # softmax, geometric: how attention logits become weights
            "attention": "auto",  # auto, plain, fused: the attention kernel
            "attention_bias": "none",  # none, qkv, qkvo: which projections of attention have a bias
            "mlp_bias": True,  # whether the layers of the feed-forward part have a bias
            "head_bias": True,  # whether the output head has a bias; a tied head has none
            "dropout": 0.0,  # fraction of features dropped after each half of a block
            "max_length": 1024,  # maximum number of learned positions, in tokens
            "local_window": 16,  # local: tokens that it sees backwards, including the current one
            "local_positions": "rotary",  # local: position encoding of its attention
            "stack_cell": 8,  # stack_rnn, queue_rnn: features per cell of the stack or queues
            "stack_depth": 0,  # stack_rnn, queue_rnn, pushdown: number of cells; 0: as many as there are tokens
            "remat": "none",  # none, dots, full: what the backward pass recomputes instead of storing
            "scan": False,  # whether the blocks run as one loop, which compiles faster but holds the parameters twice
        },
        changes,
    )


def recurrent(name: str, **changes: Any) -> ConfigDict:
    """Returns the config of an `rnn`, `lstm`, `bilstm`, `gru`, `automaton` or `automata_network`."""
    return changed(
        {
            "name": name,
            "depth": 1,  # number of layers
            "width": 64,  # features of the hidden and cell state, in each direction
            "embedding": 0,  # features of the embedding; 0: same as the width
            "dropout": 0.0,  # fraction of features dropped after each layer
        },
        changes,
    )


def memory_rnn(name: str, **changes: Any) -> ConfigDict:
    """Returns the config of a `stack_rnn` or `queue_rnn`: an RNN with a differentiable stack, or two differentiable queues."""
    values = recurrent(name).to_dict() | {
        "stack_cell_size": 8,  # features per cell of the stack or queue
        "stack_depth": 0,  # number of cells; 0: as many as there are tokens
    }
    return changed(values, changes)


def bag(**changes: Any) -> ConfigDict:
    """Returns the config of a bag of words: a weighted mean of word and bigram embeddings."""
    return changed(
        {
            "name": "bag",
            "width": 64,  # features of an embedding
            "bigrams": 0,  # rows of the hashed table of bigrams; 0: words only
            "depth": 0,  # hidden layers between the mean and the answer
            "activation": "relu",  # of the hidden layers: relu, gelu, swiglu
            "dropout": 0.3,  # fraction of tokens, and of features of the mean, dropped
        },
        changes,
    )


def cnn(**changes: Any) -> ConfigDict:
    """Returns the config of a plain CNN for images."""
    return changed(
        {
            "name": "cnn",
            "filters": (32, 64),  # channels of each convolution
            "kernel": 3,  # side of each filter, in pixels
            "pools": 2,  # number of leading convolutions that are followed by pooling, which halves the resolution
            "padding": "same",  # same, or valid, which trims kernel - 1 pixels
            "dense": 0,  # features of the head's hidden layer; 0: none
            "dropout": 0.0,  # fraction of features dropped before each layer of the head
            "convolution": "xla",  # xla; product: one product of patches, faster inside loops on a CPU
        },
        changes,
    )


def resnet(**changes: Any) -> ConfigDict:
    """Returns the config of a ResNet for images, with GroupNorm."""
    return changed(
        {
            "name": "resnet",
            "layout": "cifar",  # cifar: three stages; imagenet: four
            "depth": 20,  # weight layers: 6 n + 2 for cifar; 18, 34 or 50 for imagenet
            "width": 16,  # channels of the first stage
            "groups": 8,  # groups of GroupNorm; must divide the width
            "stem": "small",  # small: a 3 x 3 convolution; large: 7 x 7 and pooling
            "dropout": 0.0,  # fraction of features dropped before the output layer
            "convolution": "xla",  # xla; product: one product of patches, faster inside loops on a CPU
        },
        changes,
    )


def mlp(**changes: Any) -> ConfigDict:
    """Returns the config of a multilayer perceptron for numbers or images."""
    return changed(
        {
            "name": "mlp",
            "depth": 2,  # hidden layers; 0: a linear model
            "width": 64,  # features per hidden layer
            "activation": "relu",  # relu, gelu, swiglu
            "dropout": 0.0,  # fraction of features dropped after each hidden layer
        },
        changes,
    )


def ngram(**changes: Any) -> ConfigDict:
    """Returns the config of an n-gram language model, fitted by counting."""
    return changed(
        {
            "name": "ngram",
            "order": 3,  # tokens per n-gram, including the predicted one: 1 to 6
            "smoothing": "kneser_ney",  # add_k, kneser_ney
            "add": 1.0,  # add_k: pseudocount added to each count
            "discount": 0.0,  # kneser_ney: amount subtracted from each count, in (0, 1]; 0: estimated for each order
            "capacity": 5_000_000,  # maximum number of distinct n-grams over all orders, 20 bytes each
        },
        changes,
    )
