"""Check of the image size that a network takes."""

from __future__ import annotations


def require_side(model: str, image_shape: tuple[int, int, int], side: int, /, *, exactly: bool = False) -> None:
    """Raise a ValueError unless images are at least `side` x `side`, or exactly that large."""
    _, height, width = image_shape
    if min(height, width) < side or (exactly and max(height, width) > side):
        raise ValueError(
            f"`model.name` {model} takes images of {'' if exactly else 'at least '}{side}x{side}, got {height}x{width} "
            f"(mlp takes any size, cnn_small 8x8 and up)"
        )
