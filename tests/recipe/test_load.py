"""Load recipes; report every fault with its location and the allowed values."""

import os
import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsft.errors import Fault, RecipeError, RequestError
from rsft.recipe.load import (
    allowed_words,
    dump_recipe,
    load_recipe,
    nearest_key,
    recipe_keys,
)
from rsft.recipe.schema import (
    SECTIONS,
    DataSection,
    MetaSection,
    PeftSection,
    Recipe,
    TrainSection,
)
from rsft.recipe.text import parse_value, to_yaml

QUICK = """\
# Quick start
data:
  root: data/demo
  size: 64
peft:
  rank: 4
meta:
  lr: 1e-3
train:
  epochs: 10
"""


@pytest.fixture
def quick(tmp_path):
    return write(tmp_path, QUICK)


def write(folder, text):
    path = folder / "quickstart.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def faults(path, *overrides):
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, overrides)
    return caught.value.faults


def test_defaults_and_name(quick):
    recipe = load_recipe(quick)
    assert (recipe.name, recipe.seed, recipe.data.crop) == ("quickstart", 0, None)
    assert recipe.peft.settings["positions"] == "qkvo12"
    assert recipe.meta == MetaSection(lr=0.001)
    assert (
        recipe.head.logit_scale,
        recipe.loss.tau,
        recipe.train.momentum,
        recipe.evaluate.knn,
    ) == (25.0, 1.0, 0.9, 5)


def test_override_faults_name_line_and_nearest_key(quick):
    assert faults(quick, "peft.rnk=8", "train.epochs=-1") == [
        Fault(
            str(quick),
            6,
            "peft.rnk",
            "8",
            "no such key; did you mean peft.rank?",
            overridden=True,
        ),
        Fault(
            str(quick), 10, "train.epochs", "-1", "a whole number >= 1", overridden=True
        ),
    ]


def test_a_key_of_the_same_section_was_meant():
    assert nearest_key("loss.weights") == "loss.weight"  # not backbone.weights


def test_overrides_are_yaml_and_the_last_wins(quick):
    given = [
        "peft.blocks=[9, 10]",
        "peft.positions=12",
        "peft.scale=1/r",
        "data.crop=null",
        "train.lr=5e-2",
    ]
    recipe = load_recipe(
        quick,
        [*given, "meta.lr=3", "meta=null", "seed=1", "seed=2", "train.precision=fp32"],
    )
    assert recipe.peft == PeftSection(blocks=[9, 10], positions="12", scale="1/r")
    assert (recipe.meta, recipe.seed, recipe.train.lr, recipe.train.precision) == (
        None,
        2,
        0.05,
        "fp32",
    )
    assert load_recipe(quick, ["meta=null", "meta.outer_every=2"]).meta == MetaSection(
        outer_every=2
    )


@pytest.mark.parametrize(
    ("override", "line", "key", "words"),
    [
        ("peft.rank", 0, "peft.rank", "write section.key=value"),
        ("rank=8", 6, "rank", "did you mean peft.rank?"),
        ("peft.lr=1", 8, "peft.lr", "did you mean meta.lr?"),
        ("trian.epochs=3", 10, "trian.epochs", "did you mean train.epochs?"),
        ("colour=red", 0, "colour", "no such key"),
        ("peft.blocks=[1,", 5, "peft.blocks", "not valid YAML"),
        ("peft.blocks=last:0", 5, "peft.blocks", "all, last:N, every:N"),
        ("peft.positions=qx", 5, "peft.positions", "letters of qkvo12"),
        ("peft.rank=true", 6, "peft.rank", "a whole number >= 1"),
        ("peft.rank='8'", 6, "peft.rank", "a whole number >= 1"),
        ("peft.dropout=1", 5, "peft.dropout", "a number >= 0 and < 1"),
        ("train.max_grad_norm=0", 9, "train.max_grad_norm", "a number > 0, or null"),
        ("loss.tau=inf", 0, "loss.tau", "a number >= 0"),
        ("loss.name=focall", 0, "loss.name", "logit_adjustment | ce | focal | ldam"),
        (
            "loss.gamma=1",
            0,
            "loss.gamma",
            "nothing: the loss logit_adjustment takes tau",
        ),
        (
            "head.earlier_blocks=[4, 4]",
            0,
            "head.earlier_blocks",
            "a list of distinct whole numbers >= 0",
        ),
        (
            "head.earlier_blocks=[-1]",
            0,
            "head.earlier_blocks",
            "a list of distinct whole numbers >= 0",
        ),
        (
            "head.earlier_blocks=4",
            0,
            "head.earlier_blocks",
            "a list of distinct whole numbers >= 0",
        ),
        (
            "head.shots=1",
            0,
            "head.shots",
            "nothing: the initialization class-mean uses no shots",
        ),
        (
            "evaluate.margin=8",
            0,
            "evaluate.margin",
            "nothing: without crops (evaluate.tta)",
        ),
        ("peft=3", 5, "peft", "a section with keys method, rank"),
        ("name=a/b", 0, "name", "without slash"),
    ],
)
def test_one_faulty_override(quick, override, line, key, words):
    (fault,) = faults(quick, override)
    assert (fault.line, fault.key) == (line, key)
    assert fault.file == (str(quick) if line else "command line")
    assert words in fault.allowed


