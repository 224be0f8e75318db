"""Language modelling: every byte of a text is scored once, figures are those of the whole text, and what is hidden follows the epoch."""

import itertools
import json
import math

import jax
import numpy as np
import pytest

from assay.cli import show as browse
from assay.core.errors import UserError
from assay.core.means import mean_interval, ratio_units, shares_interval, units_of
from assay.data import tfds
from assay.diagnostics import generalisation, reasoning
from assay.diagnostics.subject import Subject
from assay.dist.mesh import MeshConfig, make_mesh
from assay.evals import rows as to_rows
from assay.evals.evaluate import EvaluateConfig, batches, evaluate, make_answer
from assay.models.families import build as build_model
from assay.models.model import Model, Output
from assay.models.precision import PrecisionConfig
from assay.tasks.table import TASKS, build

DOCUMENTS = {
    "train": ["def spam(eggs):\n    return eggs + 1\n" * 4, "x = 'spam'\n" * 9, "# eggs and spam, 蛋\n" * 5],
    "valid": ["spam = eggs\n" * 7],
    "test": ["return spam(eggs)\n" * 6, "# 蛋和午餐肉。д ж\n" * 5, "\n", "eggs = 2\n" * 11],  # windows cut characters of several bytes
}
LABELS = {"experiment": "e", "model": "ngram", "treatment": "none", "seed": 0, "steps": 0}


@pytest.fixture
def small(monkeypatch):
    """The same four files in place of the standard library's."""

    def load_split(name, split, **options):
        return {"text": DOCUMENTS[split], "file": [f"{split}/{i}.py" for i in range(len(DOCUMENTS[split]))]}

    monkeypatch.setattr(tfds, "load_split", load_split)


def language(name: str = "stdlib/lm", seed: int = 0, **changes):
    return build({**TASKS[name].defaults, "name": name, "window": 32, "context": 8, **changes}, seed)


@pytest.mark.parametrize(("window", "context"), [(32, 0), (32, 8), (7, 6), (1000, 3)])
def test_every_byte_of_test_is_scored_once(small, window, context):
    task = language(window=window, context=context)
    for split in ("valid", "test"):
        source = task.source(split)
        found = source.fetch(np.arange(source.size))
        assert found.target_length.sum() == sum(len(text.encode()) for text in DOCUMENTS[split])
        batch = task.encode(found, window)
        assert batch["mask"].sum() == found.target_length.sum() and (batch["mask"].sum(axis=1) == found.target_length).all()
        scored: dict[str, bytes] = {}
        for i in range(source.size):
            answer = batch["targets"][i][batch["mask"][i] > 0]
            scored[source.groups[i]] = scored.get(source.groups[i], b"") + bytes(int(token) - 4 for token in answer)
        assert [scored[f"{split}/{i}.py"].decode() for i in range(len(DOCUMENTS[split]))] == DOCUMENTS[split]


def test_the_whole_standard_library_is_scored_once():
    task = language(window=256, context=128)
    for split in ("valid", "test"):
        source = task.source(split)
        texts = tfds.load_split("stdlib_text/lm", split, label=tfds.NO_LABEL, also=("file",))
        total = sum(len(text.encode()) for text in texts["text"])
        assert source.fetch(np.arange(source.size)).target_length.sum() == total > 100_000
        assert set(source.groups) == set(texts["file"])
    train = task.source("train")
    texts = tfds.load_split("stdlib_text/lm", "train", label=tfds.NO_LABEL)["text"]
    assert train.fetch(np.arange(train.size)).target_length.sum() == sum(len(text.encode()) + 1 for text in texts), "and a separator each"


def test_training_reads_whole_files_up_to_the_bytes_asked_for(small):
    sizes = [len(text.encode()) + 1 for text in DOCUMENTS["train"]]
    for asked, files in ((1, 1), (sizes[0] + 5, 2), (10**6, 3), (0, 3)):
        source = language(bytes=asked).source("train")
        assert source.fetch(np.arange(source.size)).target_length.sum() == sum(sizes[:files])


def test_a_split_in_which_nothing_is_asked_is_one_message(small):
    """A tiny share may mask no token of any window."""
    task = language("stdlib/mlm", share=1e-9)
    nothing = Model(lambda key, batch: {}, lambda params, batch: Output(jax.nn.one_hot(batch["inputs"], task.vocabulary.outputs), {}))
    config = EvaluateConfig(("test",), 1, 64, 1)
    with pytest.raises(UserError, match="no example of 'test' of stdlib/mlm asks for an answer"):
        evaluate(jax.jit(make_answer(nothing, task)), {}, task, "test", config, make_mesh(MeshConfig(-1, 1, 1)))


