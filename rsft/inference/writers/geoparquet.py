"""Predictions as GeoParquet, with the metadata in the schema."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa

from rsft.inference.writers.layer import PredictionLayer
from rsft.inference.writers.table_format import TABLE_FORMATS, TableFormat
from rsft.utils.atomic_files import atomic_file

# rows of a table that are in memory once more while they are written
_ROW_GROUP = 32_768


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
            plain,
            index=False,
            schema_version="1.1.0",
            write_covering_bbox=covering,
            row_group_size=_ROW_GROUP,
        )
        source = pq.ParquetFile(plain.getvalue())
        metadata = dict(source.schema_arrow.metadata)
        metadata[b"rsft"] = json.dumps(layer.metadata).encode()
        schema = source.schema_arrow.with_metadata(metadata)
        with (
            atomic_file(path) as temporary,
            pq.ParquetWriter(temporary, schema) as writer,
        ):
            for group in range(source.num_row_groups):
                rows = source.read_row_group(group)
                if covering:
                    rows = _clear_boxes(rows)
                writer.write_table(rows.cast(schema))


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
