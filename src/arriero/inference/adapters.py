"""Several LoRA adapters on one model: loaded and unloaded at run time, mixed in one batch.

Every row of a step goes through the adapter that its sequence asked for, or through none: ``y = W x + s B (A x)``
(Hu et al., arXiv 2106.09685) with the matrices of that row's adapter. The base may be quantised; the adapters are float32.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from arriero.errors import ArrieroError, did_you_mean
from arriero.inference.adapter_files import Adapter, adapter_folder, read_adapter
from arriero.inference.adapter_products import AdapterProducts
from arriero.models.decoder import Decoder

MAX_ADAPTERS = 32
MAX_BYTES = 1 << 30
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}")


class AdapterStore:
    """The adapters of one model, by name.

    Loading, unloading, counting and looking up may be called from any thread; :meth:`active` from the one that steps
    the engine.

    Args:
        base: folder of the model's own files, if it has one: adapters that are merged into it already are refused.
        max_adapters, max_bytes: limits of what is loaded at a time; bytes are those of the float32 matrices.
    """

    def __init__(
        self,
        model: Decoder,
        base: Path | None = None,
        *,
        max_adapters: int = MAX_ADAPTERS,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        if max_adapters < 0 or max_bytes < 0:
            raise ArrieroError("max_adapters and max_bytes of the adapters must not be negative")
        self.max_adapters, self.max_bytes = max_adapters, max_bytes
        self._model, self._base = model, base
        self._products = AdapterProducts(model)
        self._known: dict[str, Adapter] = {}
        self._uses: dict[str, int] = {}
        self._leaving: set[str] = set()
        self._lock = threading.RLock()

    # ------------------------------------------------------------ what there is

    def names(self) -> list[str]:
        """Names of the adapters that requests may ask for, in the order in which they were loaded."""
        with self._lock:
            return [name for name in self._known if name not in self._leaving]

    def get(self, name: str) -> Adapter:
        """The adapter called ``name``.

        Raises:
            ArrieroError: there is none.
        """
        with self._lock:
            if name not in self._known:
                raise ArrieroError(f"no adapter is called '{name}'{did_you_mean(name, self._known)}")
            return self._known[name]

    def holds(self, adapter: Adapter) -> bool:
        """Whether this very adapter is loaded."""
        with self._lock:
            return self._known.get(adapter.name) is adapter

    @property
    def used_bytes(self) -> int:
        """Memory of all adapters, in bytes."""
        with self._lock:
            return sum(adapter.bytes for adapter in self._known.values())

    def uses(self, name: str) -> int:
        """Requests that hold the adapter now."""
        with self._lock:
            return self._uses.get(name, 0)

    def salt(self, name: str | None) -> bytes:
        """What keeps keys and values made with an adapter apart from all others; empty without an adapter.

        It follows from the adapter's content, so another adapter that is loaded under an old name has another salt.
        """
        return b"" if name is None else bytes.fromhex(self.get(name).fingerprint)

    # ------------------------------------------------------------ in and out

    def load(self, name: str, folder: Path) -> Adapter:
        """Load an adapter from a PEFT folder, or from the artifact of a stage that tuned with adapters.

        Raises:
            ArrieroError: the name is taken or cannot be a name, a limit is reached, or the files do not fit the model.
        """
        with self._lock:
            self._check_room(name)
            left = self.max_bytes - self.used_bytes
        folder = Path(folder)
        self._check_not_merged(name, folder)
        adapter = read_adapter(name, folder, self._model, left)
        with self._lock:
            self._check_room(name)  # another thread may have been faster
            if adapter.bytes > self.max_bytes - self.used_bytes:
                raise ArrieroError(f"adapter '{name}' takes {adapter.bytes:,} bytes, more than are left")
            self._known[name], self._uses[name] = adapter, 0
        return adapter

    def unload(self, name: str, *, when_idle: bool = False) -> None:
        """Forget an adapter.

        Args:
            when_idle: where requests use it, take no new ones and forget it when the last of these has ended.

        Raises:
            ArrieroError: there is none of that name, or requests use it.
        """
        with self._lock:
            self.get(name)
            uses = self._uses[name]
            if not uses:
                self._forget(name)
            elif when_idle:
                self._leaving.add(name)
            else:
                raise ArrieroError(
                    f"adapter '{name}' is in use by {uses} {'request' if uses == 1 else 'requests'}: "
                    "unload it when they have ended, or abort them"
                )

    def acquire(self, name: str) -> None:
        """One more request uses the adapter, which stays loaded till it is released.

        Raises:
            ArrieroError: there is none of that name, or it is being unloaded.
        """
        with self._lock:
            self.get(name)
            if name in self._leaving:
                raise ArrieroError(f"adapter '{name}' is being unloaded and takes no new requests")
            self._uses[name] += 1

    def release(self, name: str) -> None:
        """A request that acquired the adapter has ended."""
        with self._lock:
            if self._uses.get(name, 0) < 1:
                raise ArrieroError(f"adapter '{name}' is released more often than acquired: this is a bug")
            self._uses[name] -= 1
            if not self._uses[name] and name in self._leaving:
                self._forget(name)

    def _forget(self, name: str) -> None:
        del self._known[name], self._uses[name]
        self._leaving.discard(name)

    def _check_room(self, name: str) -> None:
        if not _NAME.fullmatch(name):
            raise ArrieroError(
                f"an adapter cannot be called {name!r}: a name has up to 128 letters, digits and any of . _ : / -"
            )
        if name in self._known:
            raise ArrieroError(f"an adapter called '{name}' is loaded already: unload it first")
        if len(self._known) >= self.max_adapters:
            raise ArrieroError(
                f"{len(self._known)} adapters are loaded, the most allowed: unload one before '{name}' is loaded"
            )

    def _check_not_merged(self, name: str, folder: Path) -> None:
        if self._base is None or not self._base.is_dir():
            return
        if adapter_folder(folder).resolve().is_relative_to(self._base.resolve()):
            raise ArrieroError(
                f"adapter '{name}' is merged into the model in {self._base} already: serve the model it was trained on"
            )

    # ------------------------------------------------------------ the step

    @contextmanager
    def active(self, rows: Sequence[str | None]) -> Iterator[None]:
        """Within, row i of a step goes through the adapter called ``rows[i]``, or through the model alone (None).

        Every linear layer must get exactly these rows, in this order. Where no row has an adapter it costs nothing.

        Raises:
            ArrieroError: no such adapter.
        """
        if all(name is None for name in rows):
            yield
            return
        with self._lock:
            known = {name: self.get(name) for name in rows if name is not None}
        try:
            self._products.begin(rows, known)
            yield
        finally:
            self._products.end()
