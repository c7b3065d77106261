"""What a recipe may hold: one model a section, one described field a key."""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple

from pydantic import BeforeValidator, Field
from pydantic.fields import FieldInfo

from rsft.recipe.fields import (
    BlockList,
    BlockRule,
    Counts,
    Expression,
    FolderName,
    Pair,
    Pairs,
    Positions,
    Section,
    Shares,
    Text,
    unquoted,
)


class Data(Section):
    """The prepared chips and how they become the network's input."""

    root: Text = Field(description="folder that `rsft prepare` made")
    size: int = Field(ge=8, le=4096, description="side of the network's input, in pixels; the patch size divides it")
    crop: int | None = Field(default=None, ge=1, description="side of the centre crop before resizing; null takes all")
    bands: Annotated[list[Expression], Field(min_length=1)] | None = Field(
        default=None, description="planes for the network, such as [VV, VH, VV - VH]; null takes the chips' bands"
    )
    remap: Literal["replicate", "fold", "expand"] = Field(
        default="replicate",
        description="repeat a single plane, sum the filters of equal planes (the same for less work), or spread them",
    )
    unit: Literal["uint8", "uint16", "amplitude", "intensity", "sigma0", "db"] | None = Field(
        default=None, description="unit in which planes are computed; null takes the chips' or the backbone's own"
    )
    declare: Literal["amplitude", "intensity"] | None = Field(
        default=None, description="what the digital numbers of uint8 and uint16 chips are"
    )
    stretch: Literal["auto", "percentile", "log1p", "chip-max"] | Pair | Pairs = Field(
        default="auto",
        description="values that become black and white: measured on the training chips, each chip's own maximum, or a "
        "pair of limits; auto leaves bytes as they are and measures the rest",
    )
    augment: Literal["none", "sar", "optical"] = Field(
        default="none", description="changes that this sensor's images may show"
    )
    workers: int = Field(default=0, ge=0, description="processes that load chips; 0 loads them in the main one")


class Backbone(Section):
    """The frozen encoder."""

    name: Text = Field(default="vit_tiny_patch8_64.simship", description="encoder by name; `rsft backbones ls`")
    weights: Text | None = Field(default=None, description="its weights as a file; null looks in the folder of weights")
    pool: Literal["token", "avg"] = Field(
        default="token", description="feature: class token, or mean of the patch tokens"
    )


class PeftMethod(NamedTuple):
    """How a method is called in print, and the keys of the section that it takes."""

    title: str
    keys: tuple[str, ...]


METHODS: dict[str, PeftMethod] = {
    "lora": PeftMethod("LoRA", ("rank", "positions", "blocks", "scale", "dropout")),
    "lotr": PeftMethod("LoTR", ("rank", "positions", "blocks", "scale", "dropout")),
    "adapter": PeftMethod("Adapter", ("dim", "blocks", "scale", "dropout")),
    "adaptformer": PeftMethod("AdaptFormer", ("dim", "blocks", "scale", "dropout")),
    "lora+adaptformer": PeftMethod(
        "LoRA + AdaptFormer", ("rank", "dim", "positions", "blocks", "scale", "adapter_scale", "dropout")
    ),
    "vpt-shallow": PeftMethod("VPT-Shallow", ("prompts", "dropout")),
    "vpt-deep": PeftMethod("VPT-Deep", ("prompts", "blocks", "dropout")),
    "bitfit": PeftMethod("BitFit", ("blocks",)),
    "layernorm": PeftMethod("LayerNorm tuning", ("blocks",)),
    "ssf": PeftMethod("SSF", ("blocks",)),
    "linear-probe": PeftMethod("Linear probe", ()),
    "full": PeftMethod("Full fine-tuning", ("blocks",)),
}
"""Those of `rsft.peft` by name; a test holds the keys against its classes."""


