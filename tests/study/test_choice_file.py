"""Files with `method: auto`: their faults, and what candidates take from the file and
from the data."""

import pytest

from rsft.data.chips.store_notes import note_store
from rsft.errors import RecipeError, RequestError
from rsft.recipe.library import find_recipe, list_entries
from rsft.recipe.load import load_recipe
from rsft.study.choice_file import read_auto, read_auto_name
from tests.helpers.messages import mentions
from tests.helpers.plugins import needs_plugin

RECIPE = "data: {size: 32}\ntrain: {epochs: 4}\n"


@pytest.fixture
def auto_file(tmp_path, root):
    """Write a file with the candidates first.yaml and second.yaml."""
    for name in ("first", "second"):
        (tmp_path / f"{name}.yaml").write_text(RECIPE)

    def write(text="", data=f"{{root: {root}}}"):
        path = tmp_path / "mine.yaml"
        candidates = (
            ""
            if "candidates" in text
            else f"candidates: [{tmp_path}/first.yaml, {tmp_path}/second.yaml]\n"
        )
        path.write_text(f"method: auto\ndata: {data}\n{candidates}{text}")
        return path

    return write


def faults(path, *overrides):
    with pytest.raises(RecipeError) as caught:
        read_auto(path, overrides)
    return {fault.key: fault for fault in caught.value.faults}


def test_candidates_take_the_data_and_the_seed(auto_file, root):
    plan = read_auto(
        auto_file("seed: 3\nfolds: 2\n"),
        ["data.crop=24", "train.batch_size=8", "budget=90s", "for=tail"],
    )
    assert [candidate.name for candidate in plan.candidates] == ["first", "second"]
    for candidate in plan.candidates:
        recipe = candidate.recipe
        assert (
            recipe.data.root,
            recipe.data.crop,
            recipe.seed,
            recipe.train.batch_size,
        ) == (str(root), 24, 3, 8)
    assert (
        plan.settings.budget_seconds,
        plan.settings.measure,
        plan.settings.name,
    ) == (90, "tail", "mine")


@pytest.mark.parametrize(
    ("budget", "seconds"), [("90s", 90), ("10min", 600), ("1.5 h", 5400), ("0s", 0)]
)
def test_budget(auto_file, budget, seconds):
    assert (
        read_auto(auto_file(), [f"budget={budget}"]).settings.budget_seconds == seconds
    )


def test_trials_are_recipes_on_a_fold(auto_file):
    candidate = read_auto(auto_file()).candidates[0]
    short = candidate.trial(1, 3, 0.25)
    full = candidate.trial(2, 3, 1.0)
    assert (short.recipe.data.fold, short.recipe.train.epochs) == ("1/3", 1)
    assert (full.recipe.data.fold, full.recipe.train.epochs) == ("2/3", 4)
    assert short.id != full.id and short.recipe.track.to == []


def test_augmentation_follows_the_kind_of_the_chips(auto_file):
    plan = read_auto(auto_file())
    assert {candidate.recipe.data.augment for candidate in plan.candidates} == {
        "optical"
    }
    assert any("data.augment=sar" in note for note in plan.notes)
    plan = read_auto(auto_file(), ["data.declare=amplitude"])
    assert {candidate.recipe.data.augment for candidate in plan.candidates} == {
        "sar"
    } and not plan.notes
    plan = read_auto(auto_file(), ["data.augment=none"])
    assert {candidate.recipe.data.augment for candidate in plan.candidates} == {
        "none"
    } and not plan.notes


def test_a_candidate_keeps_its_own_augmentation(auto_file, tmp_path):
    path = auto_file()
    (tmp_path / "first.yaml").write_text(
        "data: {size: 32, augment: none}\ntrain: {epochs: 1}\n"
    )
    first, second = read_auto(path).candidates
    assert (first.recipe.data.augment, second.recipe.data.augment) == (
        "none",
        "optical",
    )


def test_a_candidate_for_chips_of_the_other_kind_does_not_take_part(
    auto_file, tmp_path
):
    path = auto_file()
    (tmp_path / "first.yaml").write_text(
        "data: {size: 32, augment: optical}\ntrain: {epochs: 1}\n"
    )
    assert len(read_auto(path).candidates) == 2
    plan = read_auto(path, ["data.declare=amplitude"])
    assert [candidate.path.stem for candidate in plan.candidates] == ["second"]
    assert plan.notes == (
        "first is not compared: it turns chips as optical images, and these are of"
        " the other kind",
    )


