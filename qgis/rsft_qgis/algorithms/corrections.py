"""The algorithms that use a corrected layer: add its labels to a chip store, and fine-tune on them."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from qgis.core import (
    QgsProcessing,
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProcessingMultiStepFeedback,
    QgsProcessingOutputFolder,
    QgsProcessingOutputNumber,
    QgsProcessingParameterEnum,
    QgsProcessingParameterField,
    QgsProcessingParameterFile,
    QgsProcessingParameterFileDestination,
    QgsProcessingParameterString,
    QgsProcessingParameterVectorLayer,
)

from ..command_lines import (
    AS_DECLARED,
    UNITS,
    LabelOptions,
    add_command,
    finetune_command,
    name_parameters,
    table_path,
)
from ..correction_texts import (
    addition_lines,
    read_replay,
    rejection_lines,
    replay_lines,
    replay_page,
    start_bundle,
)
from ..json_lines import Result
from ..process import run_job
from .base import RsftAlgorithm, call_rsft, failure

_LABELS = (
    "<p><b>Corrected layer.</b> A layer that rsft wrote, with a class, <i>not a"
    " target</i> or <i>unsure</i> in the field <i>corrected</i>. Layers of rsft have"
    " this field: toggle editing and choose from its list. Empty rows are left out, and"
    " <i>unsure</i> is never a label. Save the edits first. All rows of the file count,"
    " also if the layer is filtered.</p><p><b>Chip store.</b> The folder with the"
    " training chips of the model (<i>rsft prepare</i>). All labels join it, or none."
    " The same labels again change nothing.</p>"
)


class AddLabels(RsftAlgorithm):
    """Add the labels of a corrected layer to a chip store."""

    LAYER = "LAYER"
    FIELD = "FIELD"
    STORE = "STORE"
    NOT_A_TARGET = "NOT_A_TARGET"
    NEW_CLASSES = "NEW_CLASSES"
    UNIT = "UNIT"
    BANDS = "BANDS"
    SOURCE = "SOURCE"
    COUNTS = {  # noqa: RUF012
        "ADDED": "added",
        "RELABELED": "relabeled",
        "REJECTED": "rejected",
    }
    """Output number -> key in the last line of rsft."""

    def name(self) -> str:
        """Return the second part of rsft:addlabels."""
        return "addlabels"

    def displayName(self) -> str:
        """Return the name in the toolbox."""
        return "Corrected layer to training labels"

    def shortDescription(self) -> str:
        """Return the tooltip in the toolbox."""
        return "Add the corrected classes of a layer to the training chips of a model."

    def shortHelpString(self) -> str:
        """Return the text beside the dialog."""
        return (
            "<p>You corrected classes in a layer of rsft. The chips with their labels"
            f" become training chips.</p>{_LABELS}<p>The log says what became of every"
            " row. To train on them, use <i>Fine-tune from a corrected layer</i>,"
            " which adds labels too.</p>"
        )

    def initAlgorithm(self, configuration: dict[str, Any] | None = None) -> None:
        """Add the parameters and outputs."""
        self.add_labels()
        self.addOutput(QgsProcessingOutputFolder("FOLDER", "Chip store"))
        self._add_counts()

    def add_labels(self) -> None:
        """Add the parameters of the layer and the store."""
        self.add(
            QgsProcessingParameterVectorLayer(
                self.LAYER, "Corrected layer", [QgsProcessing.TypeVector]
            ),
            "A layer in a file that rsft wrote: .gpkg, .geojson, .csv or .parquet.",
        )
        self.add(
            QgsProcessingParameterField(
                self.FIELD,
                "Field with corrected classes",
                "corrected",
                self.LAYER,
                QgsProcessingParameterField.String,
            ),
            "A class, not a target, unsure, or nothing.",
        )
        self.add(
            QgsProcessingParameterFile(
                self.STORE, "Chip store", QgsProcessingParameterFile.Folder
            ),
            "Folder with the training chips of the model. It contains"
            " manifest.parquet.",
        )
        self.add(
            QgsProcessingParameterString(
                self.NOT_A_TARGET, "Class for what is not a target", optional=True
            ),
            "For instance clutter: rows with not a target become labels of this class."
            " If empty, they are left out.",
        )
        self.add(
            QgsProcessingParameterString(
                self.NEW_CLASSES, "New classes", optional=True
            ),
            "Classes that the store does not have yet, separated by commas.",
            advanced=True,
        )
        self.add(
            QgsProcessingParameterEnum(
                self.UNIT,
                "Unit of the chips",
                [AS_DECLARED, *UNITS],
                defaultValue=AS_DECLARED,
                usesStaticStrings=True,
            ),
            "Declare the unit if an error says that the chips have none.",
            advanced=True,
        )
        self.add(
            QgsProcessingParameterString(
                self.BANDS, "Names of the bands", optional=True
            ),
            "If the chips do not name their bands: one name per band in their order,"
            " such as VV,VH.",
            advanced=True,
        )
        self.add(
            QgsProcessingParameterFile(
                self.SOURCE,
                "Folder of the chips",
                QgsProcessingParameterFile.Folder,
                optional=True,
            ),
            "If the layer is of chip files in another folder than its own: a table may"
            " name any file of this computer.",
            advanced=True,
        )

    def fault(self, parameters: dict[str, Any], context: QgsProcessingContext) -> str:
        """Return that the edits of the layer are not saved, or that it is not in a file."""
        layer = self.parameterAsVectorLayer(parameters, self.LAYER, context)
        if layer is None:
            return ""
        if layer.isEditable() and layer.isModified():
            return "Save the edits of the corrected layer first: rsft reads the file."
        try:
            table_path(layer.source())
        except ValueError as error:
            return f"Corrected layer: {error}"
        return ""

    def processAlgorithm(
        self,
        parameters: dict[str, Any],
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback,
    ) -> dict[str, Any]:
        """Add the labels.

        Returns:
            The store and the numbers of chips.

        Raises:
            QgsProcessingException: a parameter is wrong, or rsft failed.
        """
        return {
            "FOLDER": self.store(parameters, context),
            **self.add_to_store(parameters, context, feedback),
        }

    def store(self, parameters: dict[str, Any], context: QgsProcessingContext) -> str:
        """Return the folder of the chip store."""
        return str(self.parameterAsFile(parameters, self.STORE, context))

    def add_to_store(
        self,
        parameters: dict[str, Any],
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback,
    ) -> dict[str, int]:
        """Run `rsft data add` and show what became of the rows.

        Return the numbers of chips.

        Raises:
            QgsProcessingException: a parameter is wrong, or rsft failed.
        """
        layer = self.parameterAsVectorLayer(parameters, self.LAYER, context)
        if layer is None:
            raise failure("The corrected layer cannot be opened.")
        try:
            table = table_path(layer.source())
        except ValueError as error:
            raise failure(f"Corrected layer: {error}") from error
        labels = LabelOptions(
            field=self.parameterAsString(parameters, self.FIELD, context),
            not_a_target=self.parameterAsString(
                parameters, self.NOT_A_TARGET, context
            ).strip(),
            new_classes=self.parameterAsString(parameters, self.NEW_CLASSES, context),
            unit=self.parameterAsEnumString(parameters, self.UNIT, context),
            bands=self.parameterAsString(parameters, self.BANDS, context),
            source=self.parameterAsFile(parameters, self.SOURCE, context),
        )
        command = add_command(
            self.executable(), self.store(parameters, context), table, labels
        )
        run = partial(run_job, canceled="canceled; the chip store has not changed")
        result: Result = call_rsft(run, command, feedback)
        for line in addition_lines(result):
            feedback.pushInfo(name_parameters(line))
        for line in rejection_lines(result):
            feedback.pushWarning(name_parameters(line))
        return {name: result.count(key) for name, key in self.COUNTS.items()}

    def _add_counts(self) -> None:
        for name in self.COUNTS:
            self.addOutput(QgsProcessingOutputNumber(name, f"Chips: {name.lower()}"))


class FineTune(AddLabels):
    """Add the labels of a corrected layer, and train a bundle further."""

    RUNS = "RUNS"
    EXTRA = "EXTRA"

    def name(self) -> str:
        """Return the second part of rsft:finetune."""
        return "finetune"

    def displayName(self) -> str:
        """Return the name in the toolbox."""
        return "Fine-tune from a corrected layer"

    def shortDescription(self) -> str:
        """Return the tooltip in the toolbox."""
        return "Train a model further on the corrected classes of a layer."

    def shortHelpString(self) -> str:
        """Return the text beside the dialog."""
        return (
            "<p>You corrected classes in a layer of rsft. The labels join the training"
            " chips, and a short run starts at the model: it trains the last blocks"
            f" and the classifier head on all chips.</p>{_LABELS}<p><b>Result.</b> A"
            " new bundle; the old one does not change. The page shows, for every"
            " class, how many chips the new bundle gets right that the old one got"
            " wrong (gained), and the other way round (lost). It explains its numbers."
            " Use the new bundle if it has not lost what you need.</p><p>The log shows"
            " both commands. You can run them in a terminal.</p>"
        )

    def initAlgorithm(self, configuration: dict[str, Any] | None = None) -> None:
        """Add the parameters and outputs."""
        self.add_labels()
        self.add_bundle()
        self.add(
            QgsProcessingParameterFile(
                self.RUNS, "Folder of runs", QgsProcessingParameterFile.Folder
            ),
            "The new run gets a folder NAME/NUMBER in it, with the bundle, a report,"
            " and replay.json.",
        )
        self.add(
            QgsProcessingParameterString(
                self.EXTRA, "Further options of rsft finetune", optional=True
            ),
            "As typed in a shell, for instance: train.epochs=10 train.device=cuda",
            advanced=True,
        )
        self.add(
            QgsProcessingParameterFileDestination(
                self.OUTPUT, "Gained and lost chips", "HTML files (*.html)"
            ),
            "Page with the folder of the new bundle and the replay check.",
        )
        self.addOutput(QgsProcessingOutputFolder("NEW_BUNDLE", "New bundle"))
        self._add_counts()

    def processAlgorithm(
        self,
        parameters: dict[str, Any],
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback,
    ) -> dict[str, Any]:
        """Add the labels and train.

        Returns:
            The new bundle, the page, and the numbers of chips.

        Raises:
            QgsProcessingException: a parameter is wrong, or rsft failed.
        """
        steps = QgsProcessingMultiStepFeedback(2, feedback)
        steps.setCurrentStep(0)
        counts = self.add_to_store(parameters, context, steps)
        steps.setCurrentStep(1)
        runs = str(self.parameterAsFile(parameters, self.RUNS, context))
        bundle = self.bundle(parameters, context)
        store = self.store(parameters, context)
        extra = self.parameterAsString(parameters, self.EXTRA, context)
        try:
            command = finetune_command(self.executable(), bundle, store, runs, extra)
        except ValueError as error:
            raise failure(f"Further options of rsft finetune: {error}") from error
        run = partial(
            run_job,
            canceled=(
                "canceled; the labels are in the store, and the old bundle has not"
                " changed"
            ),
        )
        result: Result = call_rsft(run, command, steps)
        new_bundle = str(result.fields.get("bundle", ""))
        replay = read_replay(result)
        old_bundle = start_bundle(result)
        feedback.pushInfo(f"new bundle: {new_bundle}")
        feedback.pushInfo(f"old bundle: {old_bundle or bundle}")
        for line in replay_lines(replay):
            feedback.pushInfo(line)
        page = self.parameterAsFileOutput(parameters, self.OUTPUT, context)
        Path(page).write_text(
            replay_page(replay, new_bundle, old_bundle), encoding="utf-8"
        )
        return {"NEW_BUNDLE": new_bundle, self.OUTPUT: page, **counts}
