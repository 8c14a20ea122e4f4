"""Supported picture formats, `open_picture`, and the reasons why other formats are skipped."""

from functools import cache
from io import BytesIO
from pathlib import Path

from PIL import Image

# Pillow recognises a format by content, not by extension. Not allowed are EPS, a program that Pillow passes to Ghostscript;
# IPTC, which opens any format inside it; and formats that Pillow recognises but cannot decode.
ALLOWED = (
    "JPEG", "PNG", "MPO", "GIF", "WEBP", "TIFF", "BMP", "DIB", "AVIF", "HEIF", "JPEG2000", "PPM", "TGA", "ICO", "CUR", "ICNS",
    "PCX", "DCX", "PSD", "SGI", "QOI", "DDS", "SUN", "XBM", "XPM", "MSP", "IM", "FITS", "FLI", "BLP", "FTEX", "PIXAR",
    "SPIDER",
)  # fmt: skip
RAW = "camera raw files are not read: export it as JPEG or TIFF"
DRAWING = "drawings are not read, only pixels: export it as PNG"
UNSUPPORTED = {
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
    """The allowed formats that this installation can decode; HEIF only if pillow-heif is installed."""
    Image.init()
    try:
        import pillow_heif
    except ImportError:
        pass
    else:
        pillow_heif.register_heif_opener(thumbnails=False)
    return tuple(name for name in ALLOWED if name in Image.OPEN)


@cache
def extensions() -> frozenset[str]:
    """The extensions of supported formats, lower case, with the dot."""
    readable = set(formats())
    return frozenset(ending for ending, name in Image.registered_extensions().items() if name in readable)


@cache
def unsupported_formats() -> dict[str, str]:
    """Maps extensions of unsupported picture formats to the reason and the way out."""
    return {ending: why for ending, why in UNSUPPORTED.items() if ending not in extensions()}


def open_picture(source: Path | BytesIO) -> Image.Image:
    """`Image.open` for the allowed formats only. All pictures of users are opened by this function.

    Args:
        source: a path, or the bytes of a file.

    Raises:
        UnidentifiedImageError: the format is not allowed, whatever the extension.
        OSError: see `Image.open`.
    """
    return Image.open(source, formats=formats())