@needs_plugin("encoders")
def test_a_candidate_without_its_weights_does_not_take_part(
    auto_file, tmp_path, monkeypatch
):
    monkeypatch.setenv("RSFT_WEIGHTS", str(tmp_path / "weights"))
    path = auto_file()
    text = "backbone: {name: efficientnet-lite0, pool: avg}\n" + RECIPE
    (tmp_path / "first.yaml").write_text(text)
    plan = read_auto(path)
    assert [candidate.path.stem for candidate in plan.candidates] == ["second"]
    assert plan.notes[-1] == (
        "first is not compared: its weights are not here; fetch them: rsft weights get"
        " efficientnet-lite0"
    )
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights/efficientnet-lite0.safetensors").touch()
    assert len(read_auto(path).candidates) == 2


@needs_plugin("encoders")
def test_a_choice_without_candidates_says_why(auto_file, tmp_path, monkeypatch):
    monkeypatch.setenv("RSFT_WEIGHTS", str(tmp_path / "weights"))
    path = auto_file()
    for name in ("first", "second"):
        text = "backbone: {name: efficientnet-lite0, pool: avg}\n" + RECIPE
        (tmp_path / f"{name}.yaml").write_text(text)
    with pytest.raises(RequestError, match=r"first is not compared.*second is not"):
        read_auto(path)


def test_unlabeled_chips_go_to_candidates_with_the_section_semi(auto_file, tmp_path):
    path = auto_file()
    (tmp_path / "second.yaml").write_text(f"semi: {{}}\n{RECIPE}")
    assert [candidate.name for candidate in read_auto(path).candidates] == ["first"]
    first, second = read_auto(path, ["data.unlabeled=more", "semi.ratio=2"]).candidates
    assert (
        first.recipe.data.unlabeled is None and second.recipe.data.unlabeled == "more"
    )
    assert first.recipe.semi is None and second.recipe.semi.ratio == 2
    only = auto_file(f"candidates: [{tmp_path}/second.yaml]\n")
    assert "unless data.unlabeled is set" in faults(only)["candidates"].allowed


def test_faults_have_their_file_and_line(auto_file, tmp_path):
    found = faults(auto_file("foldz: 3\nbudget: soon\nfor: best\nfolds: 1\n"))
    assert {key: fault.line for key, fault in found.items()} == {
        "foldz": 4,
        "budget": 5,
        "for": 6,
        "folds": 7,
    }
    assert "candidates" in found["foldz"].allowed and "10min" in found["budget"].allowed
    assert (
        found["for"].allowed == "macro | tail"
        and found["folds"].allowed == "a whole number >= 2 and <= 10"
    )


def test_data_is_missing(auto_file):
    for data in ("{}", "", "{size: 32}"):
        fault = faults(auto_file(data=data))["data.root"]
        assert fault.file.endswith("mine.yaml") and "data.root=STORE" in fault.allowed
    with pytest.raises(RequestError, match=mentions("nowhere", "does not exist")):
        read_auto(auto_file(data="{root: nowhere}"))
    assert "nothing" in faults(auto_file(), "data.fold=1/3")["data.fold"].allowed


