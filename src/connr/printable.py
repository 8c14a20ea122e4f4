"""Names from anywhere as text that a terminal may be shown: nothing in them moves the cursor, colours or reorders."""

import re

# Control characters but tab and line feed, bytes that are no UTF-8 (PEP 383), separators and marks that turn the direction.
_UNFIT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    r"""The text with each such character as an escape sequence: \x1b, \u202e; a byte that is no UTF-8 as \xff."""
    return _UNFIT.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    if 0xDC80 <= code <= 0xDCFF:
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
