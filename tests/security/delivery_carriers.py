"""Deliveries of a stranger: tables, labels, chip stores, archives and products that
name a secret or a server, and all deliveries by kind.

Each builder fills one folder, as those of `carriers`.
"""

from __future__ import annotations

import io
import json
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from rsft.scenes.fingerprint import scene_fingerprint
from tests.helpers.sentinel1 import write_product
from tests.security.bundle_carriers import BUNDLES, PAGES, RECIPES, RUNS
from tests.security.carriers import WORD, Carrier, Place, honest_image, simple_vrt
from tests.security.private_files import (
    CLASSES,
    link,
    link_file,
    private_chip,
    private_store,
)

# tables with labels for `rsft data add`

Target = Callable[[Place], str]
TARGETS: dict[str, Target] = {
    "a_file": lambda place: str(private_chip(place)),
    "a_file_above": lambda place: "../far/chip.png",
    "a_server": lambda place: place.url,
    "a_network_name": lambda place: f"/vsicurl/{place.url}",
    "a_directory_of_tiff": lambda place: f"GTIFF_DIR:1:{place.image}",
    "a_stream": lambda place: f"/vsisubfile/0_900000,{place.image}",
    "an_archive_of_a_server": lambda place: f"/vsizip//vsicurl/{place.url}.zip/a.tif",
    "a_link": lambda place: str(link(place.folder / "chip.png", private_chip(place))),
}
"""What a table can name, by the end of the name of its carrier."""
TABLES: dict[str, Carrier] = {}
LISTS: dict[str, Carrier] = {}


def page_table(target: Target) -> Carrier:
    """Return the table of a review page whose chips are somewhere else."""
    return lambda place: place.write(
        "corrected.csv", f'path,class,verdict\n"{target(place)}",flat,class\n'
    )


def list_of_chips(target: Target) -> Carrier:
    """Return a table of labeled chips, for `rsft prepare folder`."""
    return lambda place: place.write(
        "chips.csv", f'path,class\n"{target(place)}",flat\n'
    )


TABLES |= {f"table_of_{name}": page_table(target) for name, target in TARGETS.items()}
LISTS |= {f"list_of_{name}": list_of_chips(target) for name, target in TARGETS.items()}


def predictions(place: Place, path: str, cut: dict[str, Any], scene: str = "a.tif"):
    """Return metadata and rows of predictions; `cut` is the record of their scene."""
    row = {"chip": "a_1", "scene": scene, "path": path, "class": "flat"}
    row |= {"corrected": "steep", "row": 200.0, "col": 200.0, "probability": 0.4}
    row |= {"p_flat": 0.4, "p_slanted": 0.3, "p_steep": 0.3}
    record = {"scene": scene, "fingerprint": None, "unit": None, "side": 32}
    record |= {"margin": 0, "scale": [1.0, 1.0], "tiles": False}
    index = json.loads((place.honest / "runs/bars/001/bundle/bundle.json").read_text())
    metadata = {
        "rsft_version": "0.2.0",
        "bundle_sha256": index["sha256"],
        "recipe": "bars",
        "created": "2026-12-01T17:47:21+00:00",
        "classes": CLASSES,
        "train_counts": dict.fromkeys(CLASSES, 9),
        "bands": ["gray"],
        "scenes": [cut["path"]],
        "cuts": [record | cut],
        "request": {"declaration": {"unit": None, "bands": None}},
        "notes": [],
    }
    return metadata, row


def predicted(target: Target, as_chip: bool = False) -> Carrier:
    """Return predictions as GeoJSON whose scene, or chip, is somewhere else."""

    def build(place: Place) -> Path:
        name = target(place)
        scene = Path(name).name
        path = name if as_chip else "a_1.tif"
        if as_chip:
            scene = "b.tif"
        metadata, row = predictions(place, path, {"path": name}, scene)
        if as_chip:
            del row["corrected"]  # `rsft data suggest` shows rows without labels
        feature = {"type": "Feature", "geometry": None, "properties": row}
        content = {"type": "FeatureCollection", "features": [feature]}
        return place.write("a.geojson", json.dumps(content | {"metadata": metadata}))

    return build


TABLES |= {
    "predictions_of_a_scene": predicted(lambda place: str(place.image)),
    "predictions_of_a_server": predicted(TARGETS["a_server"]),
    "predictions_of_a_network_name": predicted(TARGETS["a_network_name"]),
    "predictions_of_an_archive": predicted(TARGETS["an_archive_of_a_server"]),
    "predictions_of_a_directory": predicted(TARGETS["a_directory_of_tiff"]),
    "predictions_of_a_linked_scene": predicted(
        lambda place: str(link(place.folder / "a.tif", place.image))
    ),
    "predictions_of_a_chip": predicted(TARGETS["a_file"], as_chip=True),
    "predictions_of_a_chip_on_a_server": predicted(TARGETS["a_server"], as_chip=True),
}


def registered(build: Carrier, kind: dict[str, Carrier]) -> Carrier:
    kind[build.__name__] = build
    return build


