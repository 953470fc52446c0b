"""The marker, colour and dashes of each method in all figures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

_PALENESS = 0.3

_IN_SPACE = {
    "triangle-up": "diamond", "triangle-down": "diamond", "triangle-left": "diamond", "triangle-right": "diamond",
    "x": "cross", "star": "cross", "pentagon": "circle", "hexagon": "circle", "octagon": "circle",
    "hexagon2": "circle", "diamond-tall": "diamond", "star-diamond": "cross", "hexagram": "cross",
    "star-triangle-up": "diamond", "star-triangle-down": "diamond", "star-square": "square",
}  # fmt: skip
"""Shapes that plotly draws only in 2-d, and their replacements in 3-d, where colour distinguishes them."""

_ON_DARK = {
    "#000000": "#F0F0F0",
    "#0072B2": "#3D9BD6",
    "#882255": "#CC6699",
    "#332288": "#8F80E0",
    "#999933": "#B5B54A",
    "#4D334D": "#A07CA0",
    "#801A00": "#C9553A",
    "#0033B3": "#5A7FE0",
    "#0000FF": "#7070FF",
}
"""Colours that a dark page would hide, and their replacements there."""

_BLACK, _WHITE = "#000000", "#FFFFFF"

_DARK = "#14171A"
"""The dark page itself."""


@dataclass(frozen=True, kw_only=True)
class MethodStyle:
    """The appearance of a method in every figure.

    Args:
        label: Short name for legends.
        marker: Matplotlib's marker, filled: its letter, or (number of points, 1 for a star, angle).
        symbol: Plotly's name of the same shape.
        colour: Colour where it shows the method. The paper's methods have Okabe and Ito's colour-blind safe set; the
            others are as far from all as could be found, to readers of full and of dichromatic vision.
        dashes: Lengths of strokes and gaps in points for the method's lines; empty for a solid line.
    """

    label: str
    marker: Any
    symbol: str
    colour: str
    dashes: tuple[float, ...] = ()

    @property
    def pale(self) -> str:
        """The colour mixed with white, for points in the background."""
        return _mixed(self.colour, _WHITE, share=_PALENESS)

    def tones(self, count: int, /) -> list[str]:
        """Return colours for several lines of the method, from dark to pale; its own colour for a single line."""
        dark, light = (_mixed(self.colour, ground, share=0.5) for ground in (_BLACK, _WHITE))
        return [self.colour] if count == 1 else [_mixed(light, dark, share=at / (count - 1)) for at in range(count)]

    @property
    def on_dark(self) -> str:
        """The colour on a dark page."""
        return _ON_DARK.get(self.colour, self.colour)

    @property
    def pale_on_dark(self) -> str:
        """That colour mixed with the dark page, for points in the background."""
        return _mixed(self.on_dark, _DARK, share=0.45)

    @property
    def in_space(self) -> str:
        """Plotly's name of the shape in 3-d; its triangles and x are not available there."""
        return _IN_SPACE.get(self.symbol, self.symbol)

    @property
    def hollow_in_space(self) -> str:
        """The hollow shape in 3-d, for trials that cannot be on a front; a circle if plotly has no hollow form."""
        return f"{self.in_space}-open" if self.in_space in ("circle", "square", "diamond") else "circle-open"

    @property
    def line(self) -> Any:
        """Matplotlib's name of the line's pattern."""
        return (0, self.dashes) if self.dashes else "-"

    @property
    def plotly_line(self) -> str:
        """Plotly's name of the same pattern."""
        return ",".join(f"{2 * length:g}px" for length in self.dashes) or "solid"


