"""Fine-tuning: train the model of a recipe, and write a run folder with a bundle."""
