"""What the connectors speak to, as far as they do: stand-ins of the platforms, on the sandbox's fifth port."""

import importlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.wrappers import Response

from sandbox.template import Function

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from sandbox.system import Addresses

NAMES = ("storefront", "shopify", "woocommerce", "membership", "feed", "notices")
"""Of connectors, and of the modules here."""


class Platform(Protocol):
    """Each module has one, made by `Platform(url)`: its address is the sandbox's, and ends in its name."""

    stack: str
    """The connector's nested stack in the template."""
    parameters: Mapping[str, str]
    """Of the template: what switches the connector on."""
    settings: Mapping[str, Any]
    """What stands in the place of the connector's own, so that it speaks to this one."""
    secret: str
    """What a person puts into the connector's secret; "" where it has none."""

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]: ...

    def story(self, addresses: "Addresses") -> Iterator[str]:
        """A purchase from the platform's side, as lines for who watches. Raises PurchaseFailed."""


def make(names: Iterable[str], url: str) -> dict[str, Platform]:
    """Those with these names, below an address. Raises ValueError for one that is not known."""
    made: dict[str, Platform] = {}
    for name in names:
        if name not in NAMES:
            raise ValueError(f"no connector is called {name}; there are {', '.join(NAMES)}")
        made[name] = importlib.import_module(f"sandbox.platforms.{name}").Platform(f"{url}/{name}")
    return made


def application(made: Mapping[str, Platform]) -> "WSGIApplication":
    nothing_else = Response("Not Found", status=404)
    return DispatcherMiddleware(nothing_else, {f"/{name}": platform for name, platform in made.items()})


def switches(made: Mapping[str, Platform]) -> dict[str, str]:
    """Parameters of the template by which their connectors are on."""
    return {name: value for each in made.values() for name, value in each.parameters.items()}


def secrets(made: Mapping[str, Platform]) -> dict[str, str]:
    """By nested stack."""
    return {each.stack: each.secret for each in made.values() if each.secret}


def connected(function: Function, made: Mapping[str, Platform]) -> Function:
    """A function that is told where a platform is speaks to its stand-in; any other is as it was."""
    settings = json.loads(function.environment.get("SETTINGS", "{}"))
    theirs = [platform.settings for platform in made.values() if platform.settings.keys() & settings.keys()]
    for each in theirs:
        settings |= each
    environment = {**function.environment, "SETTINGS": json.dumps(settings)}
    return replace(function, environment=environment) if theirs else function
