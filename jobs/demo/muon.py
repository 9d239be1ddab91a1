"""The Muon optimizer, in float32: momentum whose singular values are all pulled to about one before each step.

torch.optim.Muon does the same, but in bfloat16, which most CPUs emulate slowly.
"""

from collections import defaultdict
from collections.abc import Iterable

import torch

QUINTIC = (3.4445, -4.7750, 2.0315)
"""Coefficients of the odd polynomial that, iterated, takes singular values in (0, 1] to about one (Jordan, 2024)."""

UPDATE_SCALE = 0.2
"""Makes an update's root mean square that of a typical AdamW update, so that their learning rates are comparable."""


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov momentum for the matrices [rows, columns] inside a network's layers."""

    def __init__(self, matrices: Iterable[torch.nn.Parameter], learning_rate: float, momentum: float = 0.95) -> None:
        super().__init__(matrices, {"lr": learning_rate, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Moves every matrix by one update; matrices of one shape are worked on together."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[torch.nn.Parameter]] = defaultdict(list)
            for parameter in group["params"]:
                by_shape[parameter.shape].append(parameter)
            for shape, parameters in by_shape.items():
                directions = torch.stack([self.direction(parameter, group["momentum"]) for parameter in parameters])
                scale = group["lr"] * UPDATE_SCALE * max(shape) ** 0.5
                for parameter, update in zip(parameters, orthogonalised(directions), strict=True):
                    parameter.sub_(update, alpha=scale)

    def direction(self, parameter: torch.nn.Parameter, momentum: float) -> torch.Tensor:
        """The gradient with Nesterov momentum."""
        average = self.state[parameter].setdefault("momentum", torch.zeros_like(parameter))
        average.lerp_(parameter.grad, 1 - momentum)
        return parameter.grad.lerp(average, momentum)


def orthogonalised(matrices: torch.Tensor, iterations: int = 3) -> torch.Tensor:
    """Matrices [count, rows, columns] with the same singular vectors and singular values nearer to one.

    Five iterations are usual; three cost less and train these models as well.
    """
    if matrices.shape[1] > matrices.shape[2]:
        return orthogonalised(matrices.mT, iterations).mT
    a, b, c = QUINTIC
    result = matrices / (matrices.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(iterations):
        gram = result @ result.mT
        result = a * result + (b * gram + c * gram @ gram) @ result
    return result