class Peft(Section):
    """What is trained in or beside the frozen network (paper, Section 3.1); a method takes some of the keys."""

    method: Literal[
        "lora",
        "lotr",
        "adapter",
        "adaptformer",
        "lora+adaptformer",
        "vpt-shallow",
        "vpt-deep",
        "bitfit",
        "layernorm",
        "ssf",
        "linear-probe",
        "full",
    ] = Field(default="lora", description="kind of module")
    rank: Annotated[int, Field(ge=1)] | Counts = Field(
        default=4, description="inner dimension r of low-rank modules (the paper's 4 on DOTA and FUSRS)"
    )
    dim: Annotated[int, Field(ge=1)] | Counts = Field(
        default=4, description="width of the bottleneck of Adapter and AdaptFormer"
    )
    positions: Positions = Field(
        default="qkvo12", description="query, key, value, out, MLP 1, MLP 2 (paper, Tables 1 and 2)"
    )
    blocks: BlockRule | BlockList = Field(
        default="all", description="transformer blocks that are adapted (paper, Table 3)"
    )
    scale: Annotated[float, Field(gt=0)] | Literal["1/r", "learnable"] | Shares = Field(
        default=1.0,
        description="factor of a module's output where no modulator learns it; learnable is AdaptFormer's, as in LIFT",
    )
    adapter_scale: Annotated[float, Field(gt=0)] | Literal["1/r", "learnable"] = Field(
        default=1.0, description="the same of AdaptFormer beside LoRA"
    )
    prompts: int = Field(default=10, ge=1, description="tokens that VPT puts before the patches, in a block")
    dropout: Annotated[float, Field(ge=0, lt=1)] | Shares = Field(
        default=0.0, description="share of a module's inputs dropped in training"
    )

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that the method takes."""
        return METHODS[self.method].keys

    @property
    def unneeded(self) -> dict[str, str]:
        """The keys that the method does not take."""
        takes = f"nothing: the method {self.method} takes {', '.join(self.keys) or 'no keys'}"
        return {key: takes for key in type(self).model_fields if key not in ("method", *self.keys)}

    @property
    def title(self) -> str:
        """The method in print."""
        return METHODS[self.method].title


class Meta(Section):
    """The modulator, one learned scale a site, and its outer loop (paper, Section 3.3); null is plain PEFT."""

    schedule: Literal["alternating", "joint"] = Field(
        default="alternating", description="inner and outer steps take turns, or both gradients come of one pass"
    )
    order: Literal[1, 2] = Field(
        default=1, description="gradient at fixed theta, or through one unrolled inner step (alternating)"
    )
    lr: float = Field(
        default=1e-2, gt=0, description="Adam's rate in the outer loop; varies with the data (paper, Section 4.2)"
    )
    decay: Literal["constant", "cosine"] = Field(
        default="constant", description="course of that rate over the run; cosine falls to 0, so that scales settle"
    )
    weight_decay: float = Field(default=5e-4, ge=0, description="L2 pull of the modulator toward its start")
    init: float = Field(default=1.0, gt=0, description="every site's scale at the start; 1 starts as plain PEFT")
    every: int = Field(default=3, ge=1, description="inner steps before an outer one, the paper's K (DOTA 3, FUSRS 2)")
    ratio: float = Field(
        default=0.2, gt=0, lt=1, description="share of the training chips in the meta subset (paper, Table 6)"
    )
    sampling: Literal["random", "class-balanced", "tail-heavy"] = Field(
        default="random", description="how the outer loop draws chips (paper, Section B.1)"
    )
    holdout: bool = Field(default=True, description="the inner loop does not see the meta subset of its round")
    prune_below: float | None = Field(
        default=None, gt=0, description="sites with a smaller scale at the end are left out; null keeps all"
    )
    round: int = Field(default=1, ge=1, description="epochs until the meta subset is drawn anew")
    warmup: float = Field(default=1.0, ge=0, description="epochs before the first outer step")
    batch_size: int | None = Field(
        default=None,
        ge=1,
        description="chips in an outer step; null takes train.batch_size, or with joint the subset's share of an epoch",
    )


class Head(Section):
    """The classifier on top of the feature."""

    kind: Literal["cosine", "linear"] = Field(
        default="cosine", description="cosine to a weight a class, or a linear map"
    )
    scale: float = Field(
        default=25.0, gt=0, description="factor of the cosine (the authors' 25); a linear head has none"
    )
    init: Literal["class-mean", "k-shot", "linear-probe", "random"] = Field(
        default="class-mean",
        description="start: mean frozen feature of each class, the same of head.shots chips, logistic regression on "
        "frozen features, or at random",
    )
    shots: int = Field(default=10, ge=1, description="chips of each class that a k-shot start takes the mean of")

    @property
    def unneeded(self) -> dict[str, str]:
        """A linear head has no scale, and one start counts shots."""
        scale = {} if self.kind == "cosine" else {"scale": "nothing: a linear head has no scale"}
        shots = {} if self.init == "k-shot" else {"shots": f"nothing: the start {self.init} counts no shots"}
        return scale | shots


LOSSES: dict[str, tuple[str, ...]] = {
    "logit_adjustment": ("tau",),
    "ce": (),
    "focal": ("gamma",),
    "ldam": ("margin", "margin_scale", "defer", "beta"),
    "class_balanced": ("beta",),
    "balanced_softmax": (),
    "lade": ("weight", "penalty"),
}
"""Losses by name, each with the keys that it takes; a test holds them against `rsft.training.optim.losses`."""


class Loss(Section):
    """The training loss, the same in both loops (paper, Section 4.2)."""

    name: Literal["logit_adjustment", "ce", "focal", "ldam", "class_balanced", "balanced_softmax", "lade"] = Field(
        default="logit_adjustment", description="as the literature calls it; all but ce and focal know class counts"
    )
    tau: float = Field(default=1.0, ge=0, description="weight of the prior in logit adjustment")
    gamma: float = Field(default=2.0, ge=0, description="how far focal loss turns from chips that are classified well")
    margin: float = Field(default=0.5, ge=0, description="LDAM's margin of the rarest class, as a cosine")
    margin_scale: float = Field(
        default=25.0, gt=0, description="factor from a cosine to a logit in LDAM; that of the cosine head"
    )
    defer: float | None = Field(
        default=None,
        ge=0,
        lt=1,
        description="share of training after which LDAM weights classes by effective number (DRW); null never does",
    )
    beta: float = Field(default=0.9999, ge=0, lt=1, description="of the effective number of chips; 0 weights alike")
    weight: float = Field(default=0.1, ge=0, description="weight of LADE's regulariser beside its cross entropy")
    penalty: float = Field(default=0.1, ge=0, description="weight of the squared term within the regulariser")

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that the loss takes."""
        return LOSSES[self.name]

    @property
    def unneeded(self) -> dict[str, str]:
        """The keys that the loss does not take."""
        takes = f"nothing: the loss {self.name} takes {', '.join(self.keys) or 'no keys'}"
        unneeded = {key: takes for key in type(self).model_fields if key not in ("name", *self.keys)}
        if self.name == "ldam" and self.defer is None:
            unneeded["beta"] = "nothing: without loss.defer LDAM weights no class"
        return unneeded


