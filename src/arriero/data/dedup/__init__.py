"""Global steps over the parts of a corpus that remove what is there twice.

``run.py`` runs them in order: ``exact.py`` (128-bit digests), ``minhash.py``, ``verify.py`` and ``clusters.py``
(near-duplicates), ``books.py``, ``semantic.py``, ``lines.py`` (lines, paragraphs), ``substring.py``. ``steps.py`` says how
a step is cut into tasks that resume; ``rows.py`` and ``decisions.py`` what goes in and out.
"""
