"""Import torchvision, in this module only."""

from __future__ import annotations

from typing import Any

_SCHEMA = "{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_declared: list[Any] = []


def torchvision() -> Any:
    """Import and return torchvision, even with a CPU-only torch.

    The torchvision that pip installs by default is built for CUDA. With a CPU-only torch its C++ operators cannot be
    loaded, and its Python code then fails when it attaches shape functions to two undeclared operators, `nms` and
    `qnms`. None of its operators are used here, so missing ones are declared and the import is retried. If the
    operators load, nothing is declared.
    """
    try:
        import torchvision as package
    except RuntimeError:
        import torch

        missing = [name for name in ("nms", "qnms") if not hasattr(torch.ops.torchvision, name)]
        if not missing:
            raise
        library: Any = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
        for name in missing:
            library.define(_SCHEMA.format(name=name))
        # A library's declarations last as long as the object.
        _declared.append(library)
        return torchvision()
    return package
