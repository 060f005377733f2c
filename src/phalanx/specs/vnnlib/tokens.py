"""A text as nested forms: parentheses and words, nothing skipped but blanks and comments."""

from __future__ import annotations

import re
from dataclasses import dataclass

from phalanx.errors import QueryError

# Every character is a blank, in a comment, or in a word: none can get lost. An index such as
# X[0, 3] is one word, a shape such as [1, 5] another.
_INDEX = r"\[[^\[\]();]*\]"
_WORDS = re.compile(rf";[^\n\r]*|[()]|[^ \t\r\n();\[\]]+(?:{_INDEX})?|{_INDEX}|[\[\]]")

DEEPEST = 64
"""Parentheses within one another."""


class Form(list["Form | str"]):
    """The words and forms between a pair of parentheses.

    Attributes:
        at: number of the opening parenthesis among the words of the text.
    """

    __slots__ = ("at",)

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at

    @property
    def head(self) -> str:
        """The first word; empty where there is none."""
        return self[0] if self and isinstance(self[0], str) else ""


@dataclass(frozen=True)
class Script:
    """A text in forms.

    Attributes:
        forms: those at the outside, in order.
        text, source: for messages.
    """

    forms: list[Form]
    text: str
    source: str

    def wrong(self, form: Form, what: str, *, why: str = "", repair: str = "") -> QueryError:
        """An error that says in which line the form begins."""
        return _error(self.text, self.source, form.at, what, why=why, repair=repair)


def scan(text: str, source: str) -> Script:
    """The forms of a text.

    Raises:
        QueryError: parentheses that do not match, are too deep, or words outside of them.

    >>> [list(form) for form in scan("(a (b c))(d) ; (e)", "text").forms]
    [['a', ['b', 'c']], ['d']]
    """
    words = [word for word in _WORDS.findall(text) if word[0] != ";"]
    outside = Form(-1)
    stack = [outside]
    for at, word in enumerate(words):
        if word == "(":
            if len(stack) > DEEPEST:
                raise _error(text, source, at, f"more than {DEEPEST} open parentheses")
            inner = Form(at)
            stack[-1].append(inner)
            stack.append(inner)
        elif word == ")":
            if len(stack) == 1:
                raise _error(text, source, at, "a closing parenthesis that nothing opened")
            stack.pop()
        elif len(stack) == 1:
            raise _error(text, source, at, f"{word[:40]!r} outside of parentheses")
        else:
            stack[-1].append(word)
    if len(stack) > 1:
        raise _error(text, source, stack[-1].at, "an opening parenthesis that nothing closes")
    forms = [form for form in outside if isinstance(form, Form)]
    if not forms:
        raise QueryError(f"{source} is empty", why="no input is bounded, nothing is asked")
    return Script(forms, text, source)


def _error(text: str, source: str, at: int, what: str, **parts: str) -> QueryError:
    """Words were numbered, not placed, which is quicker; the line is found again here."""
    found = (match for match in _WORDS.finditer(text) if match[0][0] != ";")
    start = next((match.start() for number, match in enumerate(found) if number == at), 0)
    return QueryError(f"{source}, line {text.count(chr(10), 0, start) + 1}: {what}", **parts)
