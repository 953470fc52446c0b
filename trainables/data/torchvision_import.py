"""The one place that imports torchvision."""

from __future__ import annotations

from typing import Any

_SCHEMA = "{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_declared: list[Any] = []


def torchvision() -> Any:
    """Import and return torchvision, beside a CPU-only torch too.

    The package registries' torchvision is built for CUDA. Beside a CPU-only torch its C++ operators cannot be loaded,
    and its Python part then fails while attaching shape functions to two of them, `nms` and `qnms`, that nobody
    declared. We use none of its operators, so when they are missing their schemas are declared and the import is
    tried again. Where the operators load, nothing is declared.
    """
    try:
        return _import()
    except RuntimeError:
        if not _declare_missing():
            raise
        return _import()


def _import() -> Any:
    import torchvision.datasets
    import torchvision.models

    return torchvision


def _declare_missing() -> bool:
    import torch

    missing = [name for name in ("nms", "qnms") if not hasattr(torch.ops.torchvision, name)]
    if missing:
        library: Any = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
        for name in missing:
            library.define(_SCHEMA.format(name=name))
        # A library's declarations last as long as the object does.
        _declared.append(library)
    return bool(missing)
