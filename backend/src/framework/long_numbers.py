"""JSON whose whole numbers may have any length.

Parsers turn whole numbers into integers. The time grows with the square of the digits, and more
than 4,300 digits are refused. So a long number stays a text.
"""

from dataclasses import dataclass
from itertools import chain, zip_longest
from json import JSONDecoder, JSONEncoder
from typing import Any

from pydantic_core import PydanticSerializationError, from_json, to_json

STEP = 16
LONG = 8 * STEP
"""`read_json` notices every number that has at least this many digits."""

MOST_DIGITS = 18
"""If JSON has a number of LONG digits, every number of more digits than this stays a text."""

_DIGITS_AS_ZEROS = bytes(ord("0") if chr(byte) in "0123456789" else 0 for byte in range(256))

_MANY_ZEROS = b"0" * (LONG // STEP)

_MARK = "\ud800"
"""No text has this mark: `read_json` refuses lone surrogates."""


@dataclass(slots=True)
class LongNumber:
    """A whole number, as JSON writes it."""

    digits: str

    def __str__(self) -> str:
        return self.digits


def _whole_number(digits: str) -> int | LongNumber:
    return int(digits) if len(digits) <= MOST_DIGITS else LongNumber(digits)


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is not JSON")


_decode = JSONDecoder(parse_int=_whole_number, parse_constant=_refuse).decode


def read_json(json: bytes) -> Any:  # noqa: ANN401 - JSON
    """Parse strict JSON (RFC 8259) of limited depth. Raises ValueError."""
    if len(json) < LONG or _MANY_ZEROS not in json[::STEP].translate(_DIGITS_AS_ZEROS):
        return from_json(json, allow_inf_nan=False)
    try:
        value = _decode(json.decode())
        to_json(value)  # refuses the same as `from_json`
    except (RecursionError, PydanticSerializationError):
        raise ValueError("a lone surrogate or too many levels") from None
    return value


def json_text(value: object) -> str:
    """Write what `read_json` returned."""
    numbers: list[str] = []

    def mark(number: LongNumber) -> str:
        numbers.append(number.digits)
        return _MARK

    text = JSONEncoder(ensure_ascii=False, default=mark).encode(value)
    if not numbers:
        return text
    pieces = text.split(f'"{_MARK}"')
    return "".join(chain.from_iterable(zip_longest(pieces, numbers, fillvalue="")))
