"""A server over the small corpus."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from tests.data.audit.conftest import Builder

from arriero.data.audit.curated import CuratedCorpus
from arriero.data.audit.inspect.server import InspectServer


@pytest.fixture(scope="module")
def server(built: Builder) -> Iterator[InspectServer]:
    with InspectServer(CuratedCorpus(built.folder)) as running:
        thread = threading.Thread(target=lambda: running.serve_forever(0.02), daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join(5)
