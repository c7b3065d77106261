"""A bundle on labelled chips: numbers, baselines, two runs compared, and the page that shows them."""
