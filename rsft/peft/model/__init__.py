"""A frozen transformer with a method attached."""
