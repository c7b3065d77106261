"""Fine-tuning: from a recipe to a run folder with a bundle."""