def test_data_is_elsewhere(auto_file, root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = auto_file("folds: 2\n", "{root: data/bars}")
    with pytest.raises(RequestError, match=mentions("data/bars", "does not exist")):
        read_auto(path)
    note_store(root, "")
    plan = read_auto(path)
    assert {candidate.recipe.data.root for candidate in plan.candidates} == {str(root)}
    sentence = f"data/bars is not a chip store, so this recipe reads {root} "
    assert [note.startswith(sentence) for note in plan.notes].count(True) == 1
    with pytest.raises(RequestError, match=mentions("not a chip store", "other")):
        read_auto(path, ["data.root=other"])


def test_unknown_candidate(auto_file):
    fault = faults(auto_file("candidates: [lore]\n"))["candidates"]
    assert (
        fault.value == "lore"
        and fault.line == 3
        and "did you mean lora" in fault.allowed
    )


def test_values_that_a_candidate_does_not_accept(auto_file, root, tmp_path):
    found = faults(
        auto_file(data=f"{{root: {root}, size: 7}}"), "train.epochs=0", "peft.rnak=3"
    )
    assert (found["data.size"].file, found["data.size"].line) == (
        str(tmp_path / "mine.yaml"),
        2,
    )
    assert (
        found["data.size"].value == "7" and found["train.epochs"].file == "command line"
    )
    assert "peft.rank" in found["peft.rnak"].allowed


def test_candidates_of_one_name_or_with_several_processes(auto_file, tmp_path):
    first = tmp_path / "first.yaml"
    assert (
        "different names"
        in faults(auto_file(f"candidates: [{first}, {first}]\n"))["candidates"].allowed
    )
    assert (
        "train.devices" in faults(auto_file(), "train.devices=2")["candidates"].allowed
    )


def test_classes_that_cannot_be_held_out(auto_file, root, monkeypatch):
    from rsft.study import choice_file as auto

    def hold_out(number):  # of the class flat alone, which is not rare
        return lambda train, count: (
            (train["class"] == "flat") * number(train.index),
            ("sha256",),
        )

    monkeypatch.setattr(auto, "assign_folds", hold_out(lambda index: 1))
    plan = read_auto(auto_file())
    assert "too few for 3 folds" in plan.obstacle and not plan.notes[1:]
    monkeypatch.setattr(auto, "assign_folds", hold_out(lambda index: index % 3 + 1))
    assert any(
        "not measured" in note and "slanted, steep" in note
        for note in read_auto(auto_file()).notes
    )
    with pytest.raises(RequestError, match="tail class") as caught:
        read_auto(auto_file("for: tail\n"))
    assert "macro" in caught.value.hint


def test_few_chips_of_the_median_class_are_not_compared(auto_file, tmp_path):
    """The classes have 24, 12 and 4 training chips."""
    keys = f"min_chips: {{}}\nfirst: {{{{sar: {tmp_path / 'second.yaml'}}}}}\n"
    plan = read_auto(auto_file(keys.format(13)), ["data.augment=sar"])
    assert plan.obstacle == "12 training chips of the median class are too few for it"
    assert plan.candidates[0].path.stem == "second"
    for key in ("data.augment=optical", "min_chips=12"):
        plan = read_auto(auto_file(keys.format(13)), [key])
        assert plan.candidates[0].path.stem == "first"
    assert not plan.obstacle


def test_the_recipe_for_few_chips_need_not_be_a_candidate(root):
    keys = [f"data.root={root}", "data.augment=sar"]
    plan = read_auto(find_recipe("auto"), keys)
    names = [candidate.path.stem for candidate in plan.candidates]
    assert names[:2] == ["small_network_few", "small_network"] and plan.obstacle
    plan = read_auto(find_recipe("auto"), [*keys, "min_chips=0"])
    assert "small_network_few" not in [x.path.stem for x in plan.candidates]


def test_candidates_have_the_steps_for_their_chips(root):
    plan = read_auto(find_recipe("auto"), [f"data.root={root}"])
    network = plan.candidates[0]
    assert network.recipe.train.epochs == 500  # 1,000 steps of 40 chips
    trial = network.trial(1, 3, 0.25).recipe.train
    assert trial.epochs == 125 and trial.min_steps is None


def test_an_auto_file_is_no_recipe(auto_file, recipe_file):
    with pytest.raises(RequestError, match="no recipe itself"):
        load_recipe(auto_file())
    assert read_auto_name(auto_file()) == "mine" and read_auto_name(recipe_file) is None
    assert read_auto_name(auto_file("name: other\n")) == "other"


def test_shipped_candidates(root, tmp_path, monkeypatch):
    monkeypatch.setenv("RSFT_WEIGHTS", str(tmp_path))
    (tmp_path / "efficientnet-lite0.safetensors").touch()
    path = find_recipe("auto")
    plan = read_auto(path, [f"data.root={root}", "data.unlabeled=more"])
    names = [entry.path for entry in list_entries("candidate")]
    names = [path for path in names if path.stem != "small_network_few"]
    assert (
        sorted(candidate.path for candidate in plan.candidates) == names
        and len(names) == 7
    )
    assert (
        len({candidate.name for candidate in plan.candidates}) == 7
        and plan.settings.name == "auto"
    )
    assert [entry.path for entry in list_entries("auto")] == [path]
    assert path not in [entry.path for entry in list_entries("recipe")]
