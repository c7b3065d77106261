"""Describe a bundle in the formats of others: a STAC item, a model card, a repository of the Hugging Face Hub."""
