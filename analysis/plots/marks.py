"""A method's marker for a page's text: no font has all of the shapes."""

from __future__ import annotations

from matplotlib.markers import MarkerStyle
from matplotlib.path import Path
from matplotlib.transforms import Affine2D

from analysis.method_styles import MethodStyle

_COMMANDS = {Path.MOVETO: "M", Path.LINETO: "L", Path.CURVE3: "Q", Path.CURVE4: "C"}


def mark_svg(style: MethodStyle, /) -> str:
    """Return the outline that the figures for papers draw as an SVG of a letter's size, in the text's colour."""
    marker = MarkerStyle(style.marker)
    downwards = Affine2D().scale(1, -1)  # as pages count
    path = marker.get_path().transformed(marker.get_transform() + downwards)
    steps = [
        "Z" if code == Path.CLOSEPOLY else f"{_COMMANDS[code]}{' '.join(f'{value:.3f}' for value in points)}"
        for points, code in path.iter_segments(curves=True)
    ]
    box = 'viewBox="-.71 -.71 1.42 1.42" width="1em" height="1em"'
    return f'<svg {box}><path d="{"".join(steps)}" fill="currentColor"/></svg>'
