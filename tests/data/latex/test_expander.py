"""Macros: golden cases worked out by hand after TeX's rules, bounds, and fuzz."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arriero.data.latex.expander import Bounds, Expander, Expansion
from arriero.data.latex.primitives import HANDLERS


def expand(source: str, bounds: Bounds | None = None) -> Expansion:
    return Expander(HANDLERS, bounds=bounds or Bounds()).expand(source)


GOLDEN = [
    # LaTeX's commands
    (r"\newcommand{\R}{\mathbb R}$\R^n$", r"$\mathbb R^n$"),
    (r"\newcommand\R{\mathbb{R}}$\R$", r"$\mathbb{R}$"),
    (r"\newcommand*{\n}[1]{\lVert #1\rVert}$\n{x}\n y$", r"$\lVert x\rVert\lVert y\rVert$"),
    (r"\newcommand\x[2][d]{(#1,#2)}\x{a}\x[q]{b}\x ab", "(d,a)(q,b)(d,a)b"),
    ("\\newcommand{\\m}[1]{%\n  a #1 %\n  b}\\m{x}", "a x b"),
    (r"\newcommand{\E}[1]{E[#1]}\newcommand{\V}[1]{\E{#1^2}-\E{#1}^2}\V{X}", "E[X^2]-E[X]^2"),
    (r"\newcommand{\ip}[2]{<#1,#2>}\ip{a}{\ip{b}{c}}", "<a,<b,c>>"),
    (r"\newcommand{\a}{A}\renewcommand{\a}{B}\a", "B"),
    (r"\newcommand{\a}{A}\providecommand{\a}{B}\providecommand{\b}{C}\a\b", "AC"),
    (r"\DeclareMathOperator{\tr}{tr}$\tr A$", r"$\operatorname{tr}A$"),
    (r"\DeclareMathOperator*{\am}{arg\,max}$\am_x f$", r"$\operatorname*{arg\,max}_x f$"),
    (r"\newcommand{\outr}[1]{\newcommand{\innr}[1]{#1:##1}}\outr{A}\innr{B}", "A:B"),
    (r"\newcommand{\eps}{\epsilon}$\eps x$", r"$\epsilon x$"),
    # TeX's
    (r"\def\x#1.#2{<#1|#2>}\x abc.{de}f", "<abc|de>f"),
    (r"\def\x#1 #2.{(#2 #1)}\x one two.", "(two one)"),
    (r"\def\x[#1]{(#1)}\x[ab]", "(ab)"),
    (r"\def\x#1#{[#1]}\x ab{c}", "[ab]{c}"),
    (r"\def\x#1\stop#2{#1-#2}\x a{b\stop}c\stop d", "a{b\\stop}c-d"),
    (r"\def\be{\begin{equation}}\def\ee{\end{equation}}\be x\ee", r"\begin{equation}x\end{equation}"),
    (r"{\def\x{local}\x}\x{\gdef\y{all}}\y", r"{local}\x{}all"),
    (r"\def\h{1}\edef\q{\h+\h}\def\h{2}\q", "1+1"),
    (r"\def\h{1}\def\q{\h+\h}\def\h{2}\q", "2+2"),
    (r"\let\old\phi\renewcommand{\phi}{\old'}$\phi$", r"$\phi'$"),
    (r"\def\a{1}\let\b=\a\def\a{2}\b\a", "12"),
    (r"\long\def\x#1{(#1)}\global\def\y{Y}\x{a}\y", "(a)Y"),
    (r"\expandafter\def\csname foo\endcsname{bar}\foo", "bar"),
    (r"\newcommand{\mk}[1]{\expandafter\newcommand\csname b#1\endcsname{B#1}}\mk{x}\mk{y}\bx\by", "BxBy"),
    # xparse, mathtools, etoolbox, ifthen
    (r"\NewDocumentCommand{\f}{s o m O{z}}{\IfBooleanTF{#1}{S}{N}\IfNoValueTF{#2}{-}{#2}#3#4}\f{x}\f*[o]{y}[w]", "N-xzSoyw"),
    (r"\NewDocumentCommand\f{m d<> g}{#1\IfValueT{#2}{(#2)}\IfNoValueF{#3}{[#3]}}\f{a}\f{b}<c>{d}", "ab(c)[d]"),
    (r"\DeclarePairedDelimiter{\abs}{|}{|}$\abs*{x}$", r"$\left|x \right|$".replace("|x", "| x")),
    (r"\DeclarePairedDelimiterX{\ip}[2]{<}{>}{#1,#2}$\ip*{a}{b}$", r"$\left< a,b \right>$"),
    (r"\AtBeginDocument{\def\x{X}}\IfFileExists{a.cls}{\x}{\x\x}", "XX"),
    (r"\newcommand{\f}[1][]{\ifthenelse{\equal{#1}{}}{A}{A_{#1}}}\f\f[x]", "AA_{x}"),
    (r"\newcommand{\f}[1]{\ifblank{#1}{E}{F}}\f{ }\f{a}", "EF"),
    # looking ahead
    (r"\makeatletter\def\p#1{\@ifnextchar\bgroup{\p@a{#1}}{N#1}}\def\p@a#1#2{P#1#2}\makeatother\p{x}{y}\p z+", "PxyNz+"),
    (r"\makeatletter\newcommand{\s}{\@ifstar{S}{N}}\makeatother\s*\s", "SN"),
    (r"\makeatletter\def\o{\@ifnextchar[{\o@a}{\o@a[d]}}\def\o@a[#1]#2{#1#2}\makeatother\o{x}\o[y]{z}", "dxyz"),
    (r"\newcommand{\ie}{i.e.\xspace}\ie so \ie, {\ie}", "i.e. so i.e., {i.e.}"),
    # conditionals
    (r"\newif\ifd\dtrue\ifd D\else N\fi\dfalse\ifd D\else N\fi", "DN"),
    (r"\iffalse hidden \iftrue x\else y\fi\fi shown", "shown"),
    (r"\newcommand{\z}[1]{\ifx\\#1\\E\else N#1\fi}\z{}\z{ab}", "ENab"),
    (r"\def\e#1{\if\relax\detokenize{#1}\relax E\else N#1\fi}\e{}\e{ab}", "ENab"),
    (r"\def\e#1{\if!#1!E\else N\fi}\e{}\e{a}\if aay\else n\fi", "ENy"),
    (
        r"\makeatletter\def\lam#1{\lambda\@arg#1:\@end\@ifnextchar\bgroup{.\lam}{.}}"
        r"\def\@arg#1:#2\@end{\if\relax\detokenize{#2}\relax #1\else\@var{\@eat#2},#1\@endvar\fi}"
        r"\def\@var#1,#2\@endvar{(#2:#1)}\def\@eat#1:{#1}\makeatother$\lam{x:A}{y}b$",
        r"$\lambda(x:A).\lambda y.b$",
    ),
    (r"\newcommand{\path}[1]{P#1}\path{a}\url{b%c}", r"Pa\url{b%c}"),
    (r"\makeatletter\newcommand{\k}{\m@th\hskip\z@ x}\makeatother\k", r"\hskip0pt x"),
    (r"\newcommand{\nc}{\newcommand}\nc{\A}{a}\nc{\B}[1]{b#1}\A\B{c}", "abc"),
    (r"\newcommand{\v}[1]{\ifcat\noexpand#1\relax S\else L\fi}\v{x}\v{\alpha}\v{1}", "LSL"),
    (
        r"\def\one#1{\expandafter\def\csname b#1\endcsname{B#1}}"
        r"\def\all#1{\ifx#1\all\else\one#1\expandafter\all\fi}\all ABC\all\bA\bC",
        "BABC",
    ),
    (
        r"\makeatletter\@for\x:=P,Q\do{\expandafter\edef\csname c\x\endcsname{C\x}}"
        r"\@tfor\x:=RS\do{\expandafter\edef\csname c\x\endcsname{c\x}}\makeatother\cP\cQ\cR\cS",
        "CPCQcRcS",
    ),
    (r"\def\do#1{\expandafter\def\csname d#1\endcsname{D#1}}\docsvlist{A,B, C}\dA\dC", "DADC"),
    (r"\iftrue A\ifpackage B\else C\fi D\else E\fi F", r"A\ifpackage B\else C\fi DF"),
    (r"\iffalse A\ifpackage B\fi C\else D\fi $a\iff b$\iftrue x\fi", r"D$a\iff b$x"),
    (r"\ifnum 1<2 yes\else no\fi", "yes"),
    (r"\ifdim 1pt<2pt a\else b\fi", r"\ifdim 1pt<2pt a\else b\fi"),
    (r"\newcommand{\m}{\ifmmode M\else T\fi}\m $\m$ \[\m\]", r"T$M$ \[M\]"),
    # arguments of built-in commands
    (r"\newcommand{\x}{ab}$\frac\x2\sqrt\x x^\x$", r"$\frac{ab}2\sqrt{ab}x^ab$"),
    # environments
    (r"\newenvironment{t}[1]{\begin{theorem}[#1]}{\end{theorem}}\begin{t}{N}x\end{t}", r"\begin{theorem}[N]x\end{theorem}"),
    # what is verbatim stays so
    (r"\newcommand{\R}{X}\verb|\R|\R", r"\verb|\R|X"),
]  # fmt: skip


@pytest.mark.parametrize(("source", "expected"), GOLDEN)
def test_golden(source: str, expected: str) -> None:
    result = expand(source)
    assert result.text == expected
    assert not result.refused


def test_structure_keeps_its_names() -> None:
    result = expand(r"\renewcommand{\section}[1]{BIG #1}\section{A}\def\cite#1{x}\cite{b}")
    assert result.text == r"\section{A}\cite{b}"
    assert all("structure" in each.refused for each in result.definitions)


@pytest.mark.parametrize(
    ("source", "left", "reason"),
    [
        (r"\def\a{\b}\def\b{\a}\a end", r"\a end", "never ends"),
        (r"\def\a{x\a}\a end", r"\a end", "never ends"),
        (r"\def\a#1{\a{#1#1}}\a{x} end", r"\a{x} end", "grows without bound"),
        (
            r"\newcommand{\a}{\unknown@thing}\makeatletter\newcommand{\b}{\foo@bar}\makeatother\b{x}",
            r"\b{x}",
            "needs",
        ),
        (r"\def\a#1.{#1}\a no full stop", r"\a no full stop", "argument"),
    ],
)
def test_what_cannot_be_expanded_stays_as_it_was_written(source: str, left: str, reason: str) -> None:
    result = expand(source)
    assert result.text == left
    assert any(reason in why for why in result.refused.values())


def test_arguments_of_a_refused_use_are_expanded() -> None:
    result = expand(r"\def\a#1{\a{#1#1}}\def\b{B}\a{\b}")
    assert result.text == r"\a{B}"


@pytest.mark.parametrize(
    "source",
    [
        r"\def\a{xxxxxxxx}" + r"\edef\a{\a\a}" * 60 + r"\a" * 50,
        r"\def\d#1{" + "#1" * 5000 + r"}\d{" + "xy{}" * 20000 + "}",
        r"\def\d#1{#1#1#1#1#1#1#1#1#1}" + r"\d{" * 500 + "x" + "}" * 500,
        r"\def\a{\b\b}\def\b{\c\c}\def\c{\e\e}\def\e{"
        + r"\f" * 9
        + r"}\def\f{"
        + "{}x" * 99
        + "}"
        + r"\a" * 100,
        r"\newcommand{" * 10000,
        r"\def\x#1{}" + r"\x{" * 10000,
        r"\expandafter" * 3000,
        r"\csname " * 2000,
        r"\iffalse" * 20000,
        r"\url{" * 10000,
        r"\verb|" * 10000,
        "{" * 100000,
        r"\let\a\b\let\b\a" * 2000 + r"\a",
        "%\n" * 50000,
    ],
    ids=range(14),
)
def test_time_and_memory_are_bounded(source: str) -> None:
    begin = time.process_time()
    assert len(expand(source, Bounds(expansions=50_000, tokens=300_000)).text) < 1e7
    assert time.process_time() - begin < 5


COMMANDS = st.sampled_from(["\\" + name for name in HANDLERS] + ["\\a", "\\b", "\\c"])
PIECES = st.one_of(
    COMMANDS,
    st.sampled_from([*"{}[]#=*\n %$&~^_.1", "#1", "##1", "\n\n", "$$", r"\begin{a}", r"\end{a}"]),
    st.sampled_from([r"\def\a#1{\b #1\b}", r"\newcommand{\b}[1][q]{\c{#1}#1}", r"\edef\c{\a\b}"]),
    st.text(max_size=5),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(PIECES, max_size=30))
def test_no_source_is_too_odd(pieces: list[str]) -> None:
    assert isinstance(expand("".join(pieces)).text, str)


@given(st.text(alphabet="ab {}$_^&\n", max_size=60))
def test_text_without_macros_stays(source: str) -> None:
    assert expand(source).text == source
