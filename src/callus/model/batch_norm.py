"""Batch normalisation whose statistics are those of the whole batch, however many processes share it."""

from __future__ import annotations

import torch
from torch import Tensor, distributed, nn
from torch.distributed.nn import functional as collectives


class BatchNorm2d(nn.BatchNorm2d):
    """``nn.BatchNorm2d``, summed over processes while training.

    torch's own ``SyncBatchNorm`` runs on GPUs only. With this one, two processes on any hardware learn what one
    process learns from the same batch. In evaluation, and in one process, it is ``nn.BatchNorm2d`` itself.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name is torch's
        """(B, C, h, w) → the same."""
        shared = self.training and distributed.is_available() and distributed.is_initialized()
        if not shared or distributed.get_world_size() == 1:
            return super().forward(input)
        count = torch.tensor(float(input.numel() // input.shape[1]), dtype=input.dtype, device=input.device)
        own = torch.cat([input.sum((0, 2, 3)), (input * input).sum((0, 2, 3)), count[None]])
        # all_reduce of torch.distributed.nn carries gradients, the plain one does not.
        total: Tensor = collectives.all_reduce(own)  # type: ignore[no-untyped-call]
        channels = input.shape[1]
        n = total[-1]
        mean = total[:channels] / n
        variance = total[channels:-1] / n - mean * mean
        with torch.no_grad():
            momentum = 0.1 if self.momentum is None else self.momentum
            if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
                self.num_batches_tracked += 1
                self.running_mean.lerp_(mean, momentum)
                self.running_var.lerp_(variance * (n / (n - 1).clamp_min(1)), momentum)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        normalised: Tensor = input * scale[:, None, None] + (self.bias - mean * scale)[:, None, None]
        return normalised
