"""A recipe that trains in a second on the chips of the fixture `root`."""

BARS_RECIPE = """\
# Bars
# rsft finetune bars.yaml
data: {root: ROOT, size: 32, augment: sar}
backbone: {blocks: 3}
meta: {outer_every: 2, lr: 0.05, warmup: 1}
train: {epochs: 3, batch_size: 8, lr: 0.02}
evaluate: {batch_size: 32, baselines: 0}
"""
"""ROOT stands for the folder of the chip store."""
