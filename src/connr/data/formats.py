"""Which picture formats are opened, the one function that opens a picture, and why other formats are left out."""

from functools import cache
from io import BytesIO
from pathlib import Path

from PIL import Image

# Pillow recognises a format by content, whatever the ending. Left out are EPS, which is a program that Pillow hands to
# Ghostscript; IPTC, which opens any format that lies within it; and formats that Pillow recognises but cannot decode.
ALLOWED = (
    "JPEG", "PNG", "MPO", "GIF", "WEBP", "TIFF", "BMP", "DIB", "AVIF", "HEIF", "JPEG2000", "PPM", "TGA", "ICO", "CUR", "ICNS",
    "PCX", "DCX", "PSD", "SGI", "QOI", "DDS", "SUN", "XBM", "XPM", "MSP", "IM", "FITS", "FLI", "BLP", "FTEX", "PIXAR",
    "SPIDER",
)  # fmt: skip
RAW = "camera raw files are not read: export it as JPEG or TIFF"
DRAWING = "drawings are not read, only pixels: export it as PNG"
NOT_READ = {
    **dict.fromkeys((".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".pef", ".srw"), RAW),
    **dict.fromkeys((".svg", ".svgz", ".eps", ".ps", ".ai", ".wmf", ".emf"), DRAWING),
    **{
        ending: f"{ending} files are not read: export it as PNG or TIFF" for ending in (".jxl", ".exr", ".hdr", ".xcf", ".psb")
    },
    **dict.fromkeys((".heic", ".heif", ".hif", ".heics", ".heifs"), 'HEIC needs pillow-heif: pip install "connr[heif]"'),
    **dict.fromkeys((".avif", ".avifs"), "AVIF needs a newer Pillow: pip install -U pillow"),
}


@cache
def formats() -> tuple[str, ...]:
    """The allowed formats that this machine can decode, HEIF among them where pillow-heif is installed."""
    Image.init()
    try:
        import pillow_heif
    except ImportError:
        pass
    else:
        pillow_heif.register_heif_opener(thumbnails=False)
    return tuple(name for name in ALLOWED if name in Image.OPEN)


@cache
def endings() -> frozenset[str]:
    """The endings of the formats that are read, lower case."""
    readable = set(formats())
    return frozenset(ending for ending, name in Image.registered_extensions().items() if name in readable)


@cache
def not_read() -> dict[str, str]:
    """Endings of pictures of formats that are not read here -> why, and what to do about it."""
    return {ending: why for ending, why in NOT_READ.items() if ending not in endings()}


def open_picture(source: Path | BytesIO) -> Image.Image:
    """`Image.open` for the allowed formats only; every picture of a user is opened here.

    Args:
        source: a path, or the bytes of a file.

    Raises:
        UnidentifiedImageError: it is of no allowed format, whatever its name says.
        OSError: as of `Image.open`.
    """
    return Image.open(source, formats=formats())