class Train(Section):
    """The inner loop: SGD on modules and head."""

    epochs: int = Field(ge=1, description="passes over the training chips")
    batch_size: int = Field(default=128, ge=1, description="chips in a batch, over all processes")
    lr: float = Field(
        default=1e-2, gt=0, description="rate at batch 128, scaled by sqrt(batch_size / 128); paper, Section 4.2"
    )
    momentum: float = Field(default=0.9, ge=0, lt=1, description="of SGD")
    weight_decay: float = Field(default=5e-4, ge=0, description="of SGD")
    decay_all: bool = Field(
        default=True, description="decay biases, norms, prompts and scales too, as the authors do; false spares them"
    )
    schedule: Literal["cosine", "constant"] = Field(
        default="cosine", description="course of the rate after the warm-up, step by step"
    )
    warmup_epochs: float = Field(default=0.0, ge=0, description="epochs in which the rate rises to its full value")
    sampler: Literal["natural", "class-balanced", "square-root"] = Field(
        default="natural",
        description="every chip once an epoch, or as many drawn with classes alike, or by the root of their frequency",
    )
    accumulate: int = Field(default=1, ge=1, description="batches whose gradients make one step")
    checkpointing: bool = Field(
        default=False, description="keep a block's input alone and compute the rest again: less memory, more time"
    )
    patience: int | None = Field(
        default=None, ge=1, description="validations without a better macro accuracy until the end; null trains on"
    )
    min_delta: float = Field(default=0.0, ge=0, description="what counts as better, in points of accuracy as 0-1")
    clip_norm: float | None = Field(default=None, gt=0, description="largest norm of the gradient; null does not clip")
    precision: Annotated[Literal["auto", "32", "bf16", "fp16"], BeforeValidator(unquoted)] = Field(
        default="32", description="of the arithmetic; auto measures which is fastest here, fp16 needs a GPU"
    )
    runs: int = Field(
        default=1, ge=1, le=100, description="independent runs whose probabilities are averaged (the paper's 3)"
    )
    devices: int = Field(default=1, ge=1, description="processes on a machine, each with a GPU or a share of the cores")
    nodes: int = Field(default=1, ge=1, description="machines; torchrun or SLURM starts the processes there")
    strategy: Literal["auto", "ddp", "fsdp"] = Field(
        default="auto",
        description="what each of several processes holds: ddp the model, fsdp a share of its blocks; auto is ddp",
    )
    checkpoint_steps: int | None = Field(
        default=None, ge=1, description="steps between checkpoints; null leaves it to the minutes"
    )
    checkpoint_minutes: float | None = Field(
        default=10.0, gt=0, description="minutes between them; there is one after each epoch anyway"
    )
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="auto takes a GPU where there is one")


