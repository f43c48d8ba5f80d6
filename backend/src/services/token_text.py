"""The text of a personal token. Scanners find the text, and the text reveals a typing error.

The text has a prefix, 32 random digits in base 62 (190 bits), and 6 digits with the CRC-32 of the
random digits.
"""

from hashlib import sha256
from secrets import choice
from string import ascii_letters, digits
from zlib import crc32

PREFIX = "taskapi_"

PATTERN = rf"\b{PREFIX}[0-9A-Za-z]{{38}}\b"
"""For secret scanners."""

_DIGITS = digits + ascii_letters
_RANDOM = 32
_CHECKED = 6
_PREFIX_BYTES = PREFIX.encode()


def new_token_text() -> str:
    random = "".join(choice(_DIGITS) for _ in range(_RANDOM))
    return f"{PREFIX}{random}{_checksum(random.encode())}"


def is_personal(token: bytes) -> bool:
    """Whether this is, or was meant to be, a personal token."""
    return token.startswith(_PREFIX_BYTES)


def is_whole(token: bytes) -> bool:
    """Whether `new_token_text` may have made this text: no part is absent, added or changed."""
    random, checksum = token[len(PREFIX) : -_CHECKED], token[-_CHECKED:]
    return len(random) == _RANDOM and checksum == _checksum(random).encode()


def hash_of(token: bytes) -> bytes:
    return sha256(token).digest()


def _checksum(random: bytes) -> str:
    number, text = crc32(random), ""
    for _ in range(_CHECKED):
        number, digit = divmod(number, len(_DIGITS))
        text += _DIGITS[digit]
    return text
