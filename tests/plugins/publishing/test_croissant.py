"""The description of a chip store, as the validator and loader of MLCommons reads
it."""

import json
import shutil
import socket
from fnmatch import fnmatch
from functools import partial
from pathlib import Path

import mlcroissant
import numpy as np
import pandas as pd
import pytest
import requests

from rsft.data.audit import (
    AuditResult,
    audit_store,
    count_finding,
    write_audits,
)
from rsft.data.chips.builder import build_store
from rsft.data.chips.manifest import PROVENANCE, SCHEMA
from rsft.data.chips.record import ChipRecord, StoreDescription
from rsft.data.chips.store import AUDIT_FILE, ChipStore
from rsft.data.imagery.reader import IMAGE_SUFFIXES
from rsft.errors import DataError, RequestError

# every format of a store must have a media type
from rsft.plugins.publishing.croissant import (
    _FORMATS,
    Publication,
    describe_store,
    write_croissant,
)
from tests.helpers.messages import mentions

RELEASE = Path(__file__).parents[2] / "compat/0.2/store"
PUBLICATION = Publication("https://example.com/ships", "Example Lab", "2026-11-27")
GEOCROISSANT = {
    "BandConfiguration",
    "SpectralBand",
    "bandConfiguration",
    "bandNameList",
    "bandwidth",
    "centerWavelength",
    "coordinateReferenceSystem",
    "recordEndpoint",
    "samplingStrategy",
    "spatialBias",
    "spatialIndex",
    "spatialResolution",
    "spectralBandMetadata",
    "temporalResolution",
    "timeSeriesIndex",
    "totalBands",
}
"""Terms for datasets of the Earth in the specification of GeoCroissant 1.0."""


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError(f"a request: {arguments}")

    for owner, name in (
        (socket, "getaddrinfo"),
        (socket.socket, "connect"),
        (requests, "get"),
    ):
        monkeypatch.setattr(owner, name, refuse)


def read_ramp(low, dtype, side):
    return (np.arange(side * side, dtype=dtype) + low).reshape(side, side, 1)


@pytest.fixture
def store(tmp_path):
    """Chips of several types, with gaps in most columns of the manifest."""
    labels = tmp_path / "1.txt"
    columns = {
        "source": "SRSDD",
        "spacing_m": 1.5,
        "mmsi": "9",
        "box": [1.0, 2.5] * 4,
        "group_key": "s1",
    }
    records = [
        ChipRecord(
            "L1_1",
            "train",
            "渔船",
            labels,
            partial(read_ramp, 0, "uint8", 10),
            extra_columns=columns,
        ),
        ChipRecord(
            "L1_2",
            "train",
            "b",
            labels,
            partial(read_ramp, 9, "uint16", 12),
            extra_columns={"source": "[b]"},
        ),
        ChipRecord("L1_4", "train", "b", labels, partial(read_ramp, 5, "uint16", 12)),
        ChipRecord(
            "L1_3",
            "test",
            "b",
            labels,
            partial(read_ramp, -9, "float32", 8),
            extra_columns={"unit": "db"},
        ),
    ]
    left_out = {"skipped": {"too small": 3}, "rejected": [("a", 1, "no area")]}
    description = StoreDescription(
        "ships 1", ("b", "渔船"), "x", **left_out, license="CC-BY-NC-4.0"
    )
    return build_store(tmp_path / "ships", records, description)


@pytest.fixture
def released(tmp_path):
    """Chip store of version 0.1."""
    return ChipStore.open(shutil.copytree(RELEASE, tmp_path / "released"))


def open_croissant(path):
    """Validate a description; fail if the validator reports an error."""
    dataset = mlcroissant.Dataset(str(path))
    assert not dataset.metadata.ctx.issues.errors
    return dataset


def decode(value):
    """Return a value of a record; texts are bytes there."""
    return value.decode() if isinstance(value, bytes) else value


def iter_records(path, record_set):
    """Iterate over the records, with the names of the fields."""
    for record in open_croissant(path).records(record_set):
        yield {name.rpartition("/")[2]: decode(value) for name, value in record.items()}


def node(document, kind, name):
    (found,) = [item for item in document[kind] if item["@id"] == name]
    return dict(found)


def test_the_records_have_the_values_of_the_manifest(store):
    records = list(iter_records(write_croissant(store.root, PUBLICATION), "chips"))
    assert len(records) == len(store.table) == 4
    for record, (_, row) in zip(records, store.table.iterrows(), strict=True):
        assert [record[name] for name in ("path", "class", "split")] == [
            row["path"],
            row["class"],
            row["split"],
        ]
        for name, value in record.items():
            expected = row[name]
            if value is None:
                assert np.ndim(expected) == 0 and pd.isna(expected)
            else:
                assert value == list(expected) if name == "box" else value == expected
    described = set(records[0])
    assert {
        "source",
        "spacing_m",
        "mmsi",
        "box",
        "unit",
        "bands",
        "sha256",
        "group_key",
    } <= described
    # columns without a value
    assert not described & {
        "sensor",
        "incidence_deg",
        "polarisation",
    }


def test_the_classes_have_the_counts_of_each_split(store):
    path = write_croissant(store.root)
    splits = [
        {"name": "train", "url": "cr:TrainingSplit"},
        {"name": "test", "url": "cr:TestSplit"},
    ]
    assert list(iter_records(path, "splits")) == splits
    records = list(iter_records(path, "classes"))
    rows = [
        (record["name"], record["label"], record["train"], record["test"])
        for record in records
    ]
    assert rows == [("b", 0, 2, 1), ("渔船", 1, 1, 0)]
    assert "val" not in records[0] and [record["group"] for record in records] == [
        "head",
        "tail",
    ]