@pytest.fixture
def fitted(small):
    """An n-gram model, the exact score of every byte by its own `decode`, and the records of an evaluation."""
    task = language(window=32, context=8)
    config = {"name": "ngram", "order": 2, "smoothing": "kneser_ney", "add": 1.0, "discount": 0.0, "capacity": 2000}
    model = build_model(config, task.vocabulary, PrecisionConfig("float32", "float32", "float32"))
    params = model.fit({}, [batch for _, batch in batches(task, "train", EvaluateConfig(("test",), 1, 64, 1))])
    answer = jax.jit(make_answer(model, task))

    def records(batch_size: int) -> list[dict]:
        found = evaluate(answer, params, task, "test", EvaluateConfig(("test",), 1, batch_size, 1), make_mesh(MeshConfig(-1, 1, 1)))
        return json.loads(json.dumps(found))

    return task, model, params, records


def test_figures_are_those_of_the_whole_text_whatever_the_batch(fitted):
    task, model, params, records = fitted
    nats = 0.0
    for text in DOCUMENTS["test"]:  # in one piece; an order of 2 needs one token of context
        targets = np.array([byte + 4 for byte in text.encode()], np.int32)
        inputs = np.concatenate([[3], targets[:-1]]).astype(np.int32)
        logits = jax.jit(model.apply)(params, {"inputs": inputs[None], "length": np.array([len(inputs)])}).logits
        nats -= float(np.asarray(jax.nn.log_softmax(logits))[0, np.arange(len(targets)), targets].sum())
    total = sum(len(text.encode()) for text in DOCUMENTS["test"])
    for batch_size in (1, 3, 64):
        found = records(batch_size)
        made = {row["metric"]: row for row in to_rows.rows(found, task, "test", LABELS, by_length=False)}
        assert made["bits_per_byte"]["value"] == pytest.approx(nats / total / math.log(2), rel=1e-6)
        assert made["perplexity"]["value"] == pytest.approx(math.exp(nats / total), rel=1e-6)
        assert made["nll"]["value"] == pytest.approx(nats / total, rel=1e-6) and made["nll"]["unit"] == "nats"


def test_rows_are_computable_from_the_predictions(fitted):
    task, _, _, records = fitted
    found = records(64)
    assert task.metrics[0] == "bits_per_byte" and task.metrics[1] == "perplexity"
    made = {row["metric"]: row for row in to_rows.rows(found, task, "test", LABELS, by_length=False)}
    nats = np.array([record["scores"]["nll"] * record["scores"]["tokens"] for record in found])
    tokens = np.array([record["scores"]["tokens"] for record in found])
    right = np.array([record["scores"]["token_accuracy"] for record in found])
    files = np.array([record["group"] for record in found])
    assert set(files) == {f"test/{i}.py" for i in range(4)} and tokens.sum() == sum(len(text.encode()) for text in DOCUMENTS["test"])
    figures = {
        "bits_per_byte": lambda nats, tokens, right: nats.sum() / tokens.sum() / math.log(2),
        "perplexity": lambda nats, tokens, right: math.exp(nats.sum() / tokens.sum()),
        "nll": lambda nats, tokens, right: nats.sum() / tokens.sum(),
        "token_accuracy": lambda nats, tokens, right: (right * tokens).sum() / tokens.sum(),
    }
    assert made.keys() == figures.keys()
    for metric, figure in figures.items():
        assert made[metric]["value"] == pytest.approx(figure(nats, tokens, right), rel=1e-9)
        assert made[metric]["interval"] is None and made[metric]["caution"] == "too few groups for an interval: 4"
        assert "over groups" in made[metric]["interval_method"], "files are drawn, not windows"
    seven = [{**record, "group": f"{i % 7}.py"} for i, record in enumerate(found)]
    made = {row["metric"]: row for row in to_rows.rows(seven, task, "test", LABELS, by_length=False)}
    groups = np.array([record["group"] for record in seven])
    low, high = mean_interval(ratio_units(nats, tokens, groups))
    assert made["nll"]["interval"] == pytest.approx([low, high]) and made["perplexity"]["interval"] == pytest.approx(np.exp([low, high]))
    assert made["bits_per_byte"]["interval"] == pytest.approx([low / math.log(2), high / math.log(2)])
    assert made["token_accuracy"]["interval"] == pytest.approx(shares_interval(units_of(right, groups, tokens)))


def test_a_diagnosis_weighs_tokens_as_results_do(fitted):
    task, model, params, records = fitted
    found = {row["metric"]: row for row in to_rows.rows(records(64), task, "test", LABELS, by_length=False)}["token_accuracy"]
    subject = Subject(model, params, task, "test", examples=512)
    score, gap = generalisation.held_out(subject)
    passages = subject.answers("test").columns["score"]
    assert score.value == pytest.approx(found["value"], rel=1e-6) and abs(passages.mean() - found["value"]) > 0.001
    train = {row["metric"]: row for row in to_rows.rows(subject.answers("train").records, task, "train", LABELS, by_length=False)}
    assert gap.value == pytest.approx(train["token_accuracy"]["value"] - found["value"], rel=1e-6)
    inside, above = reasoning.reasoning(subject)[:2]
    assert inside.value == score.value
    assert above.value == pytest.approx(found["value"] - max(found["baselines"].values()), rel=1e-6)


