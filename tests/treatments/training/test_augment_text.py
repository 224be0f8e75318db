"""Text augmentation as a treatment: what training sees, that evaluation does not, and which tasks it fits."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from assay.config import defaults, recurrent, texts
from assay.config.schema import to_dict
from assay.core import rng
from assay.core.errors import UserError
from assay.data.augment_text import PLACED, TEXT, Alphabet, alphabet_of, make_augment
from assay.data.tokenizers import tokenizer
from assay.evals.evaluate import batches
from assay.models.model import Model, Vocabulary
from assay.tasks.table import TASKS, build
from assay.train.experiment import assemble
from assay.train.loop import run
from assay.train.objective import supervised
from assay.train.treatment import compose, links
from assay.treatments.pipeline.load import treatments

KEY, STEP = jax.random.key(3), jnp.int32(0)
WORDS = ("red", "green", "blue", "grey", "white", "black", "pink", "brown")


@pytest.fixture
def csv(tmp_path):
    """A config of a tiny classifier of texts."""
    lines = [f"{WORDS[i % 8]} {WORDS[i // 8 % 8]} {i},{'warm' if i % 8 in (0, 6, 7) else 'cold'}" for i in range(96)]
    file = tmp_path / "train.csv"
    file.write_text("\n".join(["text,label", *lines]))
    config = defaults()
    config.task = texts("csv", train=str(file), tokenizer="bytes", max_length=24)
    config.model = recurrent("gru", width=8)
    config.train.update({"steps": 4, "batch_size": 16, "steps_per_call": 2, "log_every": 2})
    config.evaluate.splits = ("valid",)
    return config


def made(config, *specs):
    return assemble(to_dict(config), treatments(specs))


def seen_by_training(experiment, key=KEY):
    """(the batch as it is, the inputs and lengths that the model is given in training)."""
    given = {}

    def apply(params, batch, *, key=None, train=False, edits=None):
        given.update(inputs=batch["inputs"], length=batch["length"])
        return experiment.untreated.apply(params, batch)

    batch = jax.tree.map(jnp.asarray, experiment.first_batch())
    params = {"model": experiment.untreated.init(KEY, batch)}
    objective = experiment.treatment.objective(supervised(experiment.task.score))
    objective.loss(Model(experiment.untreated.init, apply), params, batch, key, STEP)
    return batch, given


def test_training_sees_changed_texts_of_the_tasks_alphabet(csv):
    experiment = made(csv, "augment:text=dropout:0.3")
    batch, given = seen_by_training(experiment)
    assert batch["alphabet"].shape == (16, 4) and tuple(batch["alphabet"][0]) == experiment.task.alphabet == Alphabet(2, 4, 256, 0)
    changed = np.asarray(given["inputs"]) != batch["inputs"]
    inside = np.arange(24)[None, : batch["inputs"].shape[1]] < batch["length"][:, None]
    assert changed.any() and (np.asarray(given["inputs"])[changed] == 2).all() and not changed[~inside].any()
    assert 0.15 < changed[inside].mean() < 0.45 and np.array_equal(given["length"], batch["length"])
    assert (np.asarray(seen_by_training(experiment, jax.random.key(4))[1]["inputs"]) != given["inputs"]).any(), "every step sees others"


def test_it_is_the_function_of_the_data_room_in_the_order_given(csv):
    batch, given = seen_by_training(made(csv, "augment:text=delete:0.2+noise:0.3"))
    change = make_augment("delete:0.2,noise:0.3", Alphabet(2, 4, 256, 0), "")
    tokens, length = change(rng.stream(KEY, "augment"), batch["inputs"], batch["length"])
    assert np.array_equal(given["inputs"], tokens) and np.array_equal(given["length"], length)
    assert (np.asarray(length) < batch["length"]).any()


def test_rate_zero_is_the_untreated_loss(csv):
    losses = []
    for specs in ((), ("augment:text=noise:0+span:0",), ("augment:text=noise:0.5",)):
        experiment = made(csv, *specs)
        batch = jax.tree.map(jnp.asarray, experiment.first_batch())
        params = {"model": experiment.untreated.init(KEY, batch)}
        losses.append(float(experiment.objective.loss(experiment.model, params, batch, KEY, STEP)[0]))
    assert losses[0] == losses[1] != losses[2]


def test_evaluation_sees_the_texts_as_they_are(csv):
    plain, treated = made(csv), made(csv, "augment:text=noise:0.5")
    for (_, one), (_, other) in zip(*(batches(m.task, "valid", m.settings.evaluate) for m in (plain, treated)), strict=True):
        assert np.array_equal(one["inputs"], other["inputs"]) and np.array_equal(one["length"], other["length"])


@pytest.mark.parametrize("specs", [["augment:text=span:0.3+noise:0.2"], ["augment:text=swap", "ensemble:members=2", "accumulate:parts=2"]])
def test_a_run_trains_and_ends(csv, specs, tmp_path):
    config = csv
    config.treatments = tuple(specs)
    results = run(config, str(tmp_path / "run"), treatments(specs), quiet=True)
    assert {row["split"] for row in results["rows"]} == {"valid"} and np.isfinite([row["value"] for row in results["rows"]]).all()


# -- which tasks it fits --------------------------------------------------------------------------------------------------


def test_only_what_keeps_places_fits_answers_at_each_token(csv):
    task = replace(made(csv).task, vocabulary=Vocabulary(260, 260), name="words")
    for name in TEXT:
        treatment = compose(treatments([f"augment:text=dropout+{name}:0.1"]))
        if name in PLACED:
            assert treatment.task(task).alphabet == task.alphabet
        else:
            with pytest.raises(UserError, match=rf"{name}:0\.1 would move.*dropout, span.*--config\.treatments"):
                treatment.task(task)


@pytest.mark.parametrize("name", PLACED)
def test_placed_entries_leave_lengths_alone(name):
    tokens = jax.random.randint(KEY, (8, 12), 4, 260)
    length = jnp.arange(1, 9, dtype=jnp.int32)
    changed, left = make_augment(f"{name}:0.9", Alphabet(2, 4, 256), "")(KEY, tokens, length)
    assert np.array_equal(left, length) and set(np.unique(np.asarray(changed)[np.asarray(changed != tokens)])) == {2}


def test_a_task_without_texts_is_told():
    task = build({"name": "chomsky/parity_check", **TASKS["chomsky/parity_check"].defaults}, 0)
    with pytest.raises(UserError, match=r"chomsky/parity_check has no texts.*--config\.treatments"):
        compose(treatments(["augment:text=dropout"])).task(task)


@pytest.mark.parametrize(
    ("spec", "word"),
    [("augment:text=drop", "'drop'.*'dropout'"), ("augment:text=span:2", "at most 1"), ("augment:images=crop,text=span", "both")],
)
def test_mistakes_are_told_before_anything_is_built(spec, word):
    with pytest.raises(UserError, match=word):
        treatments([spec])


def test_images_have_no_link_to_the_task():
    assert links(treatments(["augment:images=crop:1"])) == {"objective": ["augment:images=crop:1"]}
    assert set(links(treatments(["augment:text=dropout"]))) == {"task", "objective"}


# -- alphabets ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["bytes", "characters", "words"])
def test_the_alphabet_is_what_a_tokenizer_has_for_text(name):
    tokens = tokenizer(name, ["one two three", "four"], 300)
    alphabet = alphabet_of(tokens)
    ids = range(alphabet.first, alphabet.first + alphabet.size)
    assert list(ids) == tokens.ordinary().tolist() and alphabet.mask == tokens.mask and alphabet.mask not in ids
    assert set(tokens.encode("one four")) <= set(ids)


def test_of_several_rows_of_ids_the_longest_is_the_alphabet():
    tokens = replace(tokenizer("bytes"), size=20, pad=0, unknown=5, mask=6, separator=7)
    assert alphabet_of(tokens) == Alphabet(6, 8, 12, 0)
