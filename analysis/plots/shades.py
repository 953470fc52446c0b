"""The colours that show Lipschitzness, the same on paper and on the screen."""

from __future__ import annotations

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex

UNMEASURED = "#ededed"
"""Face of a point whose Lipschitzness was not measured: lighter than any of the colours, in grey too."""

UNMEASURED_EDGE = "#808080"

_PALEST = 0.88
"""Where the map is cut: beyond it yellow would vanish on white paper."""

_STOPS = 33


def lipschitz_shades() -> np.ndarray:
    """Return the colours from the smoothest network to the least smooth one, shape (256, 4): pale to dark.

    They are viridis, whose steps look equally large, in grey and to colour-blind readers too (Smith, van der Walt and
    Firing 2015).
    """
    return np.asarray(colormaps["viridis"](np.linspace(_PALEST, 0.0, 256)))


def plotly_scale() -> list[tuple[float, str]]:
    """Return the same colours as a colour scale of plotly."""
    shades = lipschitz_shades()
    return [(float(at), to_hex(shades[round(at * (len(shades) - 1))])) for at in np.linspace(0.0, 1.0, _STOPS)]
