"""What rsft uses of a network of timm, for networks whose output is a feature map."""

from abc import ABC, abstractmethod

from torch import Tensor, nn


class PooledMap(nn.Module, ABC):
    """Base class of networks that pool a feature map by its mean."""

    @abstractmethod
    def forward_features(self, x: Tensor) -> Tensor:
        """Return a feature map (B, D, h, w) of images (B, P, S, S)."""

    def forward_head(self, x: Tensor, pre_logits: bool = True) -> Tensor:
        """Return the mean (B, D) of a feature map (B, D, h, w)."""
        return x.mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Return features (B, D) of images (B, P, S, S)."""
        return self.forward_head(self.forward_features(x))
