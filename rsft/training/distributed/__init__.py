"""Train one model in several processes: collectives and strategies."""
