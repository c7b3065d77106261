"""What a run leaves behind: everything that is needed to classify new chips, except the backbone itself."""

from rsft.bundle.bundle import Bundle, combine, find_bundle
from rsft.bundle.index import FORMAT, Index

__all__ = ["FORMAT", "Bundle", "Index", "combine", "find_bundle"]
