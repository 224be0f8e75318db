"""What `assay fit` suspects in a data set: planted errors are found, each kind has its right rows, and honest data has none."""

import csv
import io
import json

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import roc_auc_score

from assay.cli.fit import Asked, looked
from assay.config.schema import to_dict
from assay.data.files.table import column_of, size
from assay.fitting.issues import folds, outliers, suspects, written
from assay.fitting.issues.duplicates import contradictions, near
from assay.fitting.issues.issue import KINDS, MOST, Issue, Searched
from assay.fitting.issues.leaks import leaks
from assay.fitting.issues.names import missing_classes, similar_names
from assay.fitting.issues.near import BY_WORD, near_pictures, near_texts, reduced
from assay.fitting.issues.rows import gathered
from assay.fitting.issues.search import searched, suspicion
from assay.fitting.scores import value
from assay.fitting.simple import simple
from assay.tasks.table import build

WORDS = [f"word{i:02d}" for i in range(40)]
TELLING = {"good": ["lovely", "warm", "fine", "great"], "bad": ["dull", "cold", "poor", "weak"]}


def write(path, header: str, rows) -> str:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header.split(","), *rows])
    return str(path)


def reviews(count: int, seed: int = 0) -> list[list[str]]:
    random = np.random.default_rng(seed)
    labels = [("good", "bad")[i % 2] for i in range(count)]
    return [[" ".join([*random.choice(WORDS, 9), *random.choice(TELLING[label], 2)]), label] for label in labels]


def opened(path: str, **asked):
    task, found = looked(path, Asked(**asked))
    return build(to_dict(task), 0), found


def of_kind(issues, kind: str):
    return [each for each in issues if each.kind == kind]


def planted(found, share: float = 0.05):
    """Returns the data set with labels changed to another class, and which rows."""
    random, target = np.random.default_rng(0), found.roles.target
    parts, changed = {}, []
    for name, table in found.parts.items():
        wrong = random.random(size(table)) < share
        cells = [
            random.choice([other for other in found.classes if other != cell]) if bad else cell
            for cell, bad in zip(table.columns[target].tolist(), wrong.tolist(), strict=True)
        ]
        parts[name] = type(table)({**table.columns, target: column_of(cells)}, table.lines, table.source)
        changed.append(wrong)
    return found._replace(parts=parts), np.concatenate(changed)


def test_planted_labels_of_texts_are_ranked_first(tmp_path):
    task, found = opened(write(tmp_path / "t.csv", "text,label", reviews(400)))
    given, changed = planted(found)
    score = suspicion(given, task)
    assert score.shape == (400,) and score.min() >= 0 and score.max() <= 1
    assert roc_auc_score(changed, score) >= 0.95
    listed = {(each.line, each.suggested) for each in of_kind(searched(given, task).issues, "suspect label")}
    rows, before = gathered(given), gathered(found)
    wrong = [(rows.places[i], before.table.columns["label"][i]) for i in np.flatnonzero(changed)]
    assert len(listed & set(wrong)) >= 0.8 * len(wrong), "lines are those of the file, and the suggested label is the true one"
    assert len(listed) <= 1.6 * len(wrong)


def test_planted_labels_of_pictures_are_ranked_first(tmp_path):
    digits = load_digits(n_class=5)
    for i, (image, label) in enumerate(zip(digits.images[:400], digits.target[:400], strict=True)):
        (tmp_path / str(label)).mkdir(exist_ok=True)
        Image.fromarray((image * 15.9).astype(np.uint8)).save(tmp_path / str(label) / f"{i}.png")
    task, found = opened(str(tmp_path))
    given, changed = planted(found)
    assert roc_auc_score(changed, suspicion(given, task)) >= 0.95
    first = searched(given, task).issues[0]
    assert first.kind == "suspect label" and first.line in gathered(given).places[changed] and first.excerpt == ""


def test_a_row_is_suspect_where_another_class_reaches_its_threshold():
    probabilities = np.array([[0.9, 0.1], [0.7, 0.3], [0.45, 0.55], [0.2, 0.8], [0.3, 0.7], [0.1, 0.9]])
    targets = np.array([0, 0, 0, 1, 1, 0])
    found = suspects.suspects(probabilities, targets, np.array([True, True]))
    assert found.suggested.tolist() == [-1, -1, -1, -1, -1, 1], "0.55 is below 0.75, the mean that rows of class 1 have"
    np.testing.assert_allclose(found.score, [0.1, 0.3, 0.55, 0.2, 0.3, 0.9])
    unjudged = suspects.suspects(probabilities, targets, np.array([True, False]))
    assert (unjudged.suggested == -1).all() and unjudged.score[3] == 0


