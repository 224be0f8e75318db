"""A small config of every model family on a suitable task, for testing treatments."""

from typing import Any

from assay.config.generated import chomsky, reasoning
from assay.config.groups import defaults
from assay.config.models import bag, cnn, memory_rnn, mlp, ngram, recurrent, resnet, transformer
from assay.config.schema import to_dict
from assay.config.tasks import digits

SMALL = {"width": 16, "heads": 2, "kv_heads": 2, "mlp": 32}


def families() -> dict[str, dict[str, Any]]:
    """Returns resolved configs by family."""
    answers, pictures = chomsky("parity_check", lengths="1:8"), digits()
    translated = reasoning("scan/simple", valid_share=0.002)
    prompted = reasoning("scan/simple", valid_share=0.002, layout="prompted")
    named = {
        "decoder": (prompted, transformer("decoder", **SMALL)),
        "encoder": (answers, transformer("encoder", **SMALL)),
        "encoder_decoder": (translated, transformer("encoder_decoder", **SMALL)),
        **{name: (answers, recurrent(name, width=16)) for name in ("rnn", "lstm", "bilstm", "gru", "automaton", "automata_network")},
        **{name: (answers, memory_rnn(name, width=16)) for name in ("stack_rnn", "queue_rnn")},
        "bag": (answers, bag(width=16, bigrams=32, depth=1)),
        "cnn": (pictures, cnn(filters=(4, 8), dense=16)),
        "resnet": (pictures, resnet(depth=14, width=4, groups=2)),
        "mlp": (pictures, mlp(depth=3, width=16)),
        "ngram": (prompted, ngram(capacity=1000)),
    }
    made = {}
    for name, (task, model) in named.items():
        config = defaults()
        config.task, config.model = task, model
        config.train.update({"steps": 0 if name == "ngram" else 8, "batch_size": 8, "steps_per_call": 1})
        config.evaluate.update({"splits": (), "batch_size": 16})
        made[name] = to_dict(config.lock())
    return made
