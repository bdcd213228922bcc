"""A submission of one or more LaTeX files to the text that a corpus keeps, as Llama-1 and RedPajama v1 describe it:
everything before the first section and from the bibliography or appendix on is dropped, comments are removed, macros
are expanded."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass

from arriero.data.latex.expander import Bounds, Expander, Expansion
from arriero.data.latex.primitives import HANDLERS

_SECTION = r"\\(?:part|chapter|(?:sub){0,2}section|(?:sub)?paragraph)\b[ \t]*\*?\s*(?:\[[^\]]{0,500}\]\s*)?\{"
_STARTS = {
    "section": re.compile(_SECTION),
    "abstract": re.compile(rf"\\begin\{{abstract\}}|\\abstract\b|{_SECTION}"),
}
_END = re.compile(
    r"\\appendix(?![A-Za-z])|\\begin\{(?:thebibliography|references|REFERENCES|appendix|appendices)\}"
    r"|\\bibliography\b\s*\{|\\printbibliography(?![A-Za-z])|\\end\{document\}"
)
_DOCUMENT = re.compile(r"\\begin\s*\{document\}")
_CLASS = re.compile(r"^(?:[^%\n\\]|\\[^d\n]|\\d(?!ocument))*\\document(?:class|style)\b", re.MULTILINE)
_INPUT = re.compile(r"\\(?:input|include|subfile)\s*\{([^}\n]{1,200})\}")
_ENCODING = re.compile(rb"\\usepackage\s*\[\s*(\w+)\s*\]\s*\{inputenc\}")
_CODECS = {
    b"latin1": "latin-1",
    b"latin2": "iso8859-2",
    b"latin5": "iso8859-9",
    b"latin9": "iso8859-15",
    b"ansinew": "cp1252",
    b"cp1250": "cp1250",
    b"cp1251": "cp1251",
    b"koi8": "koi8-r",
}
_USUAL_NAMES = ("main", "ms", "paper", "article", "arxiv", "root")
_BLANK = re.compile(r"[ \t]+$", re.MULTILINE)
_GAP = re.compile(r"\n{3,}")


@dataclass(frozen=True)
class LatexText:
    """``text`` is empty where the document has no section."""

    text: str
    main: str
    expansion: Expansion


def decode(content: bytes) -> str:
    """Text of a file: UTF-8, else the encoding that it declares, else Latin-1, which every byte has a character in."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        declared = _ENCODING.search(content)
        codec = _CODECS.get(declared[1].rstrip(b"-ru") if declared else b"", "latin-1")
        return content.decode(codec, errors="replace")


def find_main(files: Mapping[str, str]) -> str | None:
    """The file that LaTeX would be run on; None where no file looks like TeX.

    Candidates declare a document class (without one: have a ``\\begin{document}``, a section or an ``\\input``).
    Among several, one that no other reads in, with a usual name, the longest, then the first by name.
    """
    sources = {name: text for name, text in files.items() if _is_source(name)}
    for marks in (_CLASS, _DOCUMENT, _STARTS["section"], re.compile(r"\\[A-Za-z]+")):
        found = [name for name, text in sources.items() if marks.search(text)]
        if found:
            break
    else:
        return None
    read_in = {
        _without_tex(posixpath.normpath(posixpath.join(posixpath.dirname(name), target.strip())))
        for name in found
        for target in _INPUT.findall(sources[name])
    }

    def order(name: str) -> tuple[bool, bool, bool, int, str]:
        text, stem = sources[name], posixpath.basename(name).rsplit(".", 1)[0].lower()
        without_body = _DOCUMENT.search(text) is None
        return without_body, _without_tex(name) in read_in, stem not in _USUAL_NAMES, -len(text), name

    return min(found, key=order)


def _is_source(name: str) -> bool:
    ending = posixpath.splitext(name)[1].lower()
    return ending in (".tex", ".ltx", ".latex", "", ".txt")


def _without_tex(name: str) -> str:
    return name.removesuffix(".tex")


class SubmissionFiles:
    """Reads the files that a document names, from the submission alone, relative to the main file or to its root."""

    def __init__(self, files: Mapping[str, str], main: str) -> None:
        self._files, self._folder = files, posixpath.dirname(main)

    def __call__(self, name: str, kind: str) -> str | None:
        name = name.strip().strip('"')
        for folder in (self._folder, ""):
            path = posixpath.normpath(posixpath.join(folder, name))
            for candidate in (f"{path}.{kind}", path):
                if candidate in self._files:
                    return self._files[candidate]
        return None


def cut(text: str, start: str = "section") -> str:
    """From the first section (``start``: "section"), or the abstract where one comes before it ("abstract"), to the
    bibliography or appendix; empty where there is neither."""
    body = _DOCUMENT.search(text)
    first = _STARTS[start].search(text, body.end() if body else 0)
    if first is None:
        return ""
    last = _END.search(text, first.end())
    kept = text[first.start() : last.start() if last else len(text)]
    return _GAP.sub("\n\n", _BLANK.sub("", kept)).strip()


def extract(
    files: Mapping[str, str],
    main: str,
    start: str = "section",
    expand: bool = True,
    bounds: Bounds | None = None,
) -> LatexText:
    """The kept text of a submission: ``files`` are name to text. Without ``expand`` comments go and files are joined,
    and macros stay. Never raises on any text."""
    handlers = HANDLERS if expand else _READING
    expander = Expander(handlers, SubmissionFiles(files, main), bounds or Bounds())
    expansion = expander.expand(files[main])
    return LatexText(cut(expansion.text, start), main, expansion)


_READING = {
    name: HANDLERS[name] for name in ("input", "include", "subfile", "import", "subimport", "begin", "end")
}