def _table_as_parquet(place: Place) -> Path:
    metadata, row = predictions(place, "a_1.tif", {"path": str(place.image)})
    table = pa.table({name: [value] for name, value in row.items()})
    table = table.replace_schema_metadata({b"rsft": json.dumps(metadata).encode()})
    pq.write_table(table, place.folder / "a.parquet")
    return place.folder / "a.parquet"


def _table_that_is_a_link(place: Place) -> Path:
    private = place.secret.with_name("private.parquet")
    if not private.exists():
        pd.DataFrame({"path": ["a"], "corrected": [WORD], "row": [3.0]}).to_parquet(
            private
        )
    return link(place.folder / "a.parquet", private)


def _table_of_a_private_table(place: Place) -> Path:
    """The column `table` names predictions elsewhere, which name a private scene."""
    private = place.secret.with_name("predictions.geojson")
    if not private.exists():
        cut = {"path": str(place.image)}
        cut["fingerprint"] = scene_fingerprint_of(place.image)
        metadata, row = predictions(place, "a_1.tif", cut, place.image.name)
        feature = {"type": "Feature", "geometry": None, "properties": row}
        content = {"type": "FeatureCollection", "features": [feature]}
        private.write_text(json.dumps(content | {"metadata": metadata}))
    return place.write(
        "corrected.csv",
        "path,class,verdict,chip,scene,row,col,table\n"
        f"a_1.tif,flat,class,a_1,{place.image.name},200.0,200.0,{private}\n",
    )


def scene_fingerprint_of(path: Path) -> str | None:
    from rsft.data.imagery.scene_uri import SceneUri

    return scene_fingerprint(SceneUri(str(path)))


TABLES |= {
    "table_as_parquet": _table_as_parquet,
    "table_of_a_private_table": _table_of_a_private_table,
}


# labels and feeds


def labels(name: str, content: Callable[[Place], str]) -> Carrier:
    return lambda place: place.write(name, content(place))


def _coco(place: Place, name: str) -> str:
    image = {"id": 1, "file_name": name, "coco_url": place.url, "width": 500}
    boxes = [
        {"id": n, "image_id": 1, "category_id": 1, "bbox": [90 * n, 90, 20, 20]}
        for n in range(4)
    ]
    categories = [{"id": 1, "name": "flat"}]
    content = {"images": [image | {"height": 600}], "annotations": boxes}
    return json.dumps(content | {"categories": categories})


LABELS: dict[str, Carrier] = {
    "coco_of_a_file": labels("a.json", lambda x: _coco(x, str(x.image))),
    "coco_of_a_server": labels("a.json", lambda x: _coco(x, x.url)),
    "voc_of_an_entity": labels(
        "a.xml",
        lambda place: (
            f"<!DOCTYPE a [<!ENTITY s SYSTEM 'file://{place.secret}'>]><annotation>"
            "<filename>scene.tif</filename><object><name>&s;</name><bndbox><xmin>30"
            "</xmin><ymin>30</ymin><xmax>60</xmax><ymax>60</ymax></bndbox></object>"
            "</annotation>"
        ),
    ),
    "label_studio_of_a_server": labels(
        "a.json",
        lambda place: json.dumps(
            [{"data": {"image": place.url}, "annotations": [{"result": []}]}]
        ),
    ),
}


def _names_of_classes(place: Place) -> Path:
    """YOLO labels take the names of their classes from a file that is a link."""
    link(place.folder / "classes.txt", place.secret.with_name("words.txt"))
    place.secret.with_name("words.txt").write_text(f"{WORD}\n{WORD}2\n")
    return place.write("scene.txt", "0 0.5 0.5 0.1 0.1\n0 0.3 0.3 0.1 0.1\n")


LABELS["names_of_classes"] = _names_of_classes


def _feed_in_an_archive(place: Place) -> Path:
    """The feed in the archive is a link to a private feed."""
    info = zipfile.ZipInfo("ais.csv")
    info.create_system = 3
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(place.folder / "a.zip", "w") as file:
        file.writestr(info, str(private_feed(place)))
    return place.folder / "a.zip"


def private_feed(place: Place) -> Path:
    path = place.secret.with_name("feed.csv")
    text = (place.honest / "ais.csv").read_text().replace("SOG", "SOG,VesselName")
    path.write_text(text.replace("0.0,0.0", f"0.0,{WORD},0.0"))
    return path


def _feed_that_is_a_link(place: Place) -> Path:
    folder = place.folder / "feeds"
    folder.mkdir()
    link(folder / "a.csv", private_feed(place))
    return folder


FEEDS: dict[str, Carrier] = {
    "feed_in_an_archive": _feed_in_an_archive,
    "feed_that_is_a_link": _feed_that_is_a_link,
}


# chip stores


def store(change: Callable[[Path, Place], None]) -> Carrier:
    """Return a copy of the honest chip store, whose files are changed."""

    def build(place: Place) -> Path:
        shutil.copytree(place.honest / "store", place.folder / "store")
        change(place.folder / "store", place)
        return place.folder / "store"

    return build


