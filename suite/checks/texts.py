"""Texts from outside: what hides in them, and names that read like others."""

from __future__ import annotations

import re
import unicodedata
from functools import cache

from suite.naming import FILLERS, unreadable

#: what is seen as nothing, or changes what stands beside it: marks that combine, controls of direction, private and unassigned code
HIDDEN = frozenset({"Mn", "Me", "Cf", "Co", "Cn", "Cs"})
BLANK = "\u2800"  #: a pattern of Braille without a dot
LAYOUT = frozenset("\n\t")  #: of prose
DIGITS = str.maketrans("01", "ol")  #: that pass for letters
#: of the system itself, alike on every machine
_SYSTEM = ("/proc/", "/sys/", "/dev/", "/usr/", "/lib/", "/lib64/", "/bin/", "/etc/")
#: from a slash that nothing names stands before, or a drive's letter: folders one in the other, then a name
_ABSOLUTE = re.compile(r"(?<![\w.:/~>-])(?:/|[A-Za-z]:[\\/])(?:[^\s/\\:*?\"'<>|()\[\]{},;]+[/\\])+[^\s/\\:*?\"'<>|()\[\]{},;]*")
#: whoever's folder it is, whatever stands before it
_HOME = re.compile(r"/(?:home|Users|root)/[^\s\"'<>|()\[\]{},;]+")


def paths(text: str) -> list[str]:
    """Absolute paths in a text that are some machine's own; not those of its system."""
    if "/" not in text and "\\" not in text:
        return []
    found = _ABSOLUTE.findall(text) + _HOME.findall(text)
    return [path for path in dict.fromkeys(found) if not path.startswith(_SYSTEM)]


def odd(text: str, *, prose: bool = False) -> str:
    """What is wrong with a text; empty where nothing is.

    Args:
        prose: it may have several lines, and markup, which pages escape.
    """
    if not text.isascii():
        if any(c in FILLERS or c == BLANK or unicodedata.category(c) in HIDDEN for c in text):
            return "holds characters that are not seen, or combine with others"
        if unicodedata.normalize("NFC", text) != text:
            return "is written in another way than its composed characters"
    if prose:
        return "" if text.isprintable() or all(c.isprintable() or c in LAYOUT for c in text) else "holds control characters"
    return "" if text.isprintable() and "<" not in text and ">" not in text else "holds control characters or markup"


def nameless(name: str) -> str:
    """What is wrong with the name of who submits; empty where it is one that can be read and told from others."""
    return odd(name) or unreadable(name)


def alike(a: str, b: str) -> bool:
    """Whether two names read alike."""
    return bool(skeletons(a) & skeletons(b))


def skeletons(name: str) -> frozenset[str]:
    """A name without what is easily overlooked: case, punctuation, and characters that pass for others (Unicode's confusables).

    Two names read alike where they share one: a capital I is an i to who knows it as a capital, and an l to others.  After UTS 39.
    """
    plain = "".join(c for c in unicodedata.normalize("NFKD", name) if c.isalnum())
    return frozenset(map(_skeleton, (plain, plain.casefold())))


def _skeleton(plain: str) -> str:
    once = "".join(map(_first, plain)).casefold()
    return "".join(map(_first, once)).translate(DIGITS).replace("rn", "m").replace("vv", "w")


@cache
def _first(character: str) -> str:
    """The least letter or digit of those that a character is taken for, itself among them."""
    from confusable_homoglyphs import confusables

    found = confusables.is_confusable(character, greedy=True, preferred_aliases=[]) or []
    alike = {h["c"] for entry in found for h in entry["homoglyphs"]}
    ascii_ = sorted(c for c in {character, *alike} if len(c) == 1 and c.isascii() and c.isalnum())
    letters = [c for c in ascii_ if c.isalpha() and c.islower()] or ascii_
    return letters[0] if letters else character
