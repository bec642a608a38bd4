"""The api service: connects, serves HTTP, listens to feed, presence and lines until it is told to stop."""

import logging
from typing import Final

from headrace.config import Config

_log = logging.getLogger(__name__)


class ApiService:
    """What `headrace serve api` runs."""

    name: Final = "api"


service = ApiService()
_ = (Config, _log)
