"""Decode one image file: the rule for depth, orientation, frames and colour, for every data set of image files."""

from __future__ import annotations

import io
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from trainables.data.roots import DataError

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "PPM", "TIFF")
"""What is decoded: Pillow passes other formats on to programs such as Ghostscript."""

# entries of damaged EXIF data that nothing here reads; in the process, since images are decoded in threads
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

_SIXTEEN_BITS = re.compile(";16[BLN]")
_WITH_PREVIEWS = "MPO"
"""A camera's JPEG, whose first frame is the picture."""


def decoded(file: Path | bytes, /, *, where: str, most_pixels: int | None = None) -> Picture:
    """Return an image as Pillow's mode L if it is grey, else RGB, turned upright as its EXIF orientation says.

    Args:
        file: A path, or the encoded bytes.
        where: Which image it is, for messages.
        most_pixels: Most pixels that are decoded; None for Pillow's own limit.

    Raises:
        DataError: It cannot be decoded, has too many pixels or several frames, or more than 8 bits a channel, of which
            Pillow would drop the lower ones of colours and cut off grey at 255.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(file) if isinstance(file, bytes) else file, formats=FORMATS) as image:
            if most_pixels is not None and image.width * image.height > most_pixels:
                size = f"{image.width}x{image.height}"
                raise DataError(f"{where}: an image may have {most_pixels:,} pixels at most, got {size}")
            if (depth := _too_deep(image)) is not None:
                raise DataError(f"{where}: pixels must have 8 bits, got mode {depth}: rescale the images to 0..255")
            if image.format != _WITH_PREVIEWS and (frames := getattr(image, "n_frames", 1)) > 1:
                raise DataError(f"{where}: a file must hold one image, got {frames} frames: save one of them")
            upright = _upright(image)
            return upright.convert("L" if upright.mode in ("L", "LA", "1") else "RGB")
    except DataError:
        raise
    except UnidentifiedImageError as error:
        raise DataError(f"{where} cannot be decoded: it is none of {', '.join(FORMATS)}") from error
    except Exception as error:  # Pillow has no common class for the errors of damaged files
        raise DataError(f"{where} cannot be decoded: {' '.join(str(error).split())}") from error


def _upright(image: Picture) -> Picture:
    from PIL import ExifTags, ImageOps

    image.load()
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # noqa: BLE001 - damaged EXIF data, without an orientation; viewers show the image as it is
        return image
    return image if orientation == 1 else ImageOps.exif_transpose(image)


def _too_deep(image: Picture) -> str | None:
    """Return the mode of pixels of more than 8 bits, or None; Pillow's own mode of 16-bit colours is RGB."""
    if image.mode.startswith(("I", "F")):
        return image.mode
    raw = (str(tile.args[0] if isinstance(tile.args, tuple) else tile.args) for tile in getattr(image, "tile", ()))
    return next(filter(_SIXTEEN_BITS.search, raw), None)