def test_each_of_several_labels_is_judged_alone():
    random = np.random.default_rng(0)
    present = np.arange(40)[:, None] % np.array([2, 3]) == 0
    probabilities = np.where(present, 0.9, 0.1) + random.uniform(-0.05, 0.05, (40, 2))
    given = present.astype(int)
    given[5, 1] = 1 - given[5, 1]
    found = suspects.suspect_labels(probabilities, given, np.array([True, True]))
    assert [tuple(place) for place in np.argwhere(found.suggested >= 0)] == [(5, 1)] and found.suggested[5, 1] == present[5, 1]


def test_equal_rows_are_in_one_fold_and_classes_in_all():
    keys = np.repeat(np.arange(50), 2)
    classes = np.repeat(np.arange(50) % 5, 2)
    fold = folds.folds_of(keys, classes)
    assert (fold[::2] == fold[1::2]).all()
    assert all(len(set(fold[classes == name])) == folds.FOLDS for name in range(5))


def test_rare_classes_are_neither_learned_nor_judged(tmp_path):
    rows = [*reviews(60), ["an odd one", "rare"], ["another odd one", "rare"]]
    task, found = opened(write(tmp_path / "t.csv", "text,label", rows))
    result = searched(found, task)
    assert any("1 of 3 classes" in note for note in result.notes)
    assert all("rare" not in (each.given, each.suggested) for each in of_kind(result.issues, "suspect label"))
    few, small = opened(write(tmp_path / "few.csv", "text,label", reviews(8)))
    assert any("too few" in note for note in searched(small, few).notes)


def test_unlikely_numbers_and_labels_are_found(tmp_path):
    random = np.random.default_rng(0)
    x = random.normal(size=200)
    price = 3 * x + random.normal(0, 0.05, 200)
    price[17] = 40.0
    task, found = opened(
        write(tmp_path / "n.csv", "x,price", zip(x.round(4), price.round(4), strict=True)), target="price", regression=True
    )
    first = of_kind(searched(found, task).issues, "unlikely number")[0]
    assert (first.line, first.given) == (19, "40") and abs(float(first.suggested) - 3 * x[17]) < 3
    tags = [[text, label if i % 3 else f"{label}|long"] for i, (text, label) in enumerate(reviews(120))]
    tags = [[f"{text} lengthy endless slow" if "long" in label else text, label] for text, label in tags]
    tags[9][1] = "bad"
    task, found = opened(write(tmp_path / "l.csv", "text,labels", tags), text=("text",))
    assert found.roles.kind == "labels"
    (first, *_) = of_kind(searched(found, task).issues, "suspect label")
    assert (first.line, first.given, first.suggested) == (11, "bad", "bad|long")


def test_contradicting_labels_are_named_though_cleaning_drops_them(tmp_path):
    rows = reviews(60)
    rows += [[rows[4][0], "bad"], [rows[7][0].upper(), "good"]]
    test = [*reviews(20, seed=1), [rows[9][0], "good"]]
    _, found = opened(write(tmp_path / "a.csv", "text,label", rows), test=write(tmp_path / "b.csv", "text,label", test))
    told = {(each.line, each.other, each.part, each.given) for each in contradictions(found, gathered(found))}
    assert told == {
        (62, 6, "left out+" + part_of(found, 6), "bad"),
        (63, 9, part_of(found, 9), "good"),
        (11, f"{tmp_path}/b.csv:22", "left out+test", "bad"),
    }


def test_rows_of_several_files_are_named_by_file_and_line(tmp_path):
    rows = reviews(80)
    write(tmp_path / "train-0.csv", "text,label", [*rows[:40], ["one and the same", "good"], ["", "good"]])
    write(tmp_path / "train-1.csv", "text,label", [*rows[40:], ["one and the same", "bad"]])
    _, found = opened(str(tmp_path))
    (told,) = contradictions(found, gathered(found))
    assert (told.source, told.line, told.other) == (str(tmp_path / "train-1.csv"), 42, f"{tmp_path / 'train-0.csv'}:42")
    assert any(each.lines == ("train-0.csv:43",) for each in found.found.dropped), found.found.dropped
    assert set(gathered(found).sources) == {str(tmp_path / "train-0.csv"), str(tmp_path / "train-1.csv")}


