"""TeX's tokens: categories, comments, verbatim text, and the way back to source."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arriero.data.latex.tokenizer import CONTROL, PARAGRAPH, VERBATIM, Lexer, Token, render, tokenize


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("ends in [1].%note\nNext", "ends in [1].Next"),
        ("a %note\nb", "a b"),
        ("a\n% a whole line\nb", "a\nb"),
        ("50\\% of it%x\n", "50\\% of it"),
        ("\\\\%x\ny", "\\\\y"),
        ("\\\\\\%x", "\\\\\\%x"),
        ("end%x\n\nparagraph", "end\n\nparagraph"),
        ("x%", "x"),
        ("%only", ""),
        ("a%\r\n  b", "ab"),
        ("\\verb|50%| of", "\\verb|50%| of"),
        ("\\url{http://a/%20b} c%d", "\\url{http://a/%20b} c"),
        ("\\href{http://a/%20b#c}{text}", "\\href{http://a/%20b#c}{text}"),
        ("\\begin{verbatim}\n50% of\n\\end{verbatim}", "\\begin{verbatim}\n50% of\n\\end{verbatim}"),
        ("\\begin{comment}\nall of it\n\\end{comment}rest", "rest"),
        (
            "\\begin{lstlisting}[x]\n% code\n\\end{lstlisting}%t",
            "\\begin{lstlisting}[x]\n% code\n\\end{lstlisting}",
        ),
    ],
)
def test_comments_go_and_nothing_else(source: str, expected: str) -> None:
    assert render(tokenize(source)) == expected


def test_kinds() -> None:
    tokens = tokenize("\\alpha  x\n\n\\&\\verb|a|")
    assert tokens[0] == Token(CONTROL, "alpha", "  ")
    assert [token.kind for token in tokens[2:]] == [PARAGRAPH, CONTROL, VERBATIM]


def test_at_is_a_letter_where_a_package_says_so() -> None:
    lexer = Lexer("\\a@b \\a@b")
    assert lexer.next() == Token(CONTROL, "a")
    lexer.at_is_letter(True)
    assert lexer.next() is not None and lexer.next() is not None
    lexer = Lexer("\\a@b")
    lexer.at_is_letter(True)
    assert lexer.next() == Token(CONTROL, "a@b")


def test_a_control_word_is_kept_apart_from_a_letter() -> None:
    assert render([Token(CONTROL, "alpha"), *tokenize("x")]) == "\\alpha x"
    assert render([Token(CONTROL, "alpha"), *tokenize("1")]) == "\\alpha1"
    assert render([Token(CONTROL, "&"), *tokenize("x")]) == "\\&x"


@given(st.text(alphabet="ab \\{}$#~_^&[]=*1\n\t|", max_size=60))
def test_text_without_comments_comes_out_as_it_went_in(source: str) -> None:
    assert render(tokenize(source)) == source


@given(st.text(max_size=80))
def test_no_text_is_refused(source: str) -> None:
    assert isinstance(render(tokenize(source)), str)
