"""Submissions: the main file, files read in, and what of the text is kept."""

import pytest

from arriero.data.latex.document import cut, decode, extract, find_main

BODY = r"""
\documentclass{article}
\newcommand{\R}{\mathbb{R}}
\title{T}
\begin{document}
\maketitle
\begin{abstract}Short.\end{abstract}
\section{One}
In $\R$.
\subsection*{Two} More.
\begin{thebibliography}{9}\bibitem{a} A.\end{thebibliography}
\appendix
\section{Proofs}
\end{document}
"""


def test_from_the_first_section_to_the_bibliography() -> None:
    found = extract({"a.tex": BODY}, "a.tex")
    assert found.text == "\\section{One}\nIn $\\mathbb{R}$.\n\\subsection*{Two} More."


def test_the_abstract_too() -> None:
    assert extract({"a.tex": BODY}, "a.tex", start="abstract").text.startswith("\\begin{abstract}Short.")


def test_macros_may_stay() -> None:
    text = extract({"a.tex": BODY.replace("In", "In%c\n")}, "a.tex", expand=False).text
    assert "\\R" in text and "%" not in text


@pytest.mark.parametrize(
    "end",
    [
        "\\appendix",
        "\\bibliography{refs}",
        "\\printbibliography",
        "\\begin{references}",
        "\\begin{appendices}",
        "\\end{document}",
    ],
)
def test_ends(end: str) -> None:
    assert cut(f"\\section{{A}} x {end} y") == "\\section{A} x"


@pytest.mark.parametrize(
    "name", ["chapter", "section", "subsection", "subsubsection", "paragraph", "subparagraph", "part"]
)
def test_starts(name: str) -> None:
    assert cut(f"before \\{name}*[short]{{A}} x") == f"\\{name}*[short]{{A}} x"


def test_no_section_no_text() -> None:
    assert cut("only text \\sectionmark{x}") == ""


def test_a_section_in_the_preamble_is_none() -> None:
    assert cut("\\titleformat{\\section}{x}\\section{no}\\begin{document}\\section{yes}").startswith(
        "\\section{yes}"
    )


def test_files_are_read_in() -> None:
    files = {
        "paper/main.tex": "\\documentclass{article}\\usepackage{mine,amsmath}\\input{macros}\\begin{document}"
        "\\input{sections/one.tex}\\include{two}\\input three \\input{missing}\\end{document}",
        "paper/mine.sty": "\\newcommand{\\q}{Q@mine}\\def\\mine@x{X}\\newcommand{\\w}{\\mine@x}",
        "paper/macros.tex": "\\newcommand{\\p}{P}",
        "paper/sections/one.tex": "\\section{One}\\p\\q\\w",
        "two.tex": "Two",
        "paper/three.tex": "Three",
    }
    assert find_main(files) == "paper/main.tex"
    assert extract(files, "paper/main.tex").text == "\\section{One}PQ@mineXTwoThree\\input{missing}"


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../secret", "main"])
def test_nothing_outside_is_read_and_no_file_for_ever(name: str) -> None:
    files = {"main.tex": f"\\section{{A}}\\input{{{name}}}"}
    assert "\\input" in extract(files, "main.tex").text


def test_main_is_the_one_that_no_other_reads_in() -> None:
    document = "\\documentclass{a}\\begin{document}\\section{x}"
    files = {
        "supplement.tex": document,
        "paper.tex": document + "x",
        "big.tex": "\\input{other}" + "x" * 500,
        "commented.tex": "%" + document,
    }
    assert find_main(files) == "paper.tex"
    assert find_main({"a.tex": document + "long", "b.tex": document}) == "a.tex"
    assert find_main({"a.tex": document + "\\input{b}", "b.tex": document + "longer" * 9}) == "a.tex"
    assert find_main({"readme.txt": "no tex", "fig.tex": "\\begin{tikzpicture}"}) == "fig.tex"
    assert find_main({"a.bib": "\\x", "readme.txt": "none"}) is None


def test_encodings() -> None:
    assert decode("é".encode("latin-1")) == "é"
    assert decode(b"\xef\xbb\xbfx") == "x"
    assert decode("\\usepackage[cp1251]{inputenc} где".encode("cp1251")).endswith("где")
