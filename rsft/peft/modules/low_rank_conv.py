"""Low-rank additions to frozen convolutions, as in Hugging Face PEFT: A has the kernel, B is a 1 x 1 convolution."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional as F

from rsft.peft.kernels import LowRankDelta

if TYPE_CHECKING:
    from rsft.peft.modules.low_rank import LowRankModule
    from rsft.peft.sites import Site


class LowRankConv2d(nn.Conv2d):
    """A frozen convolution with low-rank additions, m B(A(x)).

    A (r, in, h, w) has the kernel, stride, padding and dilation of the convolution; B (out, r) mixes its r outputs at
    every pixel. Only the class of a layer changes, so that the layer keeps its name, its parameters and its hooks.

    Attributes:
        adapters: the module of each site of the layer.
    """

    adapters: dict[Site, LowRankModule]

    def forward(self, input: Tensor) -> Tensor:
        """Apply the convolution with its additions.

        Args:
            input: (B, in, H, W).

        Returns:
            (B, out, H', W').
        """
        y = super().forward(input)
        for delta in self.deltas():
            y = y + self.addition(input, delta)
        return y

    def deltas(self) -> list[LowRankDelta]:
        """Return the current additions to the layer.

        Returns:
            One for each site of the layer.
        """
        return [module.delta(site) for site, module in self.adapters.items()]

    def addition(self, x: Tensor, delta: LowRankDelta) -> Tensor:
        """Return m B(A(x)) of one addition.

        Args:
            x: (B, in, H, W).
            delta: the addition.

        Returns:
            (B, out, H', W').
        """
        a, b = delta.a.to(x.dtype), delta.b[:, :, None, None].to(x.dtype)
        hidden = F.conv2d(F.dropout(x, delta.dropout), a, None, self.stride, self.padding, self.dilation)
        return F.conv2d(hidden * delta.scale, b)
