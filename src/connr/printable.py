"""Escapes control characters of untrusted text for a terminal."""

import re

# Control characters except tab and line feed, non-UTF-8 bytes (PEP 383), separators and marks of text direction.
_UNFIT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    r"""The text with each such character as an escape sequence: \x1b, \u202e; a non-UTF-8 byte as \xff."""
    return _UNFIT.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    if 0xDC80 <= code <= 0xDCFF:
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