def test_all_faults_of_a_file_are_listed(tmp_path):
    text = (
        "seed: -3\npeft.rank: 8\ndata:\n  size: no\n  crop: [1]\n  size: 5\n  sise:"
        " 5\nhead:\ntraim:\n  epochs: 3\n"
    )
    reported = {
        (fault.line, fault.key): (fault.value, fault.allowed)
        for fault in faults(write(tmp_path, text))
    }
    assert reported == {
        (1, "seed"): ("-3", "a whole number >= 0 and <= 4294967295"),
        (2, "peft.rank"): ("8", "no such key; write rank in the section peft"),
        (3, "data.root"): ("nothing", "text that is not empty"),
        (4, "data.size"): ("no", "a whole number >= 8 and <= 4096"),
        (5, "data.crop"): ("[1]", "a whole number >= 1, or null"),
        (6, "data.size"): ("again (first on line 4)", "each key once"),
        (7, "data.sise"): ("5", "no such key; did you mean data.size?"),
        (8, "head"): (
            "null",
            "a section with keys kind, logit_scale, init, shots, earlier_blocks",
        ),
        (9, "traim"): ("{epochs: 3}", "no such key; did you mean train?"),
        (0, "train.epochs"): ("nothing", "a whole number >= 1"),
    }


@pytest.mark.parametrize(
    ("text", "line", "key", "value"),
    [
        ("data:\n\tsize: 5\n", 2, "syntax", r"'\tsize: 5'"),
        ("a: [1,\n", 2, "syntax", "the end of the file"),
        ("a: 1\n---\nb: 1\n", 2, "syntax", "---"),
        ("seed: !!python/object:os.system 3\n", 1, "syntax", "seed: !!python"),
        ("peft: &p {rank: 1}\nmeta: *p\n", 1, "syntax", "peft: &p"),
        ("- data\n", 1, "syntax", "- data"),
        ("seed: 1\x07\n", 1, "syntax", r"\x07"),
        (b"seed: 1\nname: \xe9t\xe9\n", 2, "syntax", r"\udce9"),
    ],
)
def test_unreadable_file(tmp_path, text, line, key, value):
    unknown, fault = faults(write(tmp_path, text), "colour=red")
    assert (fault.line, fault.key, unknown.key) == (line, key, "colour")
    assert value in fault.value


def test_empty_file_lacks_required_keys(tmp_path):
    assert [fault.key for fault in faults(write(tmp_path, ""))] == [
        "data.root",
        "data.size",
        "train.epochs",
    ]


def test_missing_file(tmp_path):
    with pytest.raises(RequestError, match="no such recipe"):
        load_recipe(tmp_path / "absent.yaml")


def test_byte_order_mark_and_dos_lines(tmp_path):
    path = write(tmp_path, b"\xef\xbb\xbf" + QUICK.replace("\n", "\r\n").encode())
    assert load_recipe(path).train.epochs == 10


@pytest.mark.parametrize(
    "override",
    ["meta=null", "peft.blocks=[0, 3]", "peft.scale=1/r", "train.lr=1e-7", "name=32"],
)
def test_round_trip(quick, tmp_path, override):
    recipe = load_recipe(quick, [override])
    dumped = tmp_path / "resolved.yaml"
    dumped.write_text(dump_recipe(recipe), encoding="utf-8")
    assert load_recipe(dumped) == recipe


@given(root=st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1))
def test_every_path_is_read_back(root):
    recipe = Recipe(
        name="x", data=DataSection(root=root, size=8), train=TrainSection(epochs=1)
    )
    line = next(
        line for line in dump_recipe(recipe).splitlines() if line.startswith("  root: ")
    )
    assert parse_value(line.removeprefix("  root: ")) == root


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        (".5", 0.5),
        ("-7", -7),
        ("1:30", "1:30"),
        ("no", "no"),
        ("'8'", "8"),
        ("", None),
        ("~", None),
    ],
)
def test_scalars_follow_yaml_1_2(text, value):
    assert parse_value(text) == value
    assert type(parse_value(to_yaml(value))) is type(value)


