"""Image files as cameras and other programs write them: decoded as a viewer shows them, or refused in one line."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from helpers.networks.image_files import cyclic_labels, encode, parquet_table, random_images
from PIL import Image

from trainables.data import DataError
from trainables.data.decoding import decoded
from trainables.data.parquet import read_images
from trainables.data.restricted_imagenet import _decode

PICTURE = random_images(1, (3, 80, 100))[0]
TURNS = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.transpose(1, 0, 2),
    6: lambda x: x.transpose(1, 0, 2)[:, ::-1],
    7: lambda x: x.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda x: x.transpose(1, 0, 2)[::-1],
}
"""What EXIF's orientations mean for (h, w, c), from its definition: where row 0 and column 0 of a file are seen."""


def png(samples: np.ndarray, *, colours: int) -> bytes:
    """Encode 16-bit samples (h, w, c) as PNG by its definition."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    head = struct.pack(">IIBBBBB", *samples.shape[1::-1], 16, colours, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        chunk(*one) for one in ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    )


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def turned(orientation: int, kind: str = "PNG") -> bytes:
    exif = Image.Exif()
    exif[0x112] = orientation
    return saved(Image.fromarray(PICTURE.transpose(1, 2, 0)), kind, exif=exif)


@pytest.mark.parametrize("orientation", TURNS)
def test_an_image_is_upright_in_parquet_and_in_folders(tmp_path: Path, orientation: int) -> None:
    content, upright = turned(orientation), TURNS[orientation](PICTURE.transpose(1, 2, 0))
    pq.write_table(parquet_table([content], cyclic_labels(1)), tmp_path / "pool.parquet")
    np.testing.assert_array_equal(read_images([tmp_path / "pool.parquet"])[0], upright.transpose(2, 0, 1))
    (tmp_path / "turned.png").write_bytes(content)
    (tmp_path / "upright.png").write_bytes(saved(Image.fromarray(np.ascontiguousarray(upright)), "PNG"))
    np.testing.assert_array_equal(_decode(tmp_path / "turned.png"), _decode(tmp_path / "upright.png"))


@pytest.mark.parametrize("kind", ["JPEG", "TIFF", "WEBP"])
def test_other_formats_are_turned_too_and_once(kind: str) -> None:
    assert decoded(turned(6, kind), where="x").size == (80, 100)


@pytest.mark.parametrize(
    "exif",
    [
        b"garbage", b"II*\0\xff\xff\xff\xff", b"", b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02",
        b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x09\0\0\0\0\0\0",
    ],
    ids=["garbage", "offset", "empty", "cut", "orientation-9"],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_exif_data_without_an_orientation_turn_nothing(exif: bytes) -> None:
    content = saved(Image.fromarray(PICTURE.transpose(1, 2, 0)), "PNG", exif=b"Exif\0\0" + exif)
    np.testing.assert_array_equal(np.asarray(decoded(content, where="x")), PICTURE.transpose(1, 2, 0))


def test_damaged_exif_data_say_nothing_on_the_terminal(tmp_path: Path) -> None:
    exif = b"Exif\0\0II*\0\xff\xff\xff\xff"
    (tmp_path / "a.png").write_bytes(saved(Image.fromarray(PICTURE[0]), "PNG", exif=exif))
    code = "from pathlib import Path; from trainables.data.decoding import decoded; decoded(Path('a.png'), where='x')"
    line = [sys.executable, "-W", "default", "-c", code]
    paths = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    shown = subprocess.run(line, cwd=tmp_path, env=paths, capture_output=True, text=True, check=True)
    assert (shown.stdout, shown.stderr) == ("", "")


@pytest.mark.parametrize("shape", [(1, 8, 6), (3, 8, 6)])
def test_ordinary_images_are_as_pillow_reads_them(shape: tuple[int, int, int]) -> None:
    content = encode(random_images(1, shape)[0])
    with Image.open(io.BytesIO(content)) as plain:
        np.testing.assert_array_equal(np.asarray(decoded(content, where="x")), np.asarray(plain))


SAMPLES = np.random.default_rng(0).integers(0, 65536, (8, 8, 4))
FRAMES = {"save_all": True, "append_images": [Image.new("RGB", (8, 8), "red")]}


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (png(SAMPLES[..., :1], colours=0), "pixels must have 8 bits, got mode I;16: rescale the images to 0..255"),
        (png(SAMPLES[..., :3], colours=2), "pixels must have 8 bits, got mode RGB;16B: rescale"),
        (png(SAMPLES, colours=6), "pixels must have 8 bits, got mode RGBA;16B: rescale"),
        (png(SAMPLES[..., :2], colours=4), "pixels must have 8 bits, got mode LA;16B: rescale"),
        *((saved(Image.new("RGB", (8, 8)), kind, **FRAMES), "a file must hold one image, got 2 frames: save one")
          for kind in ("GIF", "TIFF", "PNG", "WEBP")),
        (encode(PICTURE)[:-300], "cannot be decoded: "),
    ],
    ids=["grey", "colour", "alpha", "grey-alpha", "gif", "tiff", "apng", "webp", "cut"],
)  # fmt: skip
def test_what_pillow_would_read_wrongly_is_refused(tmp_path: Path, content: bytes, line: str) -> None:
    (tmp_path / "a.png").write_bytes(content)
    for use in (lambda: decoded(content, where="x"), lambda: _decode(tmp_path / "a.png")):
        with pytest.raises(DataError, match=line) as caught:
            use()
        assert "\n" not in str(caught.value)


def test_sixteen_bits_that_pillow_scales_and_previews_of_cameras_are_read() -> None:
    values = np.arange(0, 192, 4).reshape(4, 4, 3) * 257
    pixmap = b"P6\n4 4\n65535\n" + values.astype(">u2").tobytes()
    np.testing.assert_array_equal(np.asarray(decoded(pixmap, where="x")), values // 257)
    picture = Image.fromarray(PICTURE.transpose(1, 2, 0))
    content = saved(picture, "MPO", save_all=True, append_images=[picture.resize((8, 8))])
    assert decoded(content, where="x").size == picture.size
