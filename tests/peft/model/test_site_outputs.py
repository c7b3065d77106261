"""The position Out as the paper's code computes it, against a formula in plain torch,
in merging and in exports."""

import copy
import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from rsft.errors import RecipeError
from rsft.peft import (
    LoRA,
    LoTR,
    Site,
    attach,
    export_peft,
    import_peft,
    load,
)
from rsft.peft.modulator import gamma_to_scale
from rsft.recipe.load import dump_recipe, load_recipe
from tests.helpers.closeness import close
from tests.helpers.messages import mentions
from tests.helpers.peft_models import NETWORKS, rich_vit, tiny_vit, with_random_adapter
from tests.helpers.plain_lora import plain_features

SEQUENTIAL = {"rank": 2, "out_insertion": "sequential"}
METHODS = {
    "lora": LoRA(**SEQUENTIAL),
    "lora-out": LoRA(positions="o", **SEQUENTIAL),
    "lotr": LoTR(**SEQUENTIAL),
}
EACH = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)


def plain_gradients(adapted, network, images, weights):
    """Return the plain outputs of a model with LoRA, and the gradients of A, B and
    gamma at all of its sites."""
    (module,) = adapted.adapter_modules
    leaves = {
        site: [x.detach().clone().requires_grad_() for x in module.factors(site)]
        for site in module.sites
    }
    gamma = adapted.modulator.gamma.detach().clone().double().requires_grad_()
    scales = dict(zip(adapted.modulator.sites, gamma_to_scale(gamma), strict=True))
    factors = {site: (a.t(), b.t()) for site, (a, b) in leaves.items()}
    y = plain_features(network, images, factors, scales)
    flat = [x for site in module.sites for x in leaves[site]]
    return y, torch.autograd.grad((y * weights).sum(), [*flat, gamma])


@pytest.mark.parametrize("kernels", [True, False], ids=["kernels", "plain autograd"])
@pytest.mark.parametrize("path", ["fast", "network", "checkpointed", "joint"])
@pytest.mark.parametrize("network", [tiny_vit, rich_vit], ids=["plain", "rich"])
def test_equals_a_plain_formula(images, kernels, path, network):
    images = images.double()
    method = LoRA(rank=2, out_insertion="sequential")
    adapted = with_random_adapter(
        attach(network().double(), method, learn_scales=True, kernels=kernels)
    )
    adapted.modulator.double()
    weights = torch.randn(
        adapted.forward_features(images).shape,
        generator=torch.Generator().manual_seed(3),
    ).double()
    expected, expected_gradients = plain_gradients(
        adapted, network().double(), images, weights
    )
    # theta's gradient comes from the first three images, gamma's from the last one
    if path == "joint":
        _, inner = plain_gradients(
            adapted, network().double(), images, weights * _rows(0, 3)
        )
        _, outer = plain_gradients(
            adapted, network().double(), images, weights * _rows(3, 4)
        )
        expected_gradients = (*inner[:-1], outer[-1])
    adapted.checkpointing = path == "checkpointed"
    if path == "joint":
        with adapted.joint(3):
            y = adapted.forward_features(images)
    else:
        y = (
            adapted.vit.forward_features(images)
            if path == "network"
            else adapted.forward_features(images)
        )
    (module,) = adapted.adapter_modules
    parameters = [x for site in module.sites for x in module.factors(site)]
    gradients = torch.autograd.grad((y * weights).sum(), [*parameters, *adapted.gamma])
    assert close([y], [expected], 1e-12)
    assert close(gradients, expected_gradients, 1e-11)


def _rows(start, stop):
    mask = torch.zeros(4, 1, 1, dtype=torch.float64)
    mask[start:stop] = 1
    return mask


def test_parallel_is_the_default_and_differs(images):
    parallel = with_random_adapter(
        attach(tiny_vit(), LoRA(rank=2, positions="o", **{}))
    )(images)
    sequential = with_random_adapter(
        attach(
            tiny_vit(), LoRA(rank=2, positions="o", **{"out_insertion": "sequential"})
        )
    )(images)
    explicit = with_random_adapter(
        attach(tiny_vit(), LoRA(rank=2, positions="o", out_insertion="parallel"))
    )
    assert torch.equal(explicit(images), parallel)
    assert (parallel - sequential).norm() > 0.1 * parallel.norm()


def test_other_positions_do_not_change(images):
    methods = LoRA(rank=2, positions="qkv12"), LoRA(positions="qkv12", **SEQUENTIAL)
    assert torch.equal(
        *(with_random_adapter(attach(tiny_vit(), method))(images) for method in methods)
    )


