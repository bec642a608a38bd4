"""One installation a module: `headrace up` on servers that the tests own, so that they can break them."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.system.kit import Site, installation


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """Give a whole installation over real servers, with a file root of its own."""
    folder: Path = tmp_path_factory.mktemp("site")
    async with installation(folder, tmp_path_factory.mktemp("root")) as site:
        yield site
