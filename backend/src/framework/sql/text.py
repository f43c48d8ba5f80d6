"""Text as people compare it, the same on every PostgreSQL: nothing here needs ICU or a locale."""

from typing import Any, Literal

from sqlalchemy import ColumnElement, Enum, String, TypeDecorator, case, func, literal_column, or_

# In NFKD, a mark follows its letter: the marks of Latin, Greek, Cyrillic, Hebrew, Arabic and kana.
_MARKS = r"\u0300-\u036f\u0483-\u0487\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u3099\u309a"

# Letters that NFKD leaves whole.
_WHOLE = {"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "ħ": "h", "ŧ": "t"}

# Greek and Cyrillic are here, too: where LC_CTYPE is C, PostgreSQL's `lower` knows ASCII only.
_CAPITALS = "ẞÆŒØŁĐĦŦ" + "".join(
    letter for letter in map(chr, range(0x370, 0x430)) if letter.lower() != letter
)


def _quoted(text: str) -> ColumnElement[str]:
    return literal_column(f"'{text}'")


def _is_ascii(text: ColumnElement[Any]) -> ColumnElement[bool]:
    return func.octet_length(text) == func.length(text)


def normalized(text: ColumnElement[Any], form: Literal["NFC", "NFKC"]) -> ColumnElement[str]:
    """Return the text in a normal form of Unicode. Most texts are normal, and cost little."""
    is_normal = or_(_is_ascii(text), func.is_normalized(text, _quoted(form)))
    return case((is_normal, text), else_=func.normalize(text, literal_column(form)))


def is_text(column: ColumnElement[Any]) -> bool:
    kind = column.type
    kind = kind.impl_instance if isinstance(kind, TypeDecorator) else kind
    return isinstance(kind, String) and not isinstance(kind, Enum)


def letters_and_marks(text: ColumnElement[Any]) -> ColumnElement[str]:
    """Return what to sort text by: `apple`, `Äpfel`, `Zebra`, and `resume` before `résumé`.

    If two texts have the same result, sort by the texts themselves, in descending order of "C".
    Then small letters come first.
    """
    small = func.lower(func.normalize(text, literal_column("NFKD")))
    # PostgreSQL decides once, when it plans the statement.
    knows_all = func.lower(_quoted("Я")) == _quoted("я")
    translated = func.translate(small, *map(_quoted, (_CAPITALS, _CAPITALS.lower())))
    letters: Any = case((knows_all, small), else_=translated)
    marks = case((knows_all, func.lower(text)), else_=translated)
    letters = func.regexp_replace(letters, _quoted(f"[{_MARKS}]"), _quoted(""), _quoted("g"))
    for letter, base in _WHOLE.items():
        letters = func.replace(letters, _quoted(letter), _quoted(base))
    marked = letters.op("||")(func.chr(literal_column("1"))).op("||")(marks)
    return case((_is_ascii(text), func.lower(text)), else_=marked).collate("C")