def test_the_files(store):
    path = write_croissant(store.root)
    document = json.loads(path.read_text("utf-8"))
    chips = node(document, "distribution", "chip-files")
    assert chips["encodingFormat"] == ["image/png", "image/tiff"]
    files = [
        str(file.relative_to(store.root))
        for file in store.root.rglob("*")
        if file.is_file()
    ]
    matched = [
        name
        for name in files
        if any(fnmatch(name, pattern) for pattern in chips["includes"])
    ]
    assert sorted(matched) == store.table["path"].tolist()
    manifest = node(document, "distribution", "manifest.parquet")
    assert (
        manifest["contentSize"]
        == f"{(store.root / 'manifest.parquet').stat().st_size} B"
    )


def test_another_manifest_is_noticed(store):
    path = write_croissant(store.root)
    store.table.drop(columns="flags").to_parquet(store.root / "manifest.parquet")
    with pytest.raises(Exception, match=r"Download\(manifest.parquet\)") as error:
        list(iter_records(path, "chips"))
    assert "hash" in str(error.value.__cause__).lower()


def test_the_properties_of_the_data_set(store):
    metadata = open_croissant(write_croissant(store.root, PUBLICATION)).metadata
    assert metadata.name == "ships 1" and metadata.url == "https://example.com/ships"
    assert [creator.name for creator in metadata.creators] == ["Example Lab"]
    assert metadata.date_published.isoformat()[:10] == "2026-11-27"
    assert metadata.license == ["https://spdx.org/licenses/CC-BY-NC-4.0.html"]
    assert metadata.conforms_to == [
        f"http://mlcommons.org/croissant/{name}"
        for name in ("1.1", "RAI/1.0", "geo/1.0")
    ]
    assert "4 image chips of 2 classes (3 train, 1 test)" in str(metadata.description)


def test_what_is_unknown_is_said_and_not_invented(released):
    path = write_croissant(released.root)
    document = json.loads(path.read_text("utf-8"))
    assert (
        not {"url", "creator", "datePublished", "geocr:spatialResolution"}
        & document.keys()
    )
    assert "Unknown: url, creator, datePublished." in document["description"]
    assert document["license"] == {"@type": "sc:CreativeWork", "name": "unknown"}
    (license_text,) = [
        text for text in document["rai:dataLimitations"] if "license" in text
    ]
    assert (
        license_text
        == "The restrictions of the license are unknown (license: unknown)."
    )
    assert (
        Publication(creator="x").missing == ("url", "datePublished")
        and PUBLICATION.missing == ()
    )
    assert open_croissant(path).metadata.license[0].name == "unknown"


def test_the_terms_are_those_of_geocroissant(store):
    document = describe_store(store)
    assert document["rai:dataLimitations"][0].startswith("The chips were not audited.")
    assert document["geocr:bandConfiguration"]["geocr:bandNameList"] == list(
        store.bands
    )
    assert document["geocr:bandConfiguration"]["geocr:totalBands"] == 1
    left_out = "3 skipped (too small); 1 rejected as unusable"
    assert (
        document["geocr:samplingStrategy"] == f"Chips: 4. Inputs left out: {left_out}."
    )
    used = {
        word
        for word in json.dumps(document).replace('"', " ").split()
        if word.startswith("geocr:")
    }
    assert {word.removeprefix("geocr:").rstrip(":,") for word in used} <= GEOCROISSANT


def test_the_pixel_spacing_of_all_chips_is_that_of_the_data_set(store):
    assert "geocr:spatialResolution" not in describe_store(store)
    table = store.table.assign(spacing_m=1.5)
    table.to_parquet(store.root / "manifest.parquet")
    resolution = describe_store(ChipStore.open(store.root))["geocr:spatialResolution"]
    assert resolution == {
        "@type": "sc:QuantitativeValue",
        "value": 1.5,
        "unitText": "m",
    }


def test_the_findings_of_the_audit_are_limitations(store):
    write_audits(store.root / AUDIT_FILE, [audit_store(store)])
    metadata = open_croissant(write_croissant(store.root)).metadata
    limitations = " ".join(metadata.data_limitations)
    assert (
        "The audit found classes without a chip in a split: 1, such as 渔船 (test)."
        in limitations
    )
    assert (
        "Restrictions of the license: non-commercial (no commercial use)."
        in limitations
    )


def test_an_audit_of_other_chips_is_refused(store):
    result = AuditResult(
        "x",
        {},
        [count_finding("contents in two splits", ["a"], 4)],
        {"b": {"all": {"train": 9}}},
    )
    write_audits(store.root / AUDIT_FILE, [result])
    with pytest.raises(DataError, match=mentions("audit", "other chips")):
        write_croissant(store.root)
    assert not (store.root / "croissant.json").exists()


def test_an_existing_description_stays(store):
    path = write_croissant(store.root)
    first = path.read_bytes()
    with pytest.raises(RequestError, match="the file exists already"):
        write_croissant(store.root, PUBLICATION)
    assert path.read_bytes() == first
    assert (
        write_croissant(store.root, PUBLICATION, overwrite=True).read_bytes() != first
    )


def test_every_column_and_image_format_is_described(store):
    names = {*SCHEMA.names, *PROVENANCE}
    empty = names - {"path", "split", "class"}
    vars(store)["table"] = store.table.assign(**dict.fromkeys(empty, "1"))
    *_, chips = describe_store(store)["recordSet"]
    assert {field["name"] for field in chips["field"]} == names
    assert _FORMATS.keys() >= IMAGE_SUFFIXES