class Evaluate(Section):
    """The numbers at the end of a run."""

    split: Literal["auto", "val", "test"] = Field(
        default="auto", description="auto is test where the data has one, else val"
    )
    every: int = Field(default=1, ge=1, description="epochs between validations in training; the last has one anyway")
    batch_size: int = Field(default=256, ge=1, description="chips in a pass")
    knn: int = Field(default=5, ge=1, description="neighbours of the k-NN baselines")
    tta: Literal["none", "five-crop", "ten-crop"] = Field(
        default="none",
        description="crops of a larger image whose probabilities are averaged; ten: mirrored too",
    )
    margin: int = Field(
        default=24, ge=1, description="pixels by which that image is larger than data.size (the paper's 24)"
    )

    @property
    def unneeded(self) -> dict[str, str]:
        """Without crops there is no margin."""
        return {} if self.tta != "none" else {"margin": "nothing: without crops (evaluate.tta) there is no margin"}


class Track(Section):
    """Where the numbers of a run go while it goes, beside its own tables."""

    to: list[Literal["tensorboard", "mlflow", "wandb"]] = Field(
        default=["tensorboard"], description="trackers; metrics.csv is always written, and [] leaves it at that"
    )
    every: int = Field(default=50, ge=1, description="steps from one point of the training loss to the next")
    project: Text = Field(default="rsft", description="experiment of MLflow, project of Weights & Biases")
    uri: Text | None = Field(
        default=None,
        description="MLflow's server or database; null takes MLFLOW_TRACKING_URI, else the SQLite file mlflow.db here",
    )

    @property
    def unneeded(self) -> dict[str, str]:
        """What is MLflow's alone, or that of services."""
        uri = {} if "mlflow" in self.to else {"uri": "nothing: track.to has no mlflow"}
        project = {} if set(self.to) - {"tensorboard"} else {"project": "nothing: track.to has no mlflow or wandb"}
        return uri | project


class Recipe(Section):
    """One experiment."""

    name: FolderName = Field(description="of the run's folder; the recipe file's stem if left out")
    seed: int = Field(default=0, ge=0, le=2**32 - 1, description="every random choice follows from it")
    data: Data
    backbone: Backbone = Backbone()
    peft: Peft = Peft()
    meta: Meta | None = None
    head: Head = Head()
    loss: Loss = Loss()
    train: Train
    evaluate: Evaluate = Evaluate()
    track: Track = Track()


SECTIONS: dict[str, type[Section]] = {
    "data": Data,
    "backbone": Backbone,
    "peft": Peft,
    "meta": Meta,
    "head": Head,
    "loss": Loss,
    "train": Train,
    "evaluate": Evaluate,
    "track": Track,
}
"""Sections by name, in the order of a recipe."""

KEYS: dict[str, FieldInfo] = {
    **{key: field for key, field in Recipe.model_fields.items() if key not in SECTIONS},
    **{f"{name}.{key}": field for name, section in SECTIONS.items() for key, field in section.model_fields.items()},
}
"""Every key by its dotted name, as the command line writes it."""
