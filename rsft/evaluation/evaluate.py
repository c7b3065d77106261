"""Evaluate a bundle on one split of a chip store, and compare it with cheap baselines.

The baselines are a linear probe and k-nearest neighbors on frozen features, and the
latter on small images. The linear probe has the same logit adjustment as the default
loss, so the difference to it is the gain of the trained modules. Plain k-NN has no
answer to a long tail. A small network without pre-training shows what the encoder is
worth.

The representation is measured, too: distances between classes and maps of the chips,
before and after fine-tuning, and how much the PEFT module at each site adds to the
output of the frozen layer.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.manifold import TSNE
from sklearn.preprocessing import normalize
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from rsft import metrics
from rsft.data.chips.folds import HeldOutStore, open_store
from rsft.data.chips.record import describe_groups
from rsft.data.chips.store import MANIFEST, ChipStore
from rsft.data.loading.batches import ChipImages, UnaugmentedLoader
from rsft.errors import RequestError, RsftError
from rsft.evaluation import schema
from rsft.evaluation.baselines import (
    balance_votes,
    flatten_small_images,
    knn_predict,
    linear_probe_predict,
)
from rsft.evaluation.files import (
    EVALUATION_FILE,
    write_predictions,
    write_representation,
)
from rsft.evaluation.schema import ALL_CHIPS, CHIPS_DIR
from rsft.models.bundle.bundle import Bundle
from rsft.models.classifier import (
    Classifier,
    choose_device,
    copy_to_device,
    extract_features,
    join_rows,
    load_classifier,
    load_or_collect_outputs,
    load_unmerged_classifier,
    tta_warning,
    with_tta,
)
from rsft.models.outputs import ClassifierOutputs
from rsft.models.uncertainty.calibrator import (
    COVERAGE,
    OOD_FALSE_POSITIVE_RATE,
    Calibrator,
    ConfidenceEstimate,
)
from rsft.models.uncertainty.statistics import MIN_CHIPS, log_softmax
from rsft.peft import POSITIONS, Site, observe_additions
from rsft.training.small_network import (
    predict_with_small_network,
    small_network_recipe,
    starts_at_random,
)
from rsft.types import GROUPS, Indices, Progress
from rsft.utils.atomic_files import write_text
from rsft.utils.progress import announce

MAX_MAP_CHIPS = 800
"""Largest number of chips on a map. More chips overlap, and t-SNE takes long."""


def tsne(features: NDArray[np.float32], seed: int = 0) -> NDArray[np.float32]:
    """Compute a t-SNE map of features (N, D) by cosine distance.

    Source: van der Maaten and Hinton 2008.

    Returns:
        Positions (N, 2); zeros for fewer than four chips.
    """
    count = len(features)
    if count < 4:
        return np.zeros((count, 2), np.float32)
    model = TSNE(
        perplexity=min(30.0, (count - 1) / 3),
        metric="cosine",
        init="random",
        random_state=seed,
    )
    return np.asarray(model.fit_transform(features), np.float32)


@torch.inference_mode()
def measure_contributions(
    classifier: Classifier, batches: Iterable[tuple[Tensor, Tensor]]
) -> dict[Site, float]:
    """Measure m_p ||f_p(x)|| / ||W_p x|| at every site of an unmerged classifier.

    Norms are over all tokens and features of a chip. At a linear layer, the frozen
    output is W_p x without bias; at a bottleneck, it is the output of the MLP. Methods
    without modules at sites (BitFit, prompts, SSF) have no contributions.

    Args:
        classifier: a classifier whose PEFT modules are not merged.
        batches: inputs (B, P, H, W), and labels, which are ignored.

    Returns:
        Mean ratio over all chips by site, in the order of the forward pass.
    """
    ratios: dict[Site, list[Tensor]] = {}

    def record(site: Site, added: Tensor, frozen: Tensor) -> None:
        ratio = added.flatten(1).norm(dim=1) / frozen.flatten(1).norm(dim=1)
        ratios.setdefault(site, []).append(ratio.float().cpu())

    device = next(classifier.parameters()).device
    with observe_additions(classifier.adapted, record):
        for inputs, _ in batches:
            classifier.features(copy_to_device(inputs, device))
    ordered = sorted(
        ratios, key=lambda site: (site.block, POSITIONS.index(site.position))
    )
    return {site: float(torch.cat(ratios[site]).mean()) for site in ordered}


COVERAGE_TARGETS = (0.8, 0.9, 0.95)
"""Target coverages of the measured class sets."""


def estimate_by_scene(
    calibrator: Calibrator,
    outputs: ClassifierOutputs,
    scenes: NDArray[np.str_],
    coverage: float = COVERAGE,
) -> ConfidenceEstimate:
    """Estimate the confidence of predictions as `rsft predict` does.

    Sets are widened for every scene.

    Args:
        calibrator: calibrator of the bundle.
        outputs: logits and features of the N chips.
        scenes: (N,) group of each chip, such as its scene; "" for a chip without a
            group.
        coverage: share of the chips of each class for which the set should contain the
            true class.

    Returns:
        Probabilities, sets and distances. The sets of a scene with few chips are not
        widened.
    """
    estimate = calibrator.apply(*outputs, coverage=coverage)
    for scene in np.unique(scenes):
        rows = scenes == scene
        widened = calibrator.widened_sets(
            estimate.probabilities[rows], estimate.ood[rows], coverage
        )
        if widened is not None:
            estimate.sets[rows] = widened
    return estimate


def measure_calibration(
    calibrator: Calibrator,
    outputs: ClassifierOutputs,
    labels: NDArray[np.integer],
    groups: Mapping[str, Sequence[int]],
    scenes: NDArray[np.str_],
) -> schema.CalibrationReport:
    """Measure a bundle's calibration on labeled chips.

    Args:
        calibrator: calibrator of the bundle.
        outputs: logits and features of the N chips.
        labels: (N,) class indices.
        groups: class indices of head, medium and tail.
        scenes: (N,) group of each chip, such as its scene; "" for a chip without a
            group.

    Returns:
        The entry "confidence" of metrics.json.
    """
    estimates = {
        target: estimate_by_scene(calibrator, outputs, scenes, target)
        for target in COVERAGE_TARGETS
    }
    estimate = estimates[COVERAGE]
    is_ood = estimate.ood > 1
    names, counts = np.unique(scenes[scenes != ""], return_counts=True)
    members = {"all": np.ones(len(labels), bool)}
    members |= {
        name: np.isin(labels, list(groups[name])) for name in GROUPS if name in groups
    }

    scene_reports = []
    for name in names[np.argsort(-counts, kind="stable")]:
        rows = scenes == name
        scene = ConfidenceEstimate(*(x[rows] for x in estimate))
        truth = labels[rows]
        scene_report = schema.SceneCoverage(
            group=str(name),
            accuracy=float((scene.probabilities.argmax(axis=1) == truth).mean()),
            confidence=float(scene.probabilities.max(axis=1).mean()),
            coverage=metrics.measure_coverage(scene.sets, truth),
            ood_share=float((scene.ood > 1).mean()),
            shifted=list(calibrator.test_shift(scene.probabilities, scene.ood).shifted),
            widened=len(truth) >= MIN_CHIPS,
        )
        scene_reports.append(scene_report)
    return schema.CalibrationReport(
        temperature=calibrator.temperature,
        ece_uncalibrated=metrics.expected_calibration_error(
            np.exp(log_softmax(outputs.logits)), labels
        ),
        fitted_on_these_chips=calibrator.was_fitted_on(outputs.logits, labels),
        coverage=[
            schema.CoverageLevel(
                target=target,
                groups=metrics.coverage_by_group(level.sets, labels, groups),
                by_class=metrics.coverage_by_class(level.sets, labels),
                classes_without_coverage=calibrator.classes_without_coverage(target),
            )
            for target, level in estimates.items()
        ],
        ood_false_positive_rate=OOD_FALSE_POSITIVE_RATE,
        ood_share={
            name: float(is_ood[mask].mean()) if mask.any() else None
            for name, mask in members.items()
        },
        scenes=scene_reports,
        validation_chips=len(calibrator.labels),
    )


CONTRIBUTION_CHIPS = 256
"""Number of validation chips for the contributions of the sites. More chips hardly
change the means."""


def evaluate(
    bundle_dir: Path,
    root: Path,
    output_dir: Path,
    *,
    split: str | None = None,
    baselines: bool = True,
    representation: bool = True,
    device: str = "auto",
    progress: Progress | None = None,
) -> schema.Evaluation:
    """Classify the chips of a split, and write the results to a folder.

    The files are metrics.json and predictions.parquet; with `representation` also
    embedding.parquet and, if the PEFT method has modules at sites, contributions.csv.

    Args:
        bundle_dir: folder of the bundle of a run.
        root: a chip store with the bundle's classes; with the split "all" also class
            folders, which are copied to a chip store in `output_dir`.
        output_dir: folder for the files.
        split: a split of the store. None takes the split of the recipe; its default is
            test, or val without test chips. A run on a fold (`data.fold`) is evaluated
            on the chips of the fold. "all" is for chips of another source: each one is
            a test chip, and the baselines and the search for leaks take the chips of
            the bundle's training.
        baselines: also evaluate a linear probe and k-nearest neighbors on frozen
            features, k-nearest neighbors on pixels of the training split, and, unless
            `evaluate.baselines` is 0, a small network without pre-training.
        representation: also measure distances between classes and the contribution of
            each site, and map the features before and after fine-tuning.
        device: "auto", "cpu" or "cuda".
        progress: called while chips are read and classified.

    Returns:
        The content of metrics.json.

    Raises:
        RequestError: the classes differ, or the split has no chips.

    Example:
        >>> import rsft
        >>> run, data, out = map(Path, ("runs/ships", "data/ships", "evaluation"))
        >>> metrics = rsft.evaluate(run, data, out, split="val")
        >>> metrics.count
        27
    """
    bundle = Bundle.load(bundle_dir)
    store, split, training = _open_split(bundle, root, split, output_dir, progress)
    # first, so that its memory is free for the outputs
    leaks = count_leaks(store, training, split)
    chips = _load_chips(store, split, bundle, progress)
    announce(progress, f"weights of {bundle.recipe.backbone.name}")
    outputs = _classify(bundle, store, split, device, progress)
    if bundle.calibrator:
        estimate = estimate_by_scene(bundle.calibrator, outputs, _scenes(chips))
    else:
        estimate = None
    if estimate:
        probabilities = estimate.probabilities
    else:
        probabilities = np.exp(log_softmax(outputs.logits))
    title = bundle.recipe.peft.title
    methods = {title if bundle.recipe.meta is None else f"Meta{title}": probabilities}
    features = {}
    if baselines or representation:
        announce(progress, "contributions of the sites")
        unmerged = load_unmerged_classifier(bundle, device)
        # up to `CONTRIBUTION_CHIPS` validation chips; evaluated chips if the store has
        # no validation chips
        if training.split("val").empty:
            sample = chips
        else:
            sample = _load_chips(training, "val", bundle, progress)
        indices = np.linspace(
            0, len(sample) - 1, min(CONTRIBUTION_CHIPS, len(sample))
        ).astype(int)
        batches = UnaugmentedLoader(
            sample, indices, min(bundle.recipe.evaluate.batch_size, CONTRIBUTION_CHIPS)
        )
        if representation:
            contributions = measure_contributions(unmerged, batches)
        else:
            contributions = {}
        vit = cast(VisionTransformer, unmerged.adapted.detach())
        features = {
            "frozen": compute_frozen_features(vit, chips, bundle, progress),
            "adapted": outputs.features,
        }
    if baselines and not training.split("train").empty:
        train = _load_chips(training, "train", bundle, progress)
        announce(progress, "baselines")
        methods |= _baselines(bundle, vit, train, chips, features["frozen"], progress)

    announce(progress, "measures and intervals")
    result = _measure(
        bundle,
        str(root),
        split,
        chips,
        outputs,
        methods,
        features if representation else {},
        leaks,
    )
    if isinstance(store, HeldOutStore):
        first = int(leaks.chips > 0)  # the note about leaks stays the first one
        notes = [
            *result.notes[:first],
            _describe_held_out(store, training),
            *result.notes[first:],
        ]
        result = result.model_copy(update={"notes": notes})
    elif baselines and not store.split("train").empty:
        result = _add_small_network(
            result, bundle, store, chips, probabilities.argmax(1), device, progress
        )
    write_text(output_dir / EVALUATION_FILE, json.dumps(result.to_dict(), indent=1))
    write_predictions(output_dir, chips.table, bundle.classes, probabilities, estimate)
    if representation:
        announce(progress, "map of the features")
        # at most `MAX_MAP_CHIPS`, evenly spaced in the table of chips
        indices = np.linspace(0, len(chips) - 1, min(MAX_MAP_CHIPS, len(chips))).astype(
            int
        )
        table = (
            chips.table[["name", "path", "class"]].iloc[indices].reset_index(drop=True)
        )
        for stage, values in features.items():
            table[[f"{stage}_x", f"{stage}_y"]] = tsne(values[indices])
        write_representation(output_dir, table, contributions)
    return result


def _open_split(
    bundle: Bundle,
    root: Path,
    split: str | None,
    output_dir: Path,
    progress: Progress | None,
) -> tuple[ChipStore, str, ChipStore]:
    """Open a chip store, and select the split to evaluate, see `evaluate`.

    Returns:
        The store, the split, and the store with the chips of the training: the same,
            unless all chips are evaluated.
    """
    data = bundle.recipe.data
    if split is None and root.resolve() == Path(data.root).resolve():
        fold = data.fold
    else:
        fold = None
    store = (
        _open_held_out(root, output_dir, progress)
        if split == ALL_CHIPS
        else open_store(root, fold)
    )
    if not set(store.classes) <= set(bundle.classes):
        raise RequestError(
            f"the data has the classes {', '.join(store.classes)}; the bundle has"
            f" {', '.join(bundle.classes)}",
            root,
            "evaluate on data that was prepared with the same classes",
        )
    if split == ALL_CHIPS:
        training = store
        # the chips are elsewhere, or no longer those of the bundle
        with suppress(RsftError):
            training = open_store(Path(data.root), data.fold)
        return (
            store,
            "test",
            training if set(training.classes) <= set(bundle.classes) else store,
        )
    split = "val" if fold else split or bundle.recipe.evaluate.split
    if split == "auto":
        split = "val" if store.split("test").empty else "test"
    if store.split(split).empty:
        raise RequestError(
            f"the split {split} has no chips",
            store.root,
            (
                "choose another split with --split, or evaluate the chips of all splits"
                " with --all"
            ),
        )
    return store, split, store


def _open_held_out(
    root: Path, output_dir: Path, progress: Progress | None
) -> HeldOutStore:
    """Open a chip store or class folders in which every chip is a test chip."""
    if not (root / MANIFEST).is_file():
        from rsft.data.prepare.image_folder import prepare_folder

        options: Any = {
            "val": 0,
            "one_class": True,
            "overwrite": True,
            "progress": progress,
        }
        try:
            root = prepare_folder(root, output_dir / CHIPS_DIR, **options).root
        except RsftError as error:
            own = f"or evaluate a chip store: rsft prepare folder {root} --root STORE"
            error.hint = "; ".join(filter(None, (error.hint, own)))
            raise
    return HeldOutStore.open(root)


def _describe_held_out(store: ChipStore, training: ChipStore) -> str:
    if training is store:
        return (
            "every chip is a test chip; without the chips of the training, no"
            " baselines, and leaks are not counted"
        )
    return (
        "every chip is a test chip; baselines and leaks are those of the chips of the"
        f" training in {training.root}"
    )


LEAK_KEYS = {"identical": "sha256", "group": "group_key", "vessel": "mmsi"}
"""Columns of a manifest whose values two splits must not share, by the kind of leak."""

_SEEN_SPLITS = {"test": ("train", "val"), "val": ("train",), "train": ()}


def count_leaks(store: ChipStore, training: ChipStore, split: str) -> schema.Leaks:
    """Count the chips of a split that share content, group or vessel with others.

    The others are chips of the splits that a model has seen.

    Args:
        store: the evaluated chips.
        training: the chips of the training, often the same store.
        split: the evaluated split.

    Returns:
        The entry "leaks" of metrics.json.
    """
    manifest = _hash_leak_keys(store)
    if training is not store:
        others = _hash_leak_keys(training)
        manifest = pd.concat(
            [manifest[manifest["split"] == split], others[others["split"] != split]]
        )
    is_evaluated = manifest["split"] == split
    is_seen = manifest["split"].isin(_SEEN_SPLITS[split])
    keys = manifest.drop(columns="split")
    shared = keys.apply(
        lambda hashes: is_evaluated & (hashes > 0) & np.isin(hashes, hashes[is_seen])
    )
    counts = {name: int(shared[name].sum()) for name in LEAK_KEYS}
    return schema.Leaks(chips=int(shared.any(axis=1).sum()), **counts)


def _hash_leak_keys(store: ChipStore) -> pd.DataFrame:
    """Read the splits and keys of all chips, by kind of leak.

    Keys are 64-bit hashes, and 0 for no key.

    Hashes that are made part by part need less memory than texts.
    """

    def hash_part(part: pd.DataFrame) -> pd.DataFrame:
        texts = part.astype(object).fillna("")
        hashes = {
            name: pd.util.hash_array(texts[x].to_numpy()) * (texts[x] != "")
            for name, x in LEAK_KEYS.items()
        }
        return part[["split"]].assign(**hashes)

    return pd.concat(map(hash_part, store.read_parts(["split", *LEAK_KEYS.values()])))


def _load_chips(
    store: ChipStore, split: str, bundle: Bundle, progress: Progress | None
) -> ChipImages:
    return ChipImages(
        store.root, store.split(split), bundle.classes, bundle.contract, progress
    )


def _classify(
    bundle: Bundle, store: ChipStore, split: str, device: str, progress: Progress | None
) -> ClassifierOutputs:
    """Compute logits and features of a split, averaged over test-time views."""
    model, contract = with_tta(
        load_classifier(bundle, device), bundle.contract, bundle.recipe.evaluate
    )
    chips = _load_chips(store, split, replace(bundle, contract=contract), progress)
    return load_or_collect_outputs(
        bundle,
        model,
        chips.batches(bundle.recipe.evaluate.batch_size),
        chips.cache_file,
        contract,
        choose_device(device).type,
        progress and (lambda done: progress(done, len(chips), "classifying")),
    )


def _measure(
    bundle: Bundle,
    data: str,
    split: str,
    chips: ChipImages,
    outputs: ClassifierOutputs,
    methods: Mapping[str, NDArray[np.float64]],
    features: Mapping[str, NDArray[np.float32]],
    leaks: schema.Leaks,
) -> schema.Evaluation:
    """Compute all numbers of metrics.json from the probabilities of each method."""
    classes = bundle.classes
    groups = bundle.group_indices
    labels = chips.labels
    summaries = {
        name: metrics.summarize_accuracy(p, labels, len(classes), groups)
        for name, p in methods.items()
    }
    predicted, *others = (probabilities.argmax(1) for probabilities in methods.values())
    paired = [
        metrics.compare_predictions(predicted, other, labels, groups)
        for other in others
    ]
    calibrator = bundle.calibrator
    scenes = _scenes(chips)
    if calibrator:
        calibration = measure_calibration(calibrator, outputs, labels, groups, scenes)
    else:
        calibration = None
    absent = [classes[index] for index in next(iter(summaries.values())).absent]
    kinds = {
        "identical files": leaks.identical,
        "of the same group": leaks.group,
        "of the same vessel": leaks.vessel,
    }
    shared = ", ".join(f"{count:,} {kind}" for kind, count in kinds.items() if count)
    seen = " and ".join(_SEEN_SPLITS[split])
    message = (
        f"* {leaks.chips:,} of {len(chips):,} {split} chips leak from {seen}"
        f" ({shared}): the accuracy is too high"
    )
    notes = [message] if leaks.chips else []
    notes += (
        [
            f"no chips in {split}, so left out of all means over classes:"
            f" {', '.join(absent)}"
        ]
        if absent
        else []
    )
    notes.append(
        describe_groups(
            bundle.groups, dict(zip(classes, bundle.train_counts, strict=True))
        )
    )
    if len(bundle.members) > 1:
        notes.append(
            f"probabilities are means over {len(bundle.members)} runs; contributions"
            " are of the first run"
        )
    if bundle.recipe.evaluate.tta != "none":
        notes.append(
            "probabilities are means over test-time views"
            f" ({bundle.recipe.evaluate.tta}), as in rsft predict"
        )
    warning = tta_warning(bundle.recipe, bundle.contract.units)
    if warning:
        notes.append(warning)
    if calibrator is None or calibration is None:
        notes.append(
            "the bundle has no calibration: probabilities are not calibrated and class"
            " sets are missing"
        )
    else:
        if calibration.fitted_on_these_chips:
            notes.append(
                f"the calibration was fitted on these chips of {split}, so the measured"
                " coverage is too good"
            )
        notes += [calibrator.promise(), *calibrator.notes(classes)]
    return schema.Evaluation(
        data=data,
        split=split,
        classes=classes,
        groups=groups,
        methods=summaries,
        confusion=metrics.confusion_matrix(labels, predicted, len(classes)).tolist(),
        train_counts=bundle.train_counts,
        count=len(chips),
        confidence=calibration,
        distances={
            stage: metrics.distance_by_group(
                metrics.class_mean_distances(values, labels, len(classes)), groups
            )
            for stage, values in features.items()
        },
        notes=notes,
        leaks=leaks,
        differences={
            name: x.differences for name, x in zip([*methods][1:], paired, strict=True)
        },
    )


def _scenes(chips: ChipImages) -> NDArray[np.str_]:
    """Return the group of each chip, such as its scene; "" without a group."""
    return chips.table["group_key"].fillna("").to_numpy(str)


def _baselines(
    bundle: Bundle,
    vit: VisionTransformer,
    train: ChipImages,
    chips: ChipImages,
    test_x: NDArray[np.float32],
    progress: Progress | None,
) -> dict[str, NDArray[np.float64]]:
    """Compute the probabilities of all baselines.

    `test_x` are the frozen features of `chips`.
    """
    k = bundle.recipe.evaluate.knn
    n_classes = len(bundle.classes)
    train_x = normalize(
        compute_frozen_features(vit, train, bundle, progress), copy=False
    )
    probe = linear_probe_predict(train_x, train.labels, test_x, n_classes)
    votes = knn_predict(train_x, train.labels, test_x, n_classes, k)
    del train_x  # pixels need as much memory
    train_pixels = flatten_small_images(map(train.image, range(len(train))), len(train))
    pixels = flatten_small_images(map(chips.image, range(len(chips))), len(chips))
    return {
        schema.LINEAR_PROBE: probe,
        schema.BALANCED_KNN: balance_votes(votes, train.labels),
        schema.PLAIN_KNN: votes,
        schema.PIXEL_KNN: knn_predict(
            train_pixels, train.labels, pixels, n_classes, k, "euclidean"
        ),
    }


def _add_small_network(
    evaluation: schema.Evaluation,
    bundle: Bundle,
    store: ChipStore,
    chips: ChipImages,
    predicted: Indices,
    device: str,
    progress: Progress | None,
) -> schema.Evaluation:
    """Add the small network without pre-training to the baselines.

    Its training must not fail an evaluation.

    It is not added if the recipe gives it no time, or describes such a network itself.
    """
    section = bundle.recipe.evaluate
    train = bundle.recipe.train.model_copy(update={"device": device})
    recipe = small_network_recipe(
        bundle.recipe.model_copy(update={"train": train}), store
    )
    if not section.baselines or starts_at_random(bundle.recipe.backbone):
        return evaluation
    try:
        folder = chips.cache_file.parent
        predictions = predict_with_small_network(
            recipe, evaluation.split, section.baselines, folder, progress
        )
    except RsftError as error:
        note = ": ".join(
            filter(
                None,
                (
                    f"the {schema.SMALL_NETWORK} was not trained",
                    error.message,
                    error.location,
                ),
            )
        )
        return evaluation.model_copy(update={"notes": [*evaluation.notes, note]})
    probabilities = np.zeros((len(chips), len(bundle.classes)))
    probabilities[:, [bundle.classes.index(name) for name in store.classes]] = (
        predictions
    )
    labels = chips.labels
    groups = bundle.group_indices
    summary = metrics.summarize_accuracy(
        probabilities, labels, len(bundle.classes), groups
    )
    paired = metrics.compare_predictions(
        predicted, probabilities.argmax(1), labels, groups
    )
    comparison = schema.SmallNetwork(
        epochs=recipe.train.epochs, macro_difference=paired.differences["macro"]
    )
    (method, run), *others = evaluation.methods.items()
    methods = {method: run, schema.SMALL_NETWORK: summary, **dict(others)}
    differences = {schema.SMALL_NETWORK: paired.differences, **evaluation.differences}
    return evaluation.model_copy(
        update={
            "methods": methods,
            "small_network": comparison,
            "differences": differences,
        }
    )


@torch.inference_mode()
def compute_frozen_features(
    vit: VisionTransformer,
    chips: ChipImages,
    bundle: Bundle,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """Compute pooled features (N, D) of the frozen backbone, float32.

    Args:
        vit: the backbone without PEFT modules.
        chips: the N chips.
        bundle: its recipe selects the pooling and the batch size.
        progress: called after every batch.
    """
    recipe = bundle.recipe
    device = next(vit.parameters()).device
    (rows,) = join_rows(
        lambda inputs: [
            extract_features(vit, copy_to_device(inputs, device), recipe.backbone.pool)
            .float()
            .cpu()
        ],
        chips.batches(recipe.evaluate.batch_size),
        progress and (lambda done: progress(done, len(chips), "frozen features")),
    )
    features: NDArray[np.float32] = rows.numpy()
    return features
