"""`torch.compile` for training, with a fallback to plain execution if it fails."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable

import torch
from torch import Tensor, nn

logger = logging.getLogger(__name__)

_REMEDIES = {
    "No working C++ compiler": "install g++",
    "Python.h": "install Python's headers (python3-dev, python3-devel)",
    "omp.h": "install OpenMP's headers (libgomp comes with gcc, libomp-dev with clang)",
    # torch passes its folder to the linker without quotes
    "cannot find -ltorch": "torch lies in a folder with a space in its path: make the environment in another",
}
"""What to do where an error names what is missing."""


class Compiled(nn.Module):
    """The same network, run through `torch.compile` until that first fails.

    Dropout draws the same masks as without compilation. Backward passes cannot be differentiated again.

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
                    # Compilations by earlier trials of a reused worker count towards the compiler's limit per function.
                    torch.compiler.reset()
                    self._run = torch.compile(self.model, options={"fallback_random": True})
                logits = self._run(x)
            except Exception as error:  # noqa: BLE001 - compilers' errors have no common class
                self.compiles = False
                logger.warning(
                    "`training.compile`: torch.compile failed, training continues without it: %s", _reason(error)
                )
            else:
                return logits
        plain: Tensor = self.model(x)
        return plain


def _reason(error: Exception) -> str:
    """Return the C++ compiler's own first error, or else the first line, and what to do where that is known."""
    text = str(error).strip() or type(error).__name__
    own = re.search(r"\berror: (.+)", text)
    remedies = [remedy for missing, remedy in _REMEDIES.items() if missing in text]
    return "; ".join([own[1] if own else text.splitlines()[0], *remedies[:1]])


def compiled(model: nn.Module, /, *, second_order: bool) -> nn.Module:
    """Return `model` compiled; with `second_order` gradients log a warning and return it as it is."""
    if second_order:
        logger.warning("`training.compile` is ignored: this method differentiates gradients, torch.compile cannot")
        return model
    return Compiled(model)
