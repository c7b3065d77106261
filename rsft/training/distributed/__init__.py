"""Several processes that train one model: collectives and strategies."""
