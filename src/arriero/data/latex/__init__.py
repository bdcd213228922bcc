"""LaTeX sources to text: a TeX-aware tokenizer, the expansion of an author's macros, the document's structure."""
