"""What a VNN-LIB 1.0 text means, by another reader: it evaluates the text at a point.

It shares nothing with the one under test: recursive descent, rationals throughout.
"""

from __future__ import annotations

from fractions import Fraction

Tree = "str | list[Tree]"


class NoQuery(Exception):
    """The text is not of the language."""


def forms(text: str) -> list:
    """Nested lists of words."""
    lines = text.replace("\r", "\n").split("\n")
    text = "\n".join(line.split(";", 1)[0] for line in lines)
    for character in "()":
        text = text.replace(character, f" {character} ")
    stack: list[list] = [[]]
    for word in text.split():
        if word == "(":
            stack.append([])
        elif word == ")":
            inner = stack.pop()
            if not stack:
                raise NoQuery
            stack[-1].append(inner)
        else:
            stack[-1].append(word)
    if len(stack) != 1:
        raise NoQuery
    return stack[0]


def term(tree, values: dict[str, Fraction]) -> Fraction:
    """The value of a term."""
    if isinstance(tree, str):
        if tree in values:
            return values[tree]
        try:
            return Fraction(float(tree))
        except ValueError:
            raise NoQuery from None
    head, *parts = tree
    found = [term(part, values) for part in parts]
    if head == "+":
        return sum(found, Fraction(0))
    if head == "-":
        return -found[0] if len(found) == 1 else found[0] - sum(found[1:], Fraction(0))
    if head == "*":
        total = Fraction(1)
        for value in found:
            total *= value
        return total
    raise NoQuery


def truth(tree, values: dict[str, Fraction]) -> bool:
    """Whether a formula holds."""
    if not isinstance(tree, list) or not tree:
        raise NoQuery
    head, *parts = tree
    if head in ("and", "or"):
        found = [truth(part, values) for part in parts]  # all of them: a part may be no formula
        return all(found) if head == "and" else any(found)
    left, right = (term(part, values) for part in parts)
    return {"<=": left <= right, ">=": left >= right}[head]


def unsafe(tree: list, values: dict[str, Fraction]) -> bool:
    """Whether all assertions hold."""
    found = [truth(form[1], values) for form in tree if form[0] == "assert"]
    return all(found)
