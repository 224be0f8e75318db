"""Which models learn a rule on 1-40 tokens and generalize to 41-500, and what does a Transformer need in order to do so?

Command:   assay study --config=experiments/reason/chomsky.py:lstm --config=experiments/reason/chomsky.py:transformer \\
               --config=experiments/reason/chomsky.py:attention_lstm --seeds=0:4 --workdir=runs/chomsky
           --config.task.name=chomsky/reverse_string selects another task, and so on; --config.evaluate.splits=iid,40-256,41-500
           also evaluates the lengths of the other published means
Variants:  lstm             an LSTM of width 64
           rnn              an RNN of width 64
           stack_rnn        a stack-augmented RNN
           transformer      a causal Transformer of 5 blocks, rotary positions
           none, sinusoidal, alibi, relative   the same with other positions; relative is Transformer-XL's
           attention_lstm   two blocks: attention to the last 16 tokens, then an LSTM instead of attention
           attention_stack  the same with a stack-augmented RNN
           attention_queue  the same with an RNN that has two queues
           attention_automaton   two blocks: eight soft automata of eight states, then attention to the last 2 tokens; for parity and cycles
           attention_network     attention to the last 2 tokens, then interconnected automata; for modular arithmetic
           attention_pushdown    the same with a stack of their states
           tiny             a few steps; also with a variant: `transformer,tiny`
Cost:      two CPU cores, per seed and task: lstm, rnn, attention_lstm and attention_automaton 2 min, stack_rnn 10 min, attention_queue and
           attention_pushdown 15 min, attention_stack, attention_network and a Transformer 20 min
Expected:  accuracy at 41-500. lstm generalizes on parity and even pairs (1.00), but not on cycle navigation (.38) or modular arithmetic
           (.52), which it fits on 1-40 (.98, .95; three seeds); with a cosine schedule and a curriculum over 12,000 updates it reaches
           .77 and .9995 (one seed). attention_automaton, five seeds, at 41-500 and 501-1000: parity 1.00 on all seeds (.9995 on one),
           cycle navigation 1.00 on four seeds, .99 and .72 on one. attention_network, modular arithmetic, five seeds: 1.00 on all
           (.999 at 501-1000 on one). attention_stack, reverse string: 1.00. experiments/results/README.md has further results
           next to published ones
Reference: Deletang et al., ICLR 2023 (arXiv 2207.02098), Table 2
"""

from ml_collections import ConfigDict

from assay.config import chomsky, defaults, memory_rnn, recurrent, sized, transformer, variant

POSITIONS = {"transformer": "rotary", "none": "none", "sinusoidal": "sinusoidal", "alibi": "alibi", "relative": "transformer_xl"}
VARIANTS = (
    "lstm",
    "rnn",
    "stack_rnn",
    *POSITIONS,
    "attention_lstm",
    "attention_stack",
    "attention_queue",
    "attention_automaton",
    "attention_network",
    "attention_pushdown",
)
HYBRID = {"depth": 2, "width": 64, "heads": 4, "kv_heads": 4, "mlp": 128, "window": 16}
MODELS = {
    "lstm": lambda: recurrent("lstm", width=64),
    "rnn": lambda: recurrent("rnn", width=64),
    "stack_rnn": lambda: memory_rnn("stack_rnn", width=64),
    "attention_lstm": lambda: transformer("decoder", mixers=("attention", "lstm"), **HYBRID),
    "attention_stack": lambda: transformer("decoder", mixers=("attention", "stack_rnn"), **HYBRID),
    "attention_queue": lambda: transformer("decoder", mixers=("attention", "queue_rnn"), **HYBRID),
    # A window of 2, because attention that sees a whole short string memorizes it and never needs the state.
    "attention_automaton": lambda: transformer("decoder", mixers=("automaton", "attention"), **HYBRID | {"window": 2}),
    "attention_network": lambda: transformer("decoder", mixers=("attention", "automata_network"), **HYBRID | {"window": 2}),
    "attention_pushdown": lambda: transformer("decoder", mixers=("attention", "pushdown"), **HYBRID | {"window": 2}),
}
STEPS = {"lstm": 4000, "rnn": 4000, "attention_lstm": 4000, "attention_automaton": 600, "attention_network": 16_000}  # the others: 6000


@sized
def get_config(given: str = "") -> ConfigDict:
    name, small = variant(given, VARIANTS, "experiments/reason/chomsky.py")
    config = defaults()
    config.task = chomsky("parity_check")
    if name in POSITIONS:
        config.model = transformer("decoder", depth=5, width=64, heads=8, kv_heads=8, mlp=256, positions=POSITIONS[name])
    else:
        config.model = MODELS[name]()
    config.optimizer.update({"learning_rate": 3e-3, "warmup_steps": 100})
    config.train.update({"steps": STEPS.get(name, 6000), "batch_size": 128, "buckets": 2, "log_every": 20})
    config.evaluate.update({"splits": ("iid", "41-500", "501-1000"), "per_length": 8})
    config.checkpoint.every = 1000
    if name == "rnn":
        config.optimizer.learning_rate = 1e-3
    if name in POSITIONS:
        config.optimizer.update({"learning_rate": 5e-4, "schedule": "cosine"})
    if name in ("attention_queue", "attention_network"):
        config.treatments = ("curriculum:examples=200000",)
    if name in ("attention_stack", "attention_queue", "attention_network", "attention_pushdown"):
        config.optimizer.schedule = "cosine"
    if small:
        config.task.lengths = "1:8"
        config.model.update({"depth": min(config.model.depth, 2), "width": 16})
        config.train.update({"steps": 8, "batch_size": 16, "steps_per_call": 4, "log_every": 4, "buckets": 1})
        config.evaluate.update({"splits": ("iid", "9-16"), "per_length": 4, "batch_size": 32})
    return config
