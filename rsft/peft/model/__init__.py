"""A frozen transformer with an attached PEFT method."""