STYLES: dict[str, MethodStyle] = {
    "natural": MethodStyle(label="natural", marker="o", symbol="circle", colour="#000000"),
    "gradient_regularization": MethodStyle(
        label="GR", marker="s", symbol="square", colour="#E69F00", dashes=(1.0, 1.5)
    ),
    "locally_linear": MethodStyle(
        label="LLR", marker="D", symbol="diamond", colour="#009E73", dashes=(3.0, 1.0, 1.0, 1.0)
    ),
    "adversarial_training": MethodStyle(
        label="AT", marker="^", symbol="triangle-up", colour="#0072B2", dashes=(5.0, 1.5)
    ),
    "robust_self_training": MethodStyle(
        label="RST", marker="v", symbol="triangle-down", colour="#CC79A7", dashes=(3.0, 1.0, 1.0, 1.0, 1.0, 1.0)
    ),
    "trades": MethodStyle(label="TRADES", marker="P", symbol="cross", colour="#D55E00", dashes=(2.0, 1.0)),
    "lipschitz_penalty": MethodStyle(
        label="LipPen", marker=(4, 1, 0), symbol="star-diamond", colour="#4D80FF", dashes=(8.0, 1.0, 2.0, 1.0)
    ),
    "fat": MethodStyle(label="FAT", marker="8", symbol="octagon", colour="#E6004D", dashes=(1.5, 1.5, 4.0, 1.5)),
    "hat": MethodStyle(label="HAT", marker="d", symbol="diamond-tall", colour="#4D334D", dashes=(9.0, 2.0)),
    "mart": MethodStyle(label="MART", marker=(6, 1, 0), symbol="hexagram", colour="#801A00", dashes=(2.0, 2.0)),
    "score": MethodStyle(label="SCORE", marker="H", symbol="hexagon2", colour="#B3B3FF", dashes=(4.0, 1.0, 4.0, 3.0)),
    "n_fgsm": MethodStyle(
        label="N-FGSM", marker=(3, 1, 0), symbol="star-triangle-up", colour="#0033B3", dashes=(1.0, 1.0, 1.0, 3.0)
    ),
    "mtl_ibp": MethodStyle(
        label="MTL-IBP", marker=(4, 1, 45), symbol="star-square", colour="#0000FF", dashes=(5.0, 3.0, 1.0, 3.0)
    ),
    "large_margin": MethodStyle(
        label="margin", marker=(3, 1, 180), symbol="star-triangle-down", colour="#99CC80", dashes=(10.0, 4.0)
    ),
}

PAPER_METHODS = tuple(STYLES)[:6]
"""The methods that Yang et al. 2020 compared."""

_FREE = (
    ("X", "x", "#56B4E9", (7.0, 1.0)),
    ("*", "star", "#F0E442", (1.0, 3.0)),
    ("p", "pentagon", "#882255", (6.0, 1.0, 1.0, 1.0)),
    ("h", "hexagon", "#44AA99", (4.0, 3.0)),
    ("<", "triangle-left", "#999933", (2.0, 3.0)),
    (">", "triangle-right", "#332288", (6.0, 1.0, 3.0, 1.0)),
)


def short_name(method: str, /) -> str:
    """Return a method's short name, "AT"; of one from elsewhere, `module:Name`, the part after the colon."""
    return STYLES[method].label if method in STYLES else method.rpartition(":")[2]


def styles_for(methods: Iterable[str], /) -> dict[str, MethodStyle]:
    """Return a style for each method: from `STYLES`, or for other methods a free one, assigned in order of name.

    The result follows the order of `STYLES`, other methods last. With more other methods than free styles, styles
    repeat.
    """
    present = set(methods)
    styles = {method: style for method, style in STYLES.items() if method in present}
    for position, method in enumerate(sorted(present - set(STYLES))):
        marker, symbol, colour, dashes = _FREE[position % len(_FREE)]
        styles[method] = MethodStyle(
            label=short_name(method), marker=marker, symbol=symbol, colour=colour, dashes=dashes
        )
    return styles


def trial_colours(methods: Mapping[str, str], /) -> dict[str, str]:
    """Return a colour for the line of each trial: tones of its method's colour, which differ within one method.

    Args:
        methods: The method of each trial.
    """
    colours: dict[str, str] = {}
    for method, style in styles_for(methods.values()).items():
        trials = [trial for trial, of in methods.items() if of == method]
        colours |= dict(zip(trials, style.tones(len(trials)), strict=True))
    return colours


def _mixed(colour: str, ground: str, *, share: float) -> str:
    pairs = [(int(colour[at : at + 2], 16), int(ground[at : at + 2], 16)) for at in (1, 3, 5)]
    return "#" + "".join(f"{round(below + (above - below) * share):02X}" for above, below in pairs)
