"""Predictions as GeoParquet, with the metadata in the schema."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa

from rsft.inference.writers.layer import PredictionLayer
from rsft.inference.writers.table_format import TABLE_FORMATS, TableFormat
from rsft.utils.atomic_files import atomic_file


@TABLE_FORMATS.register
class GeoParquet(TableFormat):
    """GeoParquet 1.1."""

    name = "parquet"

    def write(self, layer: PredictionLayer, path: Path) -> None:
        import pyarrow.parquet as pq
        from geopandas import GeoDataFrame

        # unless the table has the name of the column that geopandas adds
        covering = layer.is_spatial and "bbox" not in layer.table
        # without metadata of rsft, which geopandas does not write
        plain = pa.BufferOutputStream()
        GeoDataFrame(layer.table, geometry="geometry", crs=layer.crs).to_parquet(
            plain, index=False, schema_version="1.1.0", write_covering_bbox=covering
        )
        rows = pq.read_table(plain.getvalue())
        metadata = dict(rows.schema.metadata)
        metadata[b"rsft"] = json.dumps(layer.metadata).encode()
        if covering:
            rows = _clear_boxes(rows)
        with atomic_file(path) as temporary:
            pq.write_table(rows.replace_schema_metadata(metadata), temporary)


def _clear_boxes(rows: pa.Table) -> pa.Table:
    """Return rows with null as the box of a row without a geometry.

    GeoParquet 1.1 requires it; geopandas writes NaN.
    """
    boxes = rows["bbox"].combine_chunks()
    is_missing = rows["geometry"].combine_chunks().is_null()
    cleared = pa.StructArray.from_arrays(
        boxes.flatten(), fields=list(boxes.type), mask=is_missing
    )
    return rows.set_column(rows.schema.get_field_index("bbox"), "bbox", cleared)
