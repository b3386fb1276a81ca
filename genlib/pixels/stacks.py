"""Two stacks of convolutions, without a blind spot."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.functional import pad, silu

from genlib import _arguments as require
from genlib.pixels.masked import Bias
from genlib.pixels.model import Pixels


class TwoStacks(Pixels):
    """The gated PixelCNN: one stack for the rows above, one for the row itself (van den Oord et al. 2016).

    (arXiv:1606.05328.) Masked convolutions alone leave a blind spot at the upper right. These see all pixels before
    within their reach: with n blocks n + 1 rows above, n columns to each side, and n + 1 places to the left.

    Args:
        head, event_shape, width, blocks, dropout: as in `PixelCNN`.
    """

    def __init__(
        self,
        head: nn.Module,
        event_shape: Sequence[int],
        width: int = 24,
        blocks: int = 3,
        dropout: float = 0.25,
    ) -> None:
        super().__init__(event_shape, head.levels)
        self.head, width = head, require.whole_number("width", width)
        self.above = nn.ModuleList()
        self.left = nn.ModuleList()
        self.across, self.back = nn.ModuleList(), nn.ModuleList()
        for k in range(require.whole_number("blocks", blocks)):
            inputs = width if k else 1
            self.above.append(nn.Conv2d(inputs, 2 * width, (2, 3)))
            self.left.append(nn.Conv2d(inputs, 2 * width, (1, 2)))
            self.across.append(nn.Conv2d(2 * width, 2 * width, 1))
            self.back.append(nn.Conv2d(width, width, 1))
        self.place = Bias(width, self.event_shape)
        self.drop = nn.Dropout(require.share("dropout", dropout))
        self.last = nn.Conv2d(width, head.size, 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W) int64 → logits (B, H, W, K)."""
        x = 2 * x[:, None].to(self.last.weight) / (self.levels - 1) - 1
        above, left = x, pad(x, (1, 0))[..., :-1]  # `left` never holds the pixel itself
        for k, (vertical, row, across, back) in enumerate(
            zip(self.above, self.left, self.across, self.back, strict=True)
        ):
            v = vertical(pad(above, (1, 1, 1, 0)))  # rows up to this one, (B, 2 width, H, W)
            h = row(pad(left, (1, 0))) + across(pad(v, (0, 0, 1, 0))[:, :, :-1])  # of v the rows above
            above, found = gated(v), back(self.drop(gated(h)))
            left = left + found if k else found + self.place(None)
        return self.head(self.last(self.drop(silu(left))).movedim(1, -1))


def gated(h: Tensor) -> Tensor:
    """tanh of one half of the channels times σ of the other, (B, 2 F, H, W) → (B, F, H, W)."""
    value, gate = h.chunk(2, 1)
    return value.tanh() * gate.sigmoid()
