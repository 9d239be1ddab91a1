"""A loss on the output of a linear layer, whose gradients are computed in the forward pass, chunk by chunk.

The output of a chunk and its gradient share one float32 buffer, and nothing else of that size exists. A chunk takes
three products, as in any linear layer: nothing is kept, or computed again, for the backward pass (what fused linear
cross-entropy kernels do, Hsu et al. 2024, arXiv 2410.10989).

Shapes: N positions, n of them in a chunk, H hidden size, V outputs.
"""

from collections.abc import Callable
from typing import Any

import torch

Tensor = torch.Tensor

Overwrite = Callable[[Tensor, slice], tuple[Tensor, Tensor]]
"""Takes the outputs [n, V] of a chunk of positions, leaves the gradient of the loss there, and returns its two parts
[n]."""


def linear_loss(
    hidden_NH: Tensor,
    weight_VH: Tensor,
    bias_V: Tensor | None,
    overwrite: Overwrite,
    shares: tuple[float, float],
    positions_per_chunk: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """The loss summed over positions, and its parts.

    Args:
        hidden_NH: of the weight's dtype. Sums over positions are float32 in either case.
        shares: of the two parts in the loss.

    Returns:
        The loss, differentiable once; the two parts [N], not differentiable. All float32.
    """
    if not torch.is_grad_enabled():  # autograd would still ask for the parameters' gradients
        weight_VH, bias_V = weight_VH.detach(), None if bias_V is None else bias_V.detach()
    losses: tuple[Tensor, Tensor, Tensor] = _LinearLoss.apply(  # type: ignore[no-untyped-call]
        hidden_NH, weight_VH, bias_V, overwrite, shares, positions_per_chunk
    )
    return losses


class _LinearLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_NH: Tensor,
        weight_VH: Tensor,
        bias_V: Tensor | None,
        overwrite: Overwrite,
        shares: tuple[float, float],
        positions_per_chunk: int,
    ) -> tuple[Tensor, Tensor, Tensor]:
        num_N, dtype = len(hidden_NH), weight_VH.dtype
        parts_2N = hidden_NH.new_empty(2, num_N, dtype=torch.float32)
        of_hidden, of_weight, of_bias, *_ = ctx.needs_input_grad
        by_hidden_NH = torch.empty_like(hidden_NH) if of_hidden else None
        by_weight_VH = torch.zeros_like(weight_VH, dtype=torch.float32) if of_weight else None
        by_bias_V = torch.zeros_like(bias_V, dtype=torch.float32) if bias_V is not None and of_bias else None
        buffer_nV = hidden_NH.new_empty(min(num_N, positions_per_chunk), len(weight_VH), dtype=torch.float32)
        for begin in range(0, num_N, positions_per_chunk):
            chunk = slice(begin, begin + positions_per_chunk)
            hidden_nH = hidden_NH[chunk]
            z_nV = _outputs(hidden_nH, weight_VH, bias_V, buffer_nV[: len(hidden_nH)])
            parts_2N[0, chunk], parts_2N[1, chunk] = overwrite(z_nV, chunk)
            by_z_nV = z_nV.to(dtype)
            if by_hidden_NH is not None:
                torch.mm(by_z_nV, weight_VH, out=by_hidden_NH[chunk])
            if by_weight_VH is not None:
                _add_product(by_weight_VH, by_z_nV.T, hidden_nH)
            if by_bias_V is not None:
                by_bias_V += z_nV.sum(0)
        ctx.gradients = [None if t is None else t.to(dtype) for t in (by_hidden_NH, by_weight_VH, by_bias_V)]
        first_N, second_N = parts_2N
        ctx.mark_non_differentiable(first_N, second_N)
        return shares[0] * first_N.sum() + shares[1] * second_N.sum(), first_N, second_N

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        # Scaled in place and given away: a second call fails.
        gradients = ctx.gradients
        del ctx.gradients
        return *(None if tensor is None else tensor.mul_(gradient) for tensor in gradients), None, None, None


def _outputs(hidden_nH: Tensor, weight_VH: Tensor, bias_V: Tensor | None, out_nV: Tensor) -> Tensor:
    """Of the layer, in float32, written to `out_nV`."""
    if weight_VH.dtype == torch.float32:
        torch.mm(hidden_nH, weight_VH.T, out=out_nV)
    else:
        out_nV.copy_(hidden_nH @ weight_VH.T)
    return out_nV if bias_V is None else out_nV.add_(bias_V)


def _add_product(sum_VH: Tensor, a_Vn: Tensor, b_nH: Tensor) -> None:
    """Adds a b to a float32 sum."""
    if b_nH.dtype == torch.float32:
        torch.addmm(sum_VH, a_Vn, b_nH, out=sum_VH)
    else:
        sum_VH += a_Vn @ b_nH
