"""Start a run at the PEFT modules, scales and head of a bundle, and compare the result with that bundle."""