def test_a_tokenizer_that_loses_bytes_has_no_bits_per_byte(small):
    for name, lossless in (("bytes", True), ("characters", True), ("bpe", True), ("words", False), ("wordpiece", False)):
        task = language(tokenizer=name, tokenizer_size=300)
        assert ("bits_per_byte" in task.metrics) == lossless and task.metrics[0] == ("bits_per_byte" if lossless else "perplexity")


# -- hidden tokens ----------------------------------------------------------------------------------------------------------


def test_another_epoch_hides_other_tokens_and_evaluation_the_same(small):
    task = language("stdlib/mlm", share=0.3)
    source = task.source("train")
    epochs = [task.encode(source.fetch(np.arange(source.size) + epoch * source.size), 32) for epoch in range(3)]
    for first, second in itertools.combinations(epochs, 2):
        assert np.array_equal(first["targets"], second["targets"]) and not np.array_equal(first["mask"], second["mask"])
    assert np.mean([batch["mask"].sum() / batch["length"].sum() for batch in epochs]) == pytest.approx(0.3, abs=0.08)
    for batch in epochs:
        untouched = (batch["mask"] == 0) & (np.arange(32) < batch["length"][:, None])
        assert np.array_equal(batch["inputs"][untouched], batch["targets"][untouched])
        assert 0.6 < (batch["inputs"][batch["mask"] > 0] == 2).mean() < 0.95, "most of those asked for are the mask"
    for split, other in itertools.product(
        ("valid", "test"), (language("stdlib/mlm", share=0.3), language("stdlib/mlm", seed=5, share=0.3))
    ):
        indices = np.arange(task.source(split).size)
        mine, theirs = (one.encode(one.source(split).fetch(indices), 32) for one in (task, other))
        assert all(np.array_equal(mine[name], theirs[name]) for name in mine), "whatever the seed of the run"
        alone = task.encode(task.source(split).fetch(indices[1:2]), 40)
        assert np.array_equal(alone["mask"][0, :32], mine["mask"][1]), "alone or in a batch"


def test_windows_in_which_nothing_is_asked_count_nothing(small):
    task = language("stdlib/mlm", window=4, context=0, share=0.15)
    uniform = Model(init=lambda key, batch: {}, apply=lambda params, batch: Output(jax.numpy.zeros((*batch["inputs"].shape, 260)), {}))
    config = EvaluateConfig(("test",), 1, 64, 1)
    records = evaluate(jax.jit(make_answer(uniform, task)), {}, task, "test", config, make_mesh(MeshConfig(-1, 1, 1)))
    empty = sum(batch["mask"].sum(axis=1)[batch["weight"] > 0].tolist().count(0) for _, batch in batches(task, "test", config))
    assert empty > 0 and len(records) == len(task.source("test").indices(1)) - empty, "they have no record"
    assert to_rows.value_of(records, "nll", False) == pytest.approx(math.log(260))
    assert to_rows.value_of(records, "perplexity", False) == pytest.approx(260)


# -- looking ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["stdlib/lm", "stdlib/mlm"])
@pytest.mark.parametrize("form", ["text", "jsonl"])
def test_half_characters_are_shown(small, capsys, name, form):
    browse.print_examples(name, "test", -1, 0, form, [], {"task.window": "5", "task.context": "0"})
    printed = capsys.readouterr().out
    printed.encode("utf-8")  # no lone surrogate
    assert "\\udc" in printed
    if form == "jsonl":
        targets = [json.loads(line)["target"] for line in printed.splitlines()]
        assert b"".join(target.encode("utf-8", "surrogateescape") for target in targets).decode() == "".join(
            sorted(DOCUMENTS["test"], key=DOCUMENTS["test"].index)
        )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"window": 1}, r"config\.task\.window=1"),
        ({"context": 32}, r"config\.task\.context=32.*window, 32"),
        ({"bytes": -1}, r"config\.task\.bytes=-1"),
        ({"tokenizer": "byte"}, "tokenizer 'byte'.*Did you mean 'bytes'"),
        ({"tokenizer_size": 0}, r"config\.task\.tokenizer_size=0"),
        ({"share": 0.0, "name": "stdlib/mlm"}, r"config\.task\.share=0.0"),
    ],
)
def test_what_is_not_possible_is_told(small, changes, words):
    with pytest.raises(UserError, match=words):
        language(**changes).source("train")
