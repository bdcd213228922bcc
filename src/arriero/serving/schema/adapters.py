"""The bodies of `/v1/adapters`."""

from __future__ import annotations

from pydantic import Field

from arriero.serving.schema.body import Body


class LoadAdapterRequest(Body):
    """A LoRA adapter to load from a folder of the server's machine."""

    name: str = Field(
        min_length=1,
        max_length=100,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]*$",
        description="serves as a model",
    )
    path: str = Field(
        min_length=1, max_length=4096, description="folder, under the one that --adapters names"
    )
