"""HTTP requests that end: after so many seconds and so many bytes, whatever the other side does."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import requests
from urllib3.exceptions import HTTPError

CONNECT_SECONDS = 1


class NoAnswer(Exception):
    """None came in time, or none at all."""


class NotHttp(Exception):
    """What came is no answer that can be read."""


def session() -> requests.Session:
    """Connections that are kept; neither a proxy nor a .netrc of the environment sees what is sent."""
    made = requests.Session()
    made.trust_env = False
    return made


def send(
    http: requests.Session, method: str, url: str, seconds: float, most: int, **options: Any
) -> tuple[requests.Response, bytes]:
    """The answer and its body, cut after `most` bytes. Redirects are not followed. Raises NoAnswer and NotHttp."""
    # In a thread, because the timeouts of requests start anew with every packet: an answer that drips in has no end.
    call = ThreadPoolExecutor(max_workers=1)
    try:
        return call.submit(_read, http, method, url, most=most, timeout=(CONNECT_SECONDS, seconds), **options).result(
            seconds
        )
    except (requests.RequestException, HTTPError, TimeoutError):
        raise NoAnswer from None
    except ValueError:  # requests looks into a redirect that it is told not to follow
        raise NotHttp from None
    finally:
        call.shutdown(wait=False)


def _read(
    http: requests.Session, method: str, url: str, *, most: int, **options: Any
) -> tuple[requests.Response, bytes]:
    with http.request(method, url, allow_redirects=False, stream=True, **options) as response:
        return response, response.raw.read(most, decode_content=True)
