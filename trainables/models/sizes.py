"""Checks of the image size that a network takes."""

from __future__ import annotations


def require_size(model: str, image_shape: tuple[int, int, int], /, *, side: int) -> None:
    """Raise a ValueError unless images are `side` x `side`."""
    if image_shape[1:] != (side, side):
        _refuse(model, f"{side}x{side}", image_shape)


def require_at_least(model: str, image_shape: tuple[int, int, int], /, *, side: int) -> None:
    """Raise a ValueError unless images are at least `side` x `side`."""
    if min(image_shape[1:]) < side:
        _refuse(model, f"at least {side}x{side}", image_shape)


def _refuse(model: str, required: str, image_shape: tuple[int, int, int]) -> None:
    _, height, width = image_shape
    raise ValueError(
        f"`model.name` {model} takes images of {required}, got {height}x{width} "
        f"(mlp takes any size, cnn_small 8x8 and up)"
    )
