"""Run the process of a reader cell."""

from rsft.utils.cell.server import serve

serve()
