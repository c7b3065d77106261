"""Draw the charts of the report as SVG."""
