"""The sections of a recipe: one model for each, with a described field for each key."""

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from rsft.peft.methods.registry import METHODS
from rsft.recipe.components import (
    WORDS,
    BlockIndices,
    ComponentSection,
    Expression,
    Fold,
    FolderName,
    Pair,
    Pairs,
    RegisteredName,
    Section,
    Text,
    Unit,
    as_lower_case,
)
from rsft.recipe.registries import LOSSES, PARTS, SAMPLERS, SCHEDULES, TRACKERS
from rsft.utils.registry import Registry


class DataSection(Section):
    """The prepared chips and how they become the network's input."""

    root: Text
    """folder that `rsft prepare` made"""
    size: int = Field(ge=8, le=4096)
    """side of the network's input in pixels; a multiple of the patch size"""
    crop: int | None = Field(default=None, ge=1)
    """side of the center crop before resizing; null takes the whole chip"""
    bands: Annotated[list[Expression], Field(min_length=1)] | None = None
    """planes for the network, such as [VV, VH, VV - VH]; null takes the chips' bands"""
    remap: Literal["replicate", "fold", "expand"] = "replicate"
    """how planes meet the filters: repeat a single plane, sum the filters of equal
    planes (the same result for less work), or spread the filters over the planes"""
    unit: Unit | None = None
    """unit in which planes are computed; null takes the chips' or the backbone's own"""
    declare: (
        Annotated[Literal["amplitude", "intensity"], BeforeValidator(as_lower_case)]
        | None
    ) = None
    """physical quantity of uint8 and uint16 pixels"""
    stretch: (
        Literal["auto", "auto-0.2", "percentile", "log1p", "chip-max", "chip-standard"]
        | Pair
        | Pairs
    ) = "auto"
    """values that become black and white: measured on the training chips, the maximum
    of each chip, or a pair of limits; auto leaves bytes as they are and measures all
    other types; chip-standard is auto, with each chip normalized by its own mean and
    standard deviation; auto-0.2 is the auto of a run that rsft 0.2 began"""
    fold: Fold | None = None
    """held-out fold of the training chips, such as 1/3: used for validation and test,
    never for training; null takes the splits of the data"""
    unlabeled: Text | None = None
    """further chips without labels, for the section semi: folder, chip store or glob
    pattern; null takes none"""
    augment: Literal["none", "natural", "sar", "optical"] = "none"
    """random changes of training chips: crops and mirror images of natural images, or
    what suits images of this sensor from above"""
    workers: Literal["auto"] | Annotated[int, Field(ge=0)] = "auto"
    """processes that load chips; 0 loads them in the main process; auto takes up to 8
    for a GPU on Linux, if shared memory has room, and else 0"""


class BackboneSection(Section):
    """The frozen encoder."""

    name: Text = "vit_tiny_patch8_64.simship"
    """encoder by name; see `rsft backbones ls`"""
    weights: Text | None = None
    """file of its weights; null looks in the folder of weights"""
    blocks: int | None = Field(default=None, ge=1)
    """number of first transformer blocks that are used; null uses all"""
    pool: Literal["token", "avg"] = "token"
    """feature: the class token, or the mean of the patch tokens or of the feature
    map"""


class PeftSection(ComponentSection):
    """What is trained in or beside the frozen network (paper, Section 3.1).

    A method takes some of the keys.
    """

    registry: ClassVar[Registry[Any]] = METHODS
    selector: ClassVar = "method"

    method: Annotated[str, RegisteredName(METHODS)] = "lora"
    """PEFT method by name"""


