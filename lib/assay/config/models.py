"""Model families as configs name them: every key, with its unit or effect. `transformer("encoder", depth=4)` changes some."""

from typing import Any

from ml_collections import ConfigDict

from assay.config.defaults import changed


def transformer(name: str, **changes: Any) -> ConfigDict:
    """`decoder`, `encoder` or `encoder_decoder`."""
    return changed(
        {
            "name": name,
            "depth": 2,  # blocks
            "loops": 1,  # times that the blocks are applied, with the same parameters
            "test_loops": 0,  # times that they are applied when the model is evaluated; 0: as in training
            "width": 64,  # features of the residual stream
            # of block 0, 1, ..., again from the first: attention, local, rnn, lstm, gru, stack_rnn, queue_rnn, automaton, automata_network,
            # pushdown; bilstm in an encoder
            "mixers": ("attention",),
            "heads": 4,  # attention heads
            "kv_heads": 4,  # key/value heads, shared by groups of heads
            "head_dim": 0,  # features of a head; 0: width / heads
            "window": 0,  # tokens back that attention sees, itself included; 0: all
            "mlp": 256,  # features inside the feed-forward layer
            "positions": "rotary",  # none, sinusoidal, learned, rotary, alibi, t5, transformer_xl, direction
            "randomised": 0,  # positions are drawn from so many; 2048 in the paper; 0: they are 0, 1, 2, ...
            "norm": "layernorm",  # layernorm, rmsnorm, none
            "norm_variance": "fast",  # fast: in one pass; two_pass: exact where the mean is large against the deviation
            "norm_place": "pre",  # pre, post
            "gate": False,  # whether a block may copy its input by a learned gate
            "activation": "gelu",  # relu, gelu, swiglu
            "residual_init": "plain",  # plain, scaled (by the number of terms in the residual stream)
            "tied": False,  # whether the output head is the embedding
            "attention_weights": "softmax",  # softmax, geometric: how attention logits become weights
            "attention": "auto",  # auto, plain, fused: the kernel
            "attention_bias": "none",  # none, qkv, qkvo: which matrices of an attention have a bias
            "mlp_bias": True,  # whether the matrices of the feed-forward layer have a bias
            "head_bias": True,  # whether the output head has a bias; a tied one has none
            "dropout": 0.0,  # share of features dropped after each half of a block
            "max_length": 1024,  # how far learned positions reach, in tokens
            "local_window": 16,  # local: tokens back that it sees, itself included
            "local_positions": "rotary",  # local: positions of its attention
            "stack_cell": 8,  # stack_rnn, queue_rnn: features of a cell of its stack or queues
            "stack_depth": 0,  # of these and of pushdown: cells that it holds; 0: as many as there are tokens
            "remat": "none",  # none, dots, full: what training computes again in place of keeping it
            "scan": False,  # whether the blocks are one loop, which compiles faster and holds the parameters twice
        },
        changes,
    )


def recurrent(name: str, **changes: Any) -> ConfigDict:
    """`rnn`, `lstm`, `bilstm`, `gru`, `automaton` or `automata_network`."""
    return changed(
        {
            "name": name,
            "depth": 1,  # layers
            "width": 64,  # features of the hidden and the cell state, in each direction
            "embedding": 0,  # features of the embedding; 0: as many as the width
            "dropout": 0.0,  # share of features dropped after each layer
        },
        changes,
    )


def memory_rnn(name: str, **changes: Any) -> ConfigDict:
    """`stack_rnn` or `queue_rnn`: an RNN with a stack, or two queues, that it uses softly."""
    values = recurrent(name).to_dict() | {
        "stack_cell_size": 8,  # features of a cell of the stack or queue
        "stack_depth": 0,  # cells that it holds; 0: as many as there are tokens
    }
    return changed(values, changes)


def cnn(**changes: Any) -> ConfigDict:
    return changed(
        {
            "name": "cnn",
            "filters": (32, 64),  # channels of each convolution
            "kernel": 3,  # pixels along a side of each filter
            "pools": 2,  # so many of the first convolutions are followed by pooling, which halves the picture
            "padding": "same",  # same; or valid, which cuts kernel - 1 pixels
            "dense": 0,  # features of the head's hidden layer; 0: none
            "dropout": 0.0,  # share of features dropped before each layer of the head
        },
        changes,
    )


def resnet(**changes: Any) -> ConfigDict:
    return changed(
        {
            "name": "resnet",
            "layout": "cifar",  # cifar: three stages; imagenet: four
            "depth": 20,  # layers with weights: 6 n + 2 for cifar; 18, 34 or 50 for imagenet
            "width": 16,  # channels of the first stage
            "groups": 8,  # groups of GroupNorm; they divide the width
            "stem": "small",  # small: a 3 x 3 convolution; large: 7 x 7 and pooling
            "dropout": 0.0,  # share of features dropped before the read-out
        },
        changes,
    )


def mlp(**changes: Any) -> ConfigDict:
    return changed(
        {
            "name": "mlp",
            "depth": 2,  # hidden layers; 0: a linear model
            "width": 64,  # features of each
            "activation": "relu",  # relu, gelu, swiglu
            "dropout": 0.0,  # share of features dropped after each hidden layer
        },
        changes,
    )


def ngram(**changes: Any) -> ConfigDict:
    return changed(
        {
            "name": "ngram",
            "order": 3,  # tokens of an n-gram, the predicted one included: 1 to 6
            "smoothing": "kneser_ney",  # add_k, kneser_ney
            "add": 1.0,  # add_k: what is added to each count
            "discount": 0.0,  # kneser_ney: what is taken from each count, in (0, 1]; 0: estimated for each order
            "capacity": 5_000_000,  # room for so many distinct n-grams, all orders together, 20 bytes each
        },
        changes,
    )