def test_the_suggested_label_is_that_of_most_rows_in_any_order(tmp_path):
    for i, labels in enumerate((["good", "good", "bad"], ["good", "bad", "good"], ["bad", "good", "good"])):
        rows = [*reviews(40), *(["one and the same text", label] for label in labels)]
        _, found = opened(write(tmp_path / f"{i}.csv", "text,label", rows))
        (only,) = contradictions(found, gathered(found))
        assert (only.given, only.suggested, only.line) == ("bad", "good", 42 + labels.index("bad"))


def part_of(found, line: int) -> str:
    return next(name for name, table in found.parts.items() if name != "test" and line in table.lines)


def test_a_majority_of_equal_rows_suggests_its_label(tmp_path):
    rows = reviews(40)
    _, found = opened(write(tmp_path / "t.csv", "text,label", [*rows, [rows[0][0] + " ", "bad"], [rows[0][0].title(), "good"]]))
    (only,) = contradictions(found, gathered(found))
    assert (only.line, only.given, only.suggested, only.other, only.score) == (42, "bad", "good", 2, 1.0)


def test_near_texts_are_those_of_a_comparison_of_all():
    random = np.random.default_rng(0)
    texts = [" ".join(random.choice(WORDS, 14)) for _ in range(60)]
    texts += [f"{text} {random.choice(WORDS)}" for text in texts[:20]] + [" ".join(reversed(text.split())) for text in texts[:10]]
    vectors = TfidfVectorizer(**BY_WORD).fit_transform(texts).toarray()
    cosine = vectors @ vectors.T
    pairs = near_texts(texts)
    found = set(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))
    reversed_ones = {(i, 80 + i) for i in range(10)} | {(60 + i, 80 + i) for i in range(10)}
    expected = {(i, j) for i in range(90) for j in range(i + 1, 90) if cosine[i, j] >= 0.9} - reversed_ones
    assert found == expected and len(found) >= 10 and pairs.rows == 90
    np.testing.assert_allclose(pairs.likeness, cosine[pairs.first, pairs.second], atol=1e-9)
    assert not len(near_texts(["a b", "a b", ""]).first) and not len(near_texts(["! ! ! ! !"] * 3).first)


def test_near_duplicates_in_two_parts_are_marked(tmp_path):
    long = " ".join(WORDS * 3)
    rows = [*reviews(30), [f"{long} once", "good"], [f"{long} twice", "bad"], [f"{long} thrice", "good"]]
    _, found = opened(
        write(tmp_path / "a.csv", "text,label", rows),
        test=write(tmp_path / "b.csv", "text,label", [*reviews(9, seed=1), [f"{long} in other words", "good"]]),
    )
    held = gathered(found)
    issues = near(held, near_texts(held.table.columns["text"].tolist()), "cosine of words")
    across = [each for each in issues if each.part.endswith("+test")]
    assert {each.line for each in across} == {32, 33, 34}, "each row with its nearest one of another part"
    assert all("in test" in each.why and str(each.other).endswith("b.csv:11") for each in across)
    assert any("the labels differ" in each.why for each in issues)


def test_near_pictures_are_found_whatever_their_brightness():
    random = np.random.default_rng(0)
    pixels = random.integers(0, 200, (40, 20, 20, 3)).astype(np.uint8)
    pixels[7] = np.clip(pixels[3] * 0.9 + 20, 0, 255)
    pixels[8] = pixels[9] = 77
    pairs = near_pictures(pixels)
    assert list(zip(pairs.first, pairs.second, strict=True)) == [(3, 7)] and pairs.likeness[0] > 0.995
    assert reduced(pixels, 16).shape == (40, 10, 10, 3) and reduced(pixels[:, :5], 32).shape == (40, 5, 20, 3)


def test_odd_texts_are_outliers_and_others_are_not(tmp_path):
    rows = [*reviews(80), ["xyzzy plugh frotz", "good"], [" ".join(WORDS * 20), "bad"]]
    _, found = opened(write(tmp_path / "t.csv", "text,label", rows))
    held = gathered(found)
    told = {each.line: each.why for each in outliers.of_texts(held, held.table.columns["text"].tolist())}
    assert set(told) == {82, 83} and "any of its 3 words" in told[82] and "800 words; the median is 11" in told[83] and "cut 6" in told[83]


