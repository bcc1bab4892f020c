"""Handlers that do what a healthy function never does."""

import os
import time
from typing import Any


def handler(event: Any, _context: object) -> Any:
    """Hangs, dies, or answers, as the event says."""
    match event:
        case "hang":
            time.sleep(60)
        case "die":
            os._exit(1)
    return event
