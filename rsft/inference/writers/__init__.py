"""The table of predictions: its columns, its styles and the formats of its file."""

# in the order in which messages list the formats
__all__ = ["geopackage", "geojson", "geoparquet", "csv_table", "excel"]  # noqa: RUF022
