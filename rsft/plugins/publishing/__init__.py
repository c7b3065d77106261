"""Describe a bundle for others: a STAC item, a model card, a repository."""
