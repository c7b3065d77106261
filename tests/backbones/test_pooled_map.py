import torch

from rsft.backbones.pooled_map import PooledMap


class Doubled(PooledMap):
    def forward_features(self, x):
        return 2 * x


def test_features_are_means_of_the_map():
    images = torch.arange(24, dtype=torch.float64).reshape(1, 2, 3, 4)
    assert Doubled()(images).tolist() == [[11, 35]]
    assert Doubled().forward_head(images, pre_logits=True).tolist() == [[5.5, 17.5]]