class MetaSection(Section):
    """The learned scales (peft.modulator) and their outer loop (paper, Section 3.3).

    null is plain PEFT.
    """

    schedule: Annotated[str, RegisteredName(SCHEDULES)] = "alternating"
    """inner and outer steps take turns, one pass gives both gradients, or one outer
    step per epoch as in the authors' code"""
    order: Literal[1, 2] = 1
    """1: gradient at fixed theta; 2: gradient through one unrolled inner step
    (alternating)"""
    lr: float = Field(default=1e-2, gt=0)
    """learning rate of the outer loop (Adam; with metalora SGD); depends on the data
    (Section 4.2)"""
    decay: Literal["constant", "cosine"] = "constant"
    """schedule of meta.lr: constant, or cosine decay to 0"""
    weight_decay: float = Field(default=5e-4, ge=0)
    """L2 decay of the modulator toward its initial values, with metalora toward 0"""
    init_scale: float = Field(default=1.0, gt=0)
    """scale of every site at the start; 1 starts as plain PEFT"""
    scale_invariant_steps: bool = False
    """take inner steps in function space, so that the speed of a module does not depend
    on its scale"""
    outer_every: int = Field(default=3, ge=1)
    """inner steps before an outer step, the paper's K (metalora: 3 on DOTA, 2 on FUSRS
    and CIFAR100); with the schedule metalora, trial steps within an outer step"""
    ratio: float = Field(default=0.2, gt=0, lt=1)
    """share of the training chips in the meta subset (paper, Table 6)"""
    sampling: Annotated[str, RegisteredName(SAMPLERS)] = "random"
    """sampler that draws the chips of an outer step (paper, Section B.1); the class
    prior of its loss follows"""
    holdout: bool = True
    """hide the current meta subset from the inner loop"""
    prune_below: float | None = Field(default=None, gt=0)
    """remove sites whose scale is smaller at the end; null keeps all sites"""
    resplit_every: int = Field(default=1, ge=1)
    """epochs until the meta subset is drawn again"""
    warmup: float = Field(default=1.0, ge=0)
    """epochs before the first outer step"""
    batch_size: int | None = Field(default=None, ge=1)
    """chips in an outer step; null takes train.batch_size, or with joint the subset's
    share of an epoch"""

    @property
    def unneeded(self) -> dict[str, str]:
        """The keys that the schedule does not have."""
        return SCHEDULES[self.schedule].unneeded


class SemiSection(Section):
    """Training on the chips of data.unlabeled by FixMatch, beside the labeled chips.

    Source: Sohn et al. 2020, arXiv 2001.07685.
    """

    start: float = Field(default=0.3, ge=0, lt=1)
    """share of training after which unlabeled chips are used"""
    ratio: int = Field(default=1, ge=1)
    """unlabeled chips for each labeled chip of a batch; the training chips are among
    them"""
    threshold: float = Field(default=0.8, ge=0, lt=1)
    """probability of the most likely class from which a chip gets it as its
    pseudo-label"""
    weight: float = Field(default=1.0, ge=0)
    """weight of the loss of unlabeled chips"""
    align: Literal["uniform", "labels", "none"] = "uniform"
    """shares of the classes to which probabilities are aligned before the threshold
    (Berthelot et al. 2020): equal, or those of the training chips"""
    teacher: Literal["ema", "student"] = "ema"
    """network that gives the pseudo-labels: the mean of weights of train.ema, or the
    one in training"""
    foreign: float = Field(default=0.05, ge=0, lt=1)
    """share of chips like the validation chips that are farther from all classes than
    any chip with a pseudo-label; 0 accepts all chips"""


class HeadSection(Section):
    """The classifier on top of the feature."""

    kind: Literal["cosine", "linear"] = "cosine"
    """cosine to one weight vector for each class, or a linear map"""
    logit_scale: float = Field(default=25.0, gt=0)
    """factor from cosine to logit (the authors' 25); a linear head has none"""
    init: Literal["class-mean", "k-shot", "linear-probe", "lda", "random"] = (
        "class-mean"
    )
    """initial weights: mean frozen feature of each class, the same over head.shots
    chips, logistic regression or (for linear heads) linear discriminant analysis on
    frozen features, or random"""
    shots: int = Field(default=10, ge=1)
    """chips of each class in the mean of a k-shot initialization"""
    earlier_blocks: BlockIndices = Field(default=[])
    """blocks, counted from 0, whose mean patch token has a head of its own; the logits
    of all heads are averaged"""

    @field_validator("init")
    @classmethod
    def _check_init(cls, init: str, info: ValidationInfo) -> str:
        if init == "lda" and info.data.get("kind") == "cosine":
            words = (
                "class-mean | k-shot | linear-probe | random, or head.kind=linear: a"
                " cosine head has no biases, which lda needs"
            )
            raise PydanticCustomError(WORDS, "{words}", {"words": words})
        return init

    @property
    def unneeded(self) -> dict[str, str]:
        """The scale of a linear head, and shots where no initialization counts them."""
        unneeded = {}
        if self.kind != "cosine":
            unneeded["logit_scale"] = "nothing: a linear head has no scale"
        if self.init != "k-shot":
            unneeded["shots"] = f"nothing: the initialization {self.init} uses no shots"
        return unneeded


class LossSection(ComponentSection):
    """The training loss, the same in both loops (paper, Section 4.2).

    A loss takes some of the keys.
    """

    registry: ClassVar[Registry[Any]] = LOSSES
    selector: ClassVar = "name"

    name: Annotated[str, RegisteredName(LOSSES)] = "logit_adjustment"
    """loss by its name in the literature; all but ce and focal use the class counts"""