def test_odd_pictures_are_outliers_and_others_are_not(tmp_path):
    random = np.random.default_rng(0)
    images = [np.clip(random.normal(0, 9, (8, 8)) + np.linspace(60, 120, 8) * (1 + i % 2), 0, 255) for i in range(60)]
    images += [np.full((8, 8), 50.0), np.tile(images[0], (1, 3)), np.where(np.indices((8, 8)).sum(axis=0) % 2, 255.0, 0.0)]
    for i, image in enumerate(images):
        (tmp_path / "ab"[i % 2]).mkdir(exist_ok=True)
        Image.fromarray(image.astype(np.uint8)).save(tmp_path / "ab"[i % 2] / f"{i}.png")
    task, found = opened(str(tmp_path))
    told = {each.line: each.why for each in of_kind(searched(found, task).issues, "outlier")}
    assert {"a/60.png", "b/61.png", "a/62.png"} <= set(told) and len(told) <= 4
    assert "blank" in told["a/60.png"] and "nearest" in told["a/62.png"]
    assert "24 x 8 pixels, an unusual shape" in told["b/61.png"] and "; " in told["b/61.png"], "a row is listed once, with all reasons"


def test_odd_numbers_are_outliers_and_tails_are_not(tmp_path):
    random = np.random.default_rng(0)
    rows = [
        [int(a), f"{b:.3f}", f"{c:.3f}", "xy"[i % 2]]
        for i, (a, b, c) in enumerate(zip(random.normal(40, 9, 200), random.lognormal(0, 2, 200), random.standard_cauchy(200), strict=True))
    ]
    rows[30][0] = 999
    _, found = opened(write(tmp_path / "t.csv", "age,price,tail,label", rows))
    (only,) = outliers.of_numbers(gathered(found))
    assert only.line == 32 and only.why.startswith("age is 999; the median is 4") and 0.5 < only.score < 1


@pytest.mark.parametrize("regression", [False, True])
def test_a_column_that_alone_predicts_the_target_is_a_leak(tmp_path, regression):
    random = np.random.default_rng(0)
    label = np.sort(random.integers(0, 3, 150))
    y = label if not regression else random.normal(size=150)
    code = np.where(random.random(150) < 0.005, 0, label) if not regression else (y * 2 + 1).round(3)
    place = np.arange(150) * 3 + random.integers(0, 2, 150)
    rows = [
        [
            f"{random.normal():.3f}",
            f"k{code[i]}{i % 2}" if not regression else code[i],
            place[i],
            f"c{y[i]}" if not regression else round(y[i], 3),
        ]
        for i in range(150)
    ]
    _, found = opened(write(tmp_path / "t.csv", "noise,code,place,label", rows), target="label", regression=regression)
    told = {each.given: each for each in leaks(gathered(found))}
    assert set(told) == ({"code"} if regression else {"code", "place"})
    assert all(each.part == "all" and each.line == "" and 0.98 <= each.score <= 1 for each in told.values())
    if not regression:
        assert "sorted by the target" in told["place"].why and "sorted" not in told["code"].why
    _, alone = opened(write(tmp_path / "one.csv", "code,label", [row[1::2] for row in rows]), target="label", regression=regression)
    assert leaks(gathered(alone)) == [], "the only input may predict the target"


def test_names_that_differ_in_case_or_spaces_are_similar(tmp_path):
    names = ["very good", "Very  Good", "very-good", "poor", "1", "-1", "10-20", "1020"]
    rows = [[text, names[i % 8] if i < 40 else "very good"] for i, (text, _) in enumerate(reviews(60))]
    _, found = opened(write(tmp_path / "t.csv", "text,label", rows))
    issues = similar_names(gathered(found))
    assert {(each.given, each.suggested) for each in issues} == {("Very  Good", "very good"), ("very-good", "very good")}
    assert {each.line for each in issues} <= set(range(2, 62)) and all(each.score == 25 / 30 for each in issues)


def test_a_class_of_one_part_is_named(tmp_path):
    test = write(tmp_path / "b.csv", "text,label", [row for row in reviews(20, seed=1) if row[1] == "good"])
    _, found = opened(write(tmp_path / "a.csv", "text,label", [*reviews(40), ["something else", "odd"]]), test=test)
    issues = missing_classes(found, gathered(found))
    assert [(each.given, each.part, each.why) for each in issues] == [("odd", "train", "its only row is in train")]


