"""What is asked of run.json before anything in it is trusted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from suite.checks import texts, untrusted
from suite.naming import indented_json

TEXTS = (
    st.text()
    | st.text(st.characters(max_codepoint=0x100))
    | st.sampled_from(["<b>", "a\tb", "\x7f", "\\", '"', "e\u0301", "ü", "\u2028"])
)


@given(st.dictionaries(TEXTS, TEXTS | st.lists(TEXTS), max_size=4))
def test_the_bytes_of_a_file_without_odd_texts_need_no_second_look(value: dict[str, object]) -> None:
    """A text is looked at alone wherever the file holds a byte without which it could not be odd."""
    inner = [part for v in value.values() for part in (v if isinstance(v, list) else [v])]
    if any(texts.odd(str(text)) for text in (*value, *inner)):
        assert untrusted._ODD.search(indented_json(value).encode("utf-8", "surrogatepass"))