class TrainSection(Section):
    """The inner loop on PEFT modules and head."""

    start_bundle: Text | None = None
    """bundle at whose PEFT modules, scales and head the run starts (rsft finetune
    --from); null starts anew"""
    last_blocks: int | None = Field(default=None, ge=0)
    """train the head and the modules and scales of this many last blocks; the others
    stay as in train.start_bundle, and without data.augment their outputs are computed
    once; null trains all"""
    repeat_added: Literal["auto"] | Annotated[int, Field(ge=1, le=1000)] = 1
    """how often an epoch draws each training chip that `rsft data add` brought; auto
    makes them a quarter of each epoch; the class prior is adjusted"""
    until_added_right: bool = False
    """stop after the first epoch that classifies all added chips correctly, then use
    the smallest interpolation step from train.start_bundle at which they stay
    correct"""
    epochs: int = Field(ge=1)
    """passes over the training chips"""
    min_steps: int | None = Field(default=None, ge=1)
    """fewest steps of a run: of few chips, there are more epochs, and warm-up and
    evaluate.every grow with them; null, or train.epochs on the command line, makes
    train.epochs hold"""
    batch_size: int = Field(default=128, ge=1)
    """chips in a batch, over all processes"""
    lr: float = Field(default=1e-2, gt=0)
    """learning rate at batch 128, scaled by sqrt(batch_size / 128); paper, Section
    4.2"""
    head_lr: float | None = Field(default=None, gt=0)
    """learning rate of the head, scaled in the same way; null takes train.lr"""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """optimizer of the inner loop; SGD is the paper's, AdamW takes a much lower rate
    (0.006 in the recipes for own data)"""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """momentum of SGD"""
    weight_decay: float = Field(default=5e-4, ge=0)
    """weight decay, decoupled from the rate with AdamW"""
    decay_all: bool = True
    """decay biases, norms, prompts and scales too, as the authors do; false spares
    them"""
    schedule: Literal["cosine", "constant"] = "cosine"
    """course of the learning rate after the warm-up, step by step"""
    warmup_epochs: float = Field(default=0.0, ge=0)
    """epochs in which the learning rate rises to its full value"""
    sampler: Annotated[str, RegisteredName(SAMPLERS)] = "natural"
    """natural: every chip once per epoch; class-balanced: as many chips, drawn with
    classes alike; square-root: drawn by the root of class frequency; the class prior of
    the loss follows"""
    accumulate_grad_batches: int = Field(default=1, ge=1)
    """batches whose gradients make one step"""
    checkpointing: bool = False
    """keep only the input of each block and recompute the rest: less memory, more
    time"""
    compile: bool = False
    """compile the blocks for the sizes of the batches (torch.compile); the first steps
    take longer"""
    patience: int | None = Field(default=None, ge=1)
    """stop after this many validations without a better macro accuracy; null trains all
    epochs"""
    min_delta: float = Field(default=0.0, ge=0)
    """smallest improvement that counts, as accuracy 0-1"""
    mixup: float | None = Field(default=None, gt=0)
    """alpha of the Beta distribution by which half of the batches mix pairs of chips
    (Zhang et al. 2018); null mixes none"""
    ema: float | None = Field(default=None, ge=0, lt=1)
    """decay of a mean of the weights over the steps, which is validated and stored;
    null stores the last weights, except with data.unlabeled and semi.teacher ema, which
    take 0.99"""
    parts: list[Annotated[str, RegisteredName(PARTS)]] = Field(default=[])
    """further training parts by name, which other packages bring"""
    max_grad_norm: float | None = Field(default=None, gt=0)
    """clip the norm of the gradient to this; null does not clip"""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "fp32"
    """precision of the arithmetic; auto takes the fastest one that the device has
    instructions for; fp16 needs a GPU"""
    allow_slow_precision: bool = False
    """train also in a precision that is more than 4 times slower than fp32 on this
    device"""
    ensemble_size: int = Field(default=1, ge=1, le=100)
    """independent runs whose probabilities are averaged (the paper's 3)"""
    devices: int = Field(default=1, ge=1)
    """processes on one machine, each with a GPU or a share of the cores"""
    nodes: int = Field(default=1, ge=1)
    """machines; torchrun or SLURM starts the processes there"""
    strategy: Literal["auto", "ddp", "fsdp"] = "auto"
    """what each of several processes holds: ddp the model, fsdp a share of its blocks;
    auto is ddp"""
    checkpoint_steps: int | None = Field(default=None, ge=1)
    """steps between checkpoints; null counts only the minutes"""
    checkpoint_minutes: float | None = Field(default=10.0, gt=0)
    """minutes between checkpoints; each epoch ends with one in any case"""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """auto takes a CUDA GPU if there is one; mps is the GPU of an Apple computer"""

    @property
    def unneeded(self) -> dict[str, str]:
        """The momentum without SGD, and keys of a start without a bundle."""
        unneeded = {}
        if self.optimizer != "sgd":
            unneeded["momentum"] = "nothing: AdamW has its own averages"
        if not self.start_bundle:
            unneeded["last_blocks"] = (
                "nothing without train.start_bundle: peft.blocks chooses the blocks"
                " that have modules"
            )
            unneeded["until_added_right"] = "nothing without train.start_bundle"
        return unneeded


