"""The simulated analyst without labels: clicks are counted, and labels are true."""

import numpy as np

from tools.reproduction import first_labels as tool


def make_chips(seed=0):
    rng = np.random.default_rng(seed)
    classes = np.repeat([0, 1, 2], [60, 30, 10])
    x = rng.normal(size=(100, 5)) + 6 * np.eye(3, 5)[classes]
    return tool.Chips(x, classes, x, x[::2], classes[::2])


def test_discriminant_separates_classes():
    chips = make_chips()
    assert tool.measure(chips, range(100)) > 98
    # one chip for each class: the fallback is the variance of all chips
    assert tool.measure(chips, [0, 60, 90]) > 80


def test_a_row_is_one_more_click():
    chips = make_chips()
    plain = tool.label_chips(chips, "suggest", 0, 20)
    assert len(plain.labeled) == 20 and plain.clicks == list(range(1, 21))
    assert len(set(plain.labeled)) == 20
    rows = tool.label_chips(chips, "suggest, rows", 0, 20)
    assert len(rows.labeled) > 20 and max(rows.clicks) <= 20
    assert len(set(rows.labeled)) == len(rows.labeled)


def test_all_classes_are_found():
    chips = make_chips()
    for strategy in tool.STRATEGIES:
        course = tool.label_chips(chips, strategy, 1, 40)
        assert set(chips.pool_classes[course.labeled]) == {0, 1, 2}
        assert course == tool.label_chips(chips, strategy, 1, 40)


def test_table_has_differences_to_random_choice():
    chips = make_chips()
    results = {
        strategy: np.array(
            [tool.simulate(chips, strategy, seed, 99.0) for seed in (0, 1)]
        )
        for strategy in ("random", "suggest")
    }
    lines = tool.format_table(results, "chips", 99.0).splitlines()
    assert lines[0] == "**chips**" and len(lines) == 6
    assert lines[-1].count("±") == 3 and lines[-2].count("±") == 0
