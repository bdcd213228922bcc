"""Whether the text read so far ends in math mode: enough for ``\\ifmmode``; a blank line always ends it, as in TeX."""

from __future__ import annotations

from arriero.data.latex.tokenizer import OTHER, PARAGRAPH, Token

ENVIRONMENTS = frozenset(
    [
        "math",
        "displaymath",
        "equation",
        "align",
        "gather",
        "multline",
        "eqnarray",
        "flalign",
        "alignat",
        "xalignat",
    ]
)


class MathMode:
    """Fed with what comes out."""

    def __init__(self) -> None:
        self.on = False

    def see(self, token: Token) -> None:
        """A token that is no control sequence."""
        if token.kind == OTHER and token.text in ("$", "$$"):
            self.on = not self.on
        elif token.kind == PARAGRAPH:
            self.on = False

    def environment(self, name: str, begins: bool) -> None:
        """``\\begin{name}`` or ``\\end{name}``."""
        if name.rstrip("*") in ENVIRONMENTS:
            self.on = begins
