"""A page to look through predictions and to correct them: one file, without a server or a network."""

from rsft.predict.review.page import MOST, write_review

__all__ = ["MOST", "write_review"]