class EvaluateSection(Section):
    """The evaluation at the end of a run."""

    split: Literal["auto", "val", "test"] = "auto"
    """auto is test if the data has such a split, else val"""
    every: int = Field(default=1, ge=1)
    """epochs between validations in training; the last epoch always has one"""
    batch_size: int = Field(default=256, ge=1)
    """chips in a forward pass"""
    knn: int = Field(default=5, ge=1)
    """neighbors of the k-NN baselines"""
    baselines: float = Field(default=600.0, ge=0)
    """CPU seconds after which the training of a small network without pre-training, one
    of the baselines, is cut off and gives no result; 0 trains none"""
    tta: Literal["none", "five-crop", "ten-crop", "mirror", "rotations", "turns"] = (
        "none"
    )
    """views of a chip whose probabilities are averaged: crops of a larger image
    (ten-crop adds mirrored crops), mirror (also flipped left to right, which is along
    azimuth where range is vertical; cost x 2), rotations (also rotated by 15 degrees to
    both sides, each with its mirror image; cost x 6), or turns (the eight turns and
    mirror images; cost x 8; not for SAR)"""
    margin: int = Field(default=24, ge=1, le=1024)
    """pixels by which the image of the crops is larger than data.size (24 in LIFT and
    metalora)"""

    @property
    def crop_margin(self) -> int:
        """Pixels that test-time crops add to the network's input; 0 without crops."""
        if self.tta in ("five-crop", "ten-crop"):
            return self.margin
        return 0

    @property
    def unneeded(self) -> dict[str, str]:
        """The margin where no crops are made."""
        if self.crop_margin:
            return {}
        return {"margin": "nothing: without crops (evaluate.tta) there is no margin"}


class TrackSection(Section):
    """Where the numbers of a run go during training, beside its own tables."""

    to: list[Annotated[str, RegisteredName(TRACKERS)]] = Field(default=[])
    """trackers by name, beside metrics.csv and the report"""
    every: int = Field(default=50, ge=1)
    """steps between two points of the training loss"""
    project: Text = "rsft"
    """experiment of MLflow, project of Weights & Biases"""
    uri: Text | None = None
    """MLflow's server or database; null takes MLFLOW_TRACKING_URI, else the SQLite file
    mlflow.db here"""

    @property
    def unneeded(self) -> dict[str, str]:
        """The keys of trackers, if there are none."""
        if self.to:
            return {}
        return dict.fromkeys(("project", "uri"), "nothing: track.to is empty")


class Recipe(Section):
    """One experiment."""

    name: FolderName
    """name of the run's folder; by default that of the recipe file"""
    seed: int = Field(default=0, ge=0, le=2**32 - 1)
    """seed of every random choice"""
    data: DataSection
    backbone: BackboneSection = BackboneSection()
    peft: PeftSection = Field(default_factory=PeftSection)
    meta: MetaSection | None = None
    semi: SemiSection | None = None
    head: HeadSection = HeadSection()
    loss: LossSection = Field(default_factory=LossSection)
    train: TrainSection
    evaluate: EvaluateSection = EvaluateSection()
    track: TrackSection = TrackSection()

    def sections(self) -> Iterator[tuple[str, Section | None]]:
        """Iterate over names and sections; a section that is left out is None."""
        return ((name, getattr(self, name)) for name in SECTIONS)

    def with_keys(self, section: str, **values: Any) -> Self:
        """Return the recipe with other values of keys of a section.

        The values are not validated.
        """
        changed = getattr(self, section).model_copy(update=values)
        return self.model_copy(update={section: changed})

    def flatten(self) -> dict[str, Any]:
        """Return every value of the recipe by dotted key.

        A section that is left out has no keys.
        """
        flat = {key: value for key, value in self if key not in SECTIONS}
        for name, section in self.sections():
            flat |= {f"{name}.{key}": value for key, value in section or ()}
        return flat


SECTIONS: dict[str, type[Section]] = {
    "data": DataSection,
    "backbone": BackboneSection,
    "peft": PeftSection,
    "meta": MetaSection,
    "semi": SemiSection,
    "head": HeadSection,
    "loss": LossSection,
    "train": TrainSection,
    "evaluate": EvaluateSection,
    "track": TrackSection,
}
"""Sections by name, in the order of a recipe."""