def test_every_key_is_described_and_dumped(quick):
    recipe = load_recipe(quick, ["semi={}"])
    text = dump_recipe(recipe)
    effective = {
        f"{name}.{key}"
        for name, section in recipe.sections()
        for key, _ in section
        if key not in section.unneeded
    }
    for key, field in recipe_keys().items():
        assert field.description and "\n" not in field.description, key
        if key in effective or "." not in key:
            assert f"# {field.description}" in text, key
        else:
            section, _, name = key.partition(".")
            assert (
                f"  {name}: "
                not in text.partition(f"\n{section}:")[2].partition("\n\n")[0]
            )
        assert allowed_words(key), key
    assert all(f"\n{name}:" in text for name in SECTIONS)


@pytest.mark.slow
def test_loading_does_not_import_torch():
    code = (
        "import sys, rsft.recipe.load, rsft.recipe.library; sys.exit('torch' in"
        " sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_units_are_read_in_any_case(tmp_path):
    text = QUICK.replace(
        "  size: 64\n", "  size: 64\n  unit: dB\n  declare: Amplitude\n"
    )
    data = load_recipe(write(tmp_path, text)).data
    assert (data.unit, data.declare) == ("db", "amplitude")


def test_units_of_a_recipe_are_those_of_the_pixels():
    from typing import get_args

    from rsft.data.imagery.units import UNITS
    from rsft.recipe.components import Unit

    assert set(get_args(get_args(Unit)[0])) == set(UNITS)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("data: " + "[" * 2000, "nested more than 100 levels"),
        ("{a: " * 1500, "nested more than 100 levels"),
        (
            "".join(f"{' ' * level}a:\n" for level in range(1200)),
            "letters; the limit is 65,536|more than 100 levels",
        ),
        (
            "".join(f"k{number}: 1\n" for number in range(20_000)),
            "letters; the limit is 65,536",
        ),
        ("#" + "x" * 2_000_000, "letters; the limit is 65,536"),
    ],
)
def test_documents_have_limits(tmp_path, text, words):
    (fault,) = faults(write(tmp_path, text))
    assert re.search(words, fault.allowed) and len(fault.value) < 200


@pytest.mark.parametrize(
    "override", ["seed=" + "9" * 5000, "peft.rank={'*': 1" + "0" * 100 + "}"]
)
def test_integers_beyond_64_bits_are_faults(quick, override):
    (fault,) = faults(quick, override)
    assert "whole number" in fault.allowed or "numbers by pattern" in fault.allowed


@pytest.mark.parametrize("value", ["[" * 2000, "{a: " * 1500])
def test_overrides_have_limits(quick, value):
    assert "not valid YAML" in faults(quick, f"peft.rank={value}")[0].allowed


@pytest.mark.skipif(
    not hasattr(os, "mkfifo"), reason="this system has no pipes in folders"
)
def test_recipes_are_files(tmp_path):
    os.mkfifo(tmp_path / "a.yaml")
    with pytest.raises(
        (RequestError, OSError), match=r"a pipe, a socket or a device|no such recipe"
    ):
        load_recipe(tmp_path / "a.yaml")


def test_mean_of_weights_and_pseudo_labels_are_dumped(quick, tmp_path):
    keys = [
        "train.ema=0.9",
        "data.unlabeled=data/my archive",
        "data.stretch=chip-standard",
        "data.augment=sar",
    ]
    plain = load_recipe(quick)
    assert (
        plain.semi is None and plain.train.ema is None and plain.data.unlabeled is None
    )
    recipe = load_recipe(
        quick, [*keys, "semi={ratio: 3, align: labels, teacher: student, foreign: 0}"]
    )
    text = dump_recipe(recipe)
    assert (
        "  ema: 0.9" in text
        and "  stretch: chip-standard" in text
        and "\nsemi:\n" in text
    )
    assert load_recipe(write(tmp_path, text.encode())) == recipe
    assert recipe.semi is not None and (recipe.semi.ratio, recipe.semi.threshold) == (
        3,
        0.8,
    )


@pytest.mark.parametrize(
    "value",
    [
        "train.ema=1",
        "train.ema=-0.1",
        "semi.start=1",
        "semi.ratio=0",
        "semi.align=equal",
    ],
)
def test_values_of_the_mean_and_of_pseudo_labels_have_limits(quick, value):
    with pytest.raises(RecipeError) as caught:
        load_recipe(quick, [value])
    assert value.partition("=")[0] in str(caught.value)
