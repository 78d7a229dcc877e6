"""Batch normalisation whose statistics are those of the whole batch, however many processes share it."""

from __future__ import annotations

import torch
from torch import Tensor, distributed, nn
from torch.distributed.nn import functional as collectives


class BatchNorm2d(nn.BatchNorm2d):
    """``nn.BatchNorm2d``, summed over processes while training.

    torch's own ``SyncBatchNorm`` runs on GPUs only. With this one, two processes on any hardware learn what one
    process learns from the same batch. In evaluation, and in one process, it is ``nn.BatchNorm2d`` itself.

    Attributes:
        shared: whether processes share their batches; False where all of them see the same one.
    """

    shared = True

    def processes(self) -> int:
        """How many processes the batch is spread over."""
        if not self.shared or not distributed.is_available() or not distributed.is_initialized():
            return 1
        return distributed.get_world_size()

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name is torch's
        """(B, C, h, w) → the same."""
        if not self.training or self.processes() == 1:
            return super().forward(input)
        count = torch.tensor(float(input.numel() // input.shape[1]), dtype=input.dtype, device=input.device)
        # all_reduce of torch.distributed.nn carries gradients, the plain one does not. Two rounds, because the mean of
        # squares less the square of the mean cancels: maps of a trunk without batch norm are far from 0.
        total = _summed(torch.cat([input.sum((0, 2, 3)), count[None]]))
        n = total[-1]
        mean = total[:-1] / n
        centred = input - mean[:, None, None]
        variance = _summed((centred * centred).sum((0, 2, 3))) / n
        with torch.no_grad():
            momentum = 0.1 if self.momentum is None else self.momentum
            if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
                self.num_batches_tracked += 1
                self.running_mean.lerp_(mean, momentum)
                self.running_var.lerp_(variance * (n / (n - 1).clamp_min(1)), momentum)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return centred * scale[:, None, None] + self.bias[:, None, None]


def _summed(own: Tensor) -> Tensor:
    """The sum over all processes, with its gradient."""
    total: Tensor = collectives.all_reduce(own)  # type: ignore[no-untyped-call]
    return total
