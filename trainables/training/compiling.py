"""`torch.compile` for training, which gives way to plain execution where it fails."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
from torch import Tensor, nn

logger = logging.getLogger(__name__)


class Compiled(nn.Module):
    """The same network, run through `torch.compile` until that fails once.

    Dropout draws what it draws without compilation. Backward passes cannot be differentiated again.

    Args:
        model: Shared, not copied: its modes and weights are those of `model`.
    """

    def __init__(self, model: nn.Module, /) -> None:
        super().__init__()
        self.model = model
        self.compiles = True
        self._run: Callable[[Tensor], Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Map images to logits as the network does."""
        if self.compiles:
            try:
                if self._run is None:
                    # What earlier trials of a warm worker compiled counts towards the compiler's limit per function.
                    torch.compiler.reset()
                    self._run = torch.compile(self.model, options={"fallback_random": True})
                logits = self._run(x)
            except Exception as error:  # noqa: BLE001 - compilers fail in ways that share no class
                self.compiles = False
                reason = (str(error).strip() or type(error).__name__).splitlines()[0]
                logger.warning("`training.compile`: torch.compile failed, training goes on without it: %s", reason)
            else:
                return logits
        plain: Tensor = self.model(x)
        return plain


def compiled(model: nn.Module, /, *, second_order: bool) -> nn.Module:
    """Return `model` compiled, or as it is where gradients must be differentiated again, with a message."""
    if second_order:
        logger.warning("`training.compile`: this method differentiates gradients, which compiled networks cannot do")
        return model
    return Compiled(model)