def _name_chip(target: Target):
    def change(folder: Path, place: Place) -> None:
        table = pd.read_parquet(folder / "manifest.parquet")
        table.loc[0, ["path", "sha256"]] = target(place), None
        table.to_parquet(folder / "manifest.parquet")

    return change


def _link_chip(folder: Path, place: Place) -> None:
    table = pd.read_parquet(folder / "manifest.parquet")
    path = folder / table.loc[0, "path"]
    path.unlink()
    link(path, private_chip(place))
    table.loc[0, "sha256"] = None
    table.to_parquet(folder / "manifest.parquet")


def _link_chips(folder: Path, place: Place) -> None:
    """All chips and the manifest are those of the private store."""
    shutil.rmtree(folder / "chips")
    link(folder / "chips", private_store(place) / "chips")
    link_file("manifest.parquet", lambda x: private_store(x) / "manifest.parquet")(
        folder, place
    )


def _pending(folder: Path, place: Place) -> None:
    path = folder / "dataset.json"
    content = json.loads(path.read_text())
    pending = {"manifest_sha256": "0" * 64, "dataset.json": content}
    pending["files"] = ["../../far/secret", str(place.secret), "chips/../../x"]
    path.write_text(json.dumps(content | {"pending": pending}))


STORES: dict[str, Carrier] = {
    f"store_of_{name}": store(_name_chip(target))
    for name, target in TARGETS.items()
    if name != "a_link"
}
STORES |= {
    "store_with_a_linked_chip": store(_link_chip),
    "store_with_linked_chips": store(_link_chips),
    "store_with_a_linked_manifest": store(
        link_file("manifest.parquet", lambda x: private_store(x) / "manifest.parquet")
    ),
    "store_with_a_linked_description": store(
        link_file("dataset.json", lambda x: x.secret)
    ),
    "store_with_a_linked_audit": store(link_file("audit.json", lambda x: x.secret)),
    "store_with_linked_rejections": store(
        link_file("rejected.csv", lambda x: x.secret)
    ),
    "store_with_a_pending_change": store(_pending),
}


# products and archives


def _safe(change: Callable[[Path, Place], None]) -> Carrier:
    """Return a product of Sentinel-1 whose files are changed."""

    def build(place: Place) -> Path:
        rng = np.random.default_rng(0)
        pixels = rng.integers(1, 255, (600, 500)).astype(np.uint16)
        folder = write_product(place.folder, {"vv": pixels})
        change(folder, place)
        return folder

    return build


def _link_measurement(folder: Path, place: Place) -> None:
    (measurement,) = (folder / "measurement").iterdir()
    measurement.unlink()
    link(measurement, place.image)


def _replace_measurement(folder: Path, place: Place) -> None:
    (measurement,) = (folder / "measurement").iterdir()
    measurement.write_text(simple_vrt(str(place.image)))


def _entity(folder: Path, place: Place) -> None:
    for path in folder.glob("annotation/*.xml"):
        text = path.read_text().partition("?>")[2] or path.read_text()
        doctype = f"<!DOCTYPE product [<!ENTITY s SYSTEM 'file://{place.secret}'>]>"
        path.write_text(
            f"{doctype}{text}".replace("</product>", "<a>&s;</a></product>")
        )


def _link_annotations(folder: Path, place: Place) -> None:
    shutil.rmtree(folder / "annotation")
    link(folder / "annotation", place.secret.parent)


def _tar(kind: bytes, name: str, target: Callable[[Place], str]) -> Carrier:
    """Return a .tar with a link and a scene that goes through it."""

    def build(place: Place) -> Path:
        scene = honest_image(place.folder / "b.tif")
        with tarfile.open(place.folder / "a.tar", "w") as file:
            info = tarfile.TarInfo(name)
            info.type = kind
            info.linkname = target(place)
            file.addfile(info)
            info = tarfile.TarInfo("b.tif")
            info.size = scene.stat().st_size
            file.addfile(info, io.BytesIO(scene.read_bytes()))
        scene.unlink()
        return place.folder / "a.tar"

    return build


DELIVERIES: dict[str, Carrier] = {
    "product_with_a_linked_measurement": _safe(_link_measurement),
    "product_with_a_measurement_of_another_file": _safe(_replace_measurement),
    "product_with_an_entity": _safe(_entity),
    "product_with_linked_annotations": _safe(_link_annotations),
    "archive_with_a_link": _tar(
        tarfile.SYMTYPE, "a.tif", lambda place: str(place.image)
    ),
    "archive_with_a_hard_link": _tar(
        tarfile.LNKTYPE, "a.tif", lambda place: str(place.image)
    ),
}
"""Products and archives, which are scenes."""


KINDS = {
    "table": TABLES,
    "list": LISTS,
    "label": LABELS,
    "feed": FEEDS,
    "bundle": BUNDLES,
    "run": RUNS,
    "recipe": RECIPES,
    "store": STORES,
    "delivery": DELIVERIES,
    "page": PAGES,
}
