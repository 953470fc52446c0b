"""Colours as a grey print and as colour-blind readers show them, and how different two colours look.

Source: Machado, Oliveira and Fernandes 2009, "A physiologically-based model for simulation of color vision deficiency",
IEEE TVCG 15(6), the matrices of severity 1.0, which apply to linear RGB. Differences are Euclidean in CIELAB (CIE 1976,
white D65).
"""

from __future__ import annotations

import numpy as np

DICHROMATS = {
    "protanopia": np.array([
        [0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998],
    ]),
    "deuteranopia": np.array([
        [0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881],
    ]),
}  # fmt: skip

_TO_XYZ = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750],
                    [0.0193339, 0.1191920, 0.9503041]])  # fmt: skip
_WHITE = _TO_XYZ.sum(axis=1)


def linear(rgb: np.ndarray) -> np.ndarray:
    """Return linear RGB of sRGB in [0, 1], shape (..., 3)."""
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def encoded(light: np.ndarray) -> np.ndarray:
    """Return sRGB of linear RGB, both in [0, 1]."""
    light = np.clip(light, 0, 1)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def seen_by(kind: str, rgb: np.ndarray) -> np.ndarray:
    """Return sRGB colours, shape (..., 3), as `grey` prints them, or as one of `DICHROMATS` or `all` sees them."""
    if kind == "all":
        return rgb
    if kind == "grey":
        return encoded(np.repeat(linear(rgb) @ _TO_XYZ[1, :, None], 3, axis=-1))
    return encoded(linear(rgb) @ DICHROMATS[kind].T)


def lab(rgb: np.ndarray) -> np.ndarray:
    """Return CIELAB of sRGB colours, shape (..., 3); the first is lightness, 0 to 100."""
    ratio = linear(rgb) @ _TO_XYZ.T / _WHITE
    root = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = np.moveaxis(root, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def neighbours(rgb: np.ndarray, kind: str) -> np.ndarray:
    """Return how different each of n colours looks from the next, shape (n - 1,)."""
    return np.linalg.norm(np.diff(lab(seen_by(kind, rgb)), axis=0), axis=1)
