"""When a timing is disturbed: a side in turns slower than alone, or other processes at work."""

from assay.diagnostics.cost.disturbance import judge

ALONE = {"ours": [0.1, 0.1, 0.1, 0.1], "eager": [0.092, 0.090, 0.094, 0.092]}


def test_a_quiet_timing_is_not_disturbed():
    found = judge(ALONE, {"ours": [0.1, 0.115, 0.12], "eager": [0.09, 0.1, 5.0]}, 0.1)
    assert found.disturbed == "", "a median of 1.15 times and a tenth of a core are allowed, and one slow turn"
    assert found.alone_seconds == {"ours": 0.1, "eager": 0.092} and found.turn_seconds == {"ours": 0.115, "eager": 0.1}


def test_a_side_that_is_slower_in_turns_disturbs():
    """Beside other work PyTorch's threads waited in loops: 92 ms alone and 1,029 in turns, where ours suffered less than twofold."""
    found = judge(ALONE, {"ours": [0.19] * 9, "eager": [1.029] * 9}, None)
    assert found.disturbed == "disturbed: eager took 11.18 times as long in turns as alone"
    assert judge(ALONE, {"ours": [0.116], "eager": [0.092]}, 0.0).disturbed == "disturbed: ours took 1.16 times as long in turns as alone"


def test_the_load_of_others_disturbs():
    same = {side: values[:1] for side, values in ALONE.items()}
    assert judge(ALONE, same, 0.8).disturbed == "disturbed: other processes used 0.8 cores"
    assert judge(ALONE, same, 0.11).disturbed and not judge(ALONE, same, 0.1).disturbed
    assert judge({}, same, 0.8).disturbed and not judge({}, same, None).disturbed, "without times alone, by the load only"
    both = judge(ALONE, {"ours": [0.3], "eager": [0.09]}, 1.4)
    assert both.disturbed == "disturbed: other processes used 1.4 cores, and ours took 3.00 times as long in turns as alone"


def test_what_is_not_known_is_said():
    assert judge({}, {}, None).plain() == {"alone_seconds": {}, "turn_seconds": {}, "others_cores": "not known", "disturbed": ""}
    assert judge({}, {"a": [1.0, 3.0]}, 0.03217).plain()["others_cores"] == 0.032