def test_labels_that_nothing_tells_are_not_suspect(tmp_path):
    """Out of fold, a learner of noise is wrong for half of the rows, which says nothing about their labels."""
    random = np.random.default_rng(0)
    rows = [[f"{one:.4f}", "ab"[i % 2]] for i, one in enumerate(random.normal(size=200))]
    task, found = opened(write(tmp_path / "t.csv", "x,label", rows))
    result = searched(found, task)
    assert (
        "suspect label" not in result.counts and "labels were not searched: out of fold, gradient boosting is right for" in result.notes[0]
    )
    tags = [json.dumps({"text": f"word {one:.4f}", "labels": [["a"], ["a", "b"]][i % 2]}) for i, one in enumerate(random.normal(size=120))]
    (tmp_path / "t.jsonl").write_text("\n".join(tags))
    task, found = opened(str(tmp_path / "t.jsonl"), text=("text",))
    assert "suspect label" not in searched(found, task).counts


def test_a_learner_that_is_mostly_wrong_accuses_nobody(tmp_path):
    """A learner of four classes that is right a little more often than chance doubts half of the labels."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 4, 400)
    told = np.where(random.random(400) < 0.25, labels, random.integers(0, 4, 400))
    rows = [[" ".join([*random.choice(WORDS, 9), f"hint{hint}"]), f"class{label}"] for label, hint in zip(labels, told, strict=True)]
    task, found = opened(write(tmp_path / "a.csv", "text,label", rows))
    result = searched(found, task)
    assert "suspect label" not in result.counts
    assert any("no label is called suspect" in note or "labels were not searched" in note for note in result.notes)


def test_numbers_beyond_those_of_trees_are_searched(tmp_path):
    rows = [[f"{10.0 ** (i % 40):g}", f"{i}", "ab"[i % 2]] for i in range(120)]
    _, found = opened(write(tmp_path / "t.csv", "big,x,label", rows))
    assert [each.given for each in leaks(gathered(found))] == [], "no column, and no error"


def test_clean_data_are_not_suspect(tmp_path):
    task, found = opened(write(tmp_path / "t.csv", "text,label", reviews(300)))
    result = searched(found, task)
    assert sum(result.counts.values()) <= 3 and not result.notes


def test_texts_without_a_common_word_are_read_by_their_characters(tmp_path):
    rows = [[f"{'acgt'[i % 4] * 3}{i}{'good' if i % 2 else 'bad'}", "good" if i % 2 else "Good"] for i in range(1_001)]
    task, found = opened(write(tmp_path / "t.csv", "text,label", rows), text=("text",))
    assert value("accuracy", simple(found, task).parts["test"]) == 1.0
    assert list(searched(found, task).counts) == ["similar names"]


def test_the_file_says_what_was_found_and_the_screen_counts_it(tmp_path):
    one = Issue("outlier", 'a "b".csv', 3, "train", 0.51239, "x,y", "", "", "two\nlines", 'he said "no"')
    pair = one._replace(kind="near duplicate", part="train+test", other=7)
    text = written.text_of([pair, one])
    assert text.splitlines()[0] == "kind,source,line,part,score,given,suggested,other,why,excerpt" and "\r\n" in text
    (tmp_path / written.FILE).write_text(text, encoding="utf-8", newline="")
    first, second = written.read(tmp_path / written.FILE)
    assert first["other"] == "7" and second == {name: str(value) for name, value in one._replace(score="0.5124")._asdict().items()}
    told = written.screen(Searched((pair, one), {"near duplicate": 1, "outlier": 1234}, ("a sample",)), tmp_path / "issues.csv")
    assert "  1,234 outliers" in told and "      1 near duplicate, 1 of them in two parts" in told and told.endswith("note: a sample")
    assert written.screen(Searched((), {}, ()), tmp_path) == ""
    (tmp_path / written.FILE).write_text("kind;line\noutlier;3\n")
    assert written.read(tmp_path / written.FILE) is None
    assert io.StringIO(text).readline().count(",") == len(Issue._fields) - 1


def test_many_issues_are_cut_and_counted_in_full(tmp_path, monkeypatch):
    monkeypatch.setattr("assay.fitting.issues.search.MOST", 3)
    monkeypatch.setattr("assay.fitting.issues.search.ROWS", {"texts": 120})
    rows = [[text, label if i % 8 else {"good": "bad", "bad": "good"}[label]] for i, (text, label) in enumerate(reviews(160))]
    task, found = opened(write(tmp_path / "t.csv", "text,label", rows))
    result = searched(found, task)
    assert result.counts["suspect label"] > 3 == len(of_kind(result.issues, "suspect label")) and MOST == 1_000
    assert any("120 of 160 rows were searched" in note for note in result.notes)
    kinds = [KINDS.index(each.kind) for each in result.issues]
    scores = [each.score for each in of_kind(result.issues, "suspect label")]
    assert kinds == sorted(kinds) and scores == sorted(scores, reverse=True)
