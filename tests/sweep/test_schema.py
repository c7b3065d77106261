import pytest

from rsft.errors import RecipeError, RequestError
from rsft.sweep.schema import read_sweep
from rsft.sweep.trials import list_trials
from tests.helpers.messages import mentions

SWEEP = """\
recipe: RECIPE
overrides: {meta: null, train.epochs: 1}
grid:
  peft.positions: [q, 1]
  peft.scale: [0.5, 1/r]
seeds: [0, 1]
"""


@pytest.fixture
def sweep_file(tmp_path, recipe_file):
    def write(text):
        path = tmp_path / "some.yaml"
        path.write_text(text.replace("RECIPE", str(recipe_file)))
        return path

    return write


def faults(path, *overrides):
    with pytest.raises(RecipeError) as caught:
        list_trials(*read_sweep(path, overrides))
    return [(fault.line, fault.key, fault.value, fault.allowed) for fault in caught.value.faults]


def test_every_combination_is_a_recipe(sweep_file):
    sweep, document = read_sweep(sweep_file(SWEEP), ["train.lr=0.5"])
    trials = list_trials(sweep, document)
    assert sweep.keys == ["peft.positions", "peft.scale", "seed"] and len(trials) == len({t.id for t in trials}) == 8
    last = trials[-1].recipe
    assert trials[-1].keys == {"peft.positions": 1, "peft.scale": "1/r", "seed": 1}
    assert (last.peft.positions, last.peft.scale, last.seed, last.meta) == ("1", "1/r", 1, None)
    assert last.train.lr == 0.5 and last.train.epochs == 1


def test_cases_are_crossed_with_the_grid(sweep_file):
    text = "recipe: RECIPE\ncases:\n- {meta.sampling: random, meta.ratio: 0.2}\n- {meta.sampling: tail-heavy}\n"
    trials = list_trials(*read_sweep(sweep_file(text + "grid: {peft.rank: [2, 4]}")))
    assert [tuple(t.keys.values()) for t in trials] == [
        ("random", 0.2, 2),
        ("random", 0.2, 4),
        ("tail-heavy", 2),
        ("tail-heavy", 4),
    ]


def test_several_recipes(sweep_file, recipe_file):
    other = recipe_file.with_name("other.yaml")
    other.write_text(recipe_file.read_text().replace("lr: 0.02", "lr: 0.03"))
    trials = list_trials(*read_sweep(sweep_file(f"recipe: [RECIPE, {other}]\ngrid: {{peft.rank: [2]}}")))
    assert [(t.recipe.name, t.recipe.train.lr) for t in trials] == [("bars", 0.02), ("other", 0.03)]


def test_more_trials_keep_the_first_draws(sweep_file):
    text = "recipe: RECIPE\nsearch: {train.lr: {log: [0.001, 1]}, peft.rank: {integer: [1, 8]}}\ntrials: 20"
    trials = list_trials(*read_sweep(sweep_file(text)))
    assert [t.keys for t in list_trials(*read_sweep(sweep_file(text.replace("20", "6"))))] == [
        t.keys for t in trials[:6]
    ]
    rates, ranks = ({t.keys[key] for t in trials} for key in ("train.lr", "peft.rank"))
    assert min(rates) < 0.01 and max(rates) > 0.1 and ranks <= set(range(1, 9)) and len(ranks) > 4


def test_all_faults_are_reported_with_their_lines(sweep_file):
    text = SWEEP.replace("1/r", "-1").replace("[q, 1]", "[q, z]").replace("train.epochs: 1", "train.epoch: 1")
    assert faults(sweep_file(text), "train.lr=fast") == [
        (0, "train.lr", "fast", "a number > 0"),
        (2, "train.epoch", "1", "no such key; did you mean train.epochs?"),
        (
            4,
            "peft.positions",
            "z",
            "all, letters of qkvo12, or a list of q | k | v | out | mlp1 | mlp2 | conv1 | conv2 | conv3 | downsample",
        ),
        (5, "peft.scale", "-1", "a number > 0, or 1/r | learnable, or numbers by pattern of sites"),
    ]


def test_faults_of_the_sweep_itself(sweep_file):
    text = "recipe: RECIPE\ntrails: 3\nmetric: best\nsearch:\n  peft.rank: {integer: [4, 2]}\n  train.lr: {log: [0, 1]}"
    reported = faults(sweep_file(text))
    assert [(line, key) for line, key, *_ in reported] == [
        (2, "trails"),
        (3, "metric"),
        (5, "search.peft.rank"),
        (6, "search.train.lr"),
    ]
    assert reported[0][3].startswith("no such key; a sweep has recipe, ") and "val_macro" in reported[1][3]


@pytest.mark.parametrize(
    ("text", "key", "allowed"),
    [
        ("recipe: RECIPE", "grid", "something that varies"),
        ("recipe: RECIPE\ngrid: {peft.rank: [1]}\ntrials: 3", "trials", "nothing: without a search"),
        ("recipe: RECIPE\nsearch: {peft.rank: {choice: [1, 2]}}", "trials", "a whole number"),
        ("recipe: RECIPE\ngrid: {peft.rank: [1]}\nx: peft.scale", "x", "peft.rank"),
        ("recipe: RECIPE\ngrid: {peft.rank: [1]}\noverrides: {peft.rank: 3}", "overrides.peft.rank", "not vary"),
        (
            "recipe: RECIPE\ngrid: {peft.rank: [1]}\ncases: [{peft.rank: 3}]",
            "grid.peft.rank",
            "each key in one section only",
        ),
        (
            "recipe: RECIPE\nmethod: tpe\ntrials: 3\nseeds: [0]\nsearch: {peft.rank: {choice: [1, 2]}}",
            "method",
            "random, because the sweep has a grid",
        ),
        ("recipe: RECIPE\ngrid: {peft.rank: [1]}\nscheduler: asha\nmetric: tail", "scheduler", "at the end of a run"),
        ("recipe: RECIPE\ngrid: {peft.rank: [1]}\nscheduler: median", "scheduler", "asha"),
        ("recipe: RECIPE\ngrid: {peft.rank: [0]}", "peft.rank", "a whole number >= 1"),
        ("recipe: RECIPE\nsearch: {train.lr: {uniform: [-1, 1]}}\ntrials: 2", "train.lr", "a number > 0"),
        ("grid: [", "syntax", "valid YAML"),
    ],
)
def test_contradicting_keys(sweep_file, text, key, allowed):
    (fault,) = faults(sweep_file(text))
    assert fault[1] == key and allowed in fault[3]


def test_too_many_trials(sweep_file):
    numbers = list(range(200))
    (reported,) = faults(sweep_file(f"recipe: RECIPE\ngrid: {{seed: {numbers}, train.batch_size: {numbers}}}"))
    assert "10,000" in reported[2]


def test_recipe_in_place_of_a_sweep(recipe_file):
    with pytest.raises(RequestError, match=mentions("recipe, not a sweep")) as caught:
        read_sweep(recipe_file)
    assert f"rsft finetune {recipe_file}" in caught.value.hint
