"""fastText's language models by the native library (``csrc/text_language.c``): its figures at a fraction of its time."""

from __future__ import annotations

import ctypes

from arriero.native import library


class LanguageModel:
    """A loaded model. Not to be copied into another process: load it there."""

    def __init__(self, address: int) -> None:
        self._library, self._address = _library(), address

    def __del__(self) -> None:
        self._library.ar_language_free(self._address)

    def predict(self, text: bytes) -> tuple[str, float] | None:
        """The likeliest label of a line and its probability; None where nothing of the line is known.

        Raises:
            MemoryError: memory does not suffice.
        """
        score = ctypes.c_float()
        label = self._library.ar_language_of(self._address, text, len(text), ctypes.byref(score))
        if label == -2:
            raise MemoryError("not enough memory to tell a text's language")
        if label < 0:
            return None
        name: bytes = self._library.ar_language_label(self._address, label)
        return name.decode(), score.value


def load(file: bytes) -> LanguageModel | None:
    """A model from the content of its file; None without the library, and for models that it does not read (it reads
    quantised ones with pruned n-grams and hierarchical softmax, as lid.176.ftz)."""
    if not library.available():
        return None
    address = _library().ar_language_load(file, len(file))
    return LanguageModel(address) if address else None


def _library() -> ctypes.CDLL:
    found = library.library()
    address, size, number, data = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int32, ctypes.c_char_p
    found.ar_language_load.argtypes, found.ar_language_load.restype = [data, size], address
    found.ar_language_free.argtypes, found.ar_language_free.restype = [address], None
    found.ar_language_of.argtypes, found.ar_language_of.restype = [address, data, size, address], number
    found.ar_language_label.argtypes, found.ar_language_label.restype = [address, number], data
    return found