@EACH
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)], ids=str
)
def test_merging_changes_weight_and_bias(images, method, dtype, tolerance):
    vit = rich_vit().to(dtype)
    before = rich_vit().to(dtype)
    adapted = with_random_adapter(attach(vit, method, learn_scales=True)).eval()
    attached = adapted(images.to(dtype))
    (module,) = adapted.adapter_modules
    a, b = (factor.detach().clone() for factor in module.factors(Site(1, "out")))
    scale = float(module.scale_fns[Site(1, "out")]().detach())
    adapted.merge()
    assert adapted.unmerged == ()
    assert close([vit(images.to(dtype))], [attached], tolerance)
    proj = vit.blocks[1].attn.proj
    frozen = before.blocks[1].attn.proj
    update = torch.eye(24, dtype=dtype) + scale * b @ a
    assert close(
        [proj.weight, proj.bias],
        [update @ frozen.weight, update @ frozen.bias],
        tolerance,
    )


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "CaiT"])
def test_every_layout_agrees_with_its_network(images, name):
    adapted = with_random_adapter(
        attach(NETWORKS[name]().double(), LoRA(positions="o", **SEQUENTIAL))
    ).eval()
    attached = adapted(images.double())
    assert close([adapted.vit(images.double())], [attached], 1e-12)
    assert close([adapted.merge()(images.double())], [attached], 1e-12)


def test_a_projection_without_bias(images):
    adapted = with_random_adapter(
        attach(tiny_vit(proj_bias=False).double(), LoRA(positions="o", **SEQUENTIAL))
    )
    assert adapted.adapter_modules[0].delta(Site(0, "out")).shift is None
    attached = adapted(images.double())
    assert close([adapted.merge()(images.double())], [attached], 1e-12)


@EACH
def test_saved_equals_loaded(images, method, tmp_path):
    adapted = with_random_adapter(attach(tiny_vit(), method, learn_scales=True))
    adapted.save(tmp_path / "adapter.safetensors")
    assert torch.equal(
        load(tiny_vit(), tmp_path / "adapter.safetensors")(images), adapted(images)
    )


def test_a_file_without_the_key_is_parallel(images, tmp_path):
    adapted = with_random_adapter(attach(tiny_vit(), LoRA(rank=2)))
    adapted.save(tmp_path / "adapter.safetensors")
    described = {
        "name": "lora",
        "rank": 2,
        "positions": "qkvo12",
        "blocks": "all",
        "scale": 1.0,
        "dropout": 0.0,
    }
    metadata = {"rsft.peft": json.dumps({"method": described, "modulated": False})}
    save_file(
        load_file(tmp_path / "adapter.safetensors"),
        tmp_path / "old.safetensors",
        metadata,
    )
    assert torch.equal(
        load(tiny_vit(), tmp_path / "old.safetensors")(images), adapted(images)
    )


def test_bfloat16_stays_near(images):
    adapted = with_random_adapter(
        attach(rich_vit(), LoRA(**SEQUENTIAL), learn_scales=True)
    )
    exact = adapted(images)
    adapted.cast_frozen_weights()
    assert adapted.adapter_modules[0].delta(Site(0, "out")).a.dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        rough = adapted(images)
        delta = adapted.adapter_modules[0].delta(Site(0, "out"))
    assert delta.a.dtype == delta.shift.dtype == torch.float32
    assert torch.allclose(rough.float(), exact, atol=0.2)


def test_dropout_at_out_is_refused():
    with pytest.raises(ValueError, match="dropout") as error:
        attach(tiny_vit(), LoRA(dropout=0.1, **SEQUENTIAL))
    mentions(error, "blocks.0.out", "'*.out': 0")
    attach(tiny_vit(), LoRA(dropout={"*.out": 0, "*": 0.1}, **SEQUENTIAL))


def test_without_a_bias_the_layout_of_peft_holds_it(images, tmp_path):
    def network():
        return tiny_vit(proj_bias=False)

    adapted = with_random_adapter(attach(network(), LoRA(**SEQUENTIAL))).eval()
    export_peft(adapted, tmp_path)
    again = import_peft(network(), tmp_path).eval()
    assert close([again(images)], [adapted(images)])


def test_a_recipe_names_the_insertion(recipe_file):
    recipe = load_recipe(
        recipe_file, ["peft.out_insertion=sequential", "peft.positions=qkvo12"]
    )
    assert recipe.peft.build().out_insertion == "sequential"
    assert "out_insertion: sequential" in dump_recipe(recipe)
    with pytest.raises(RecipeError) as error:
        load_recipe(recipe_file, ["peft.out_insertion=after"])
    mentions(error, "peft.out_insertion", "parallel", "sequential")


def test_a_copy_has_its_own_layers(images):
    adapted = with_random_adapter(attach(tiny_vit(), LoRA(**SEQUENTIAL)))
    other = copy.deepcopy(adapted)
    before = adapted(images)
    other.vit.blocks[0].attn.proj.weight.data.zero_()
    assert torch.equal(adapted(images), before)
