"""`python -m sandbox`: the whole system on a laptop, until Ctrl-C."""

import argparse
import signal
import sys
import threading
from typing import Any

from sandbox import platforms
from sandbox.faults import WrongFault, from_option
from sandbox.purchase import PurchaseFailed, buy
from sandbox.system import SAMPLE, Addresses, PortTaken, catalogue, running


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m sandbox", description=__doc__)
    parser.add_argument("--port", type=_port, default=8000, help="shop; API, Pocketsflow and AWS follow (0: any free)")
    parser.add_argument("--demo", action="store_true", help="make one purchase; serve on if this is a terminal")
    parser.add_argument("--once", action="store_true", help="make one purchase and end")
    parser.add_argument(
        "--fault", type=_fault, action="append", default=[], metavar="SERVICE=KIND:SECONDS",
        help="fails at first, as in dynamodb=down:60; also events, pocketsflow, secretsmanager, sqs; slow, throttled",
    )  # fmt: skip
    parser.add_argument(
        "--parameter", type=_parameter, action="append", default=[], metavar="NAME=VALUE",
        help="of the template, as in CheckoutsPerAddress=3",
    )  # fmt: skip
    parser.add_argument(
        "--connector", action="append", default=[], choices=platforms.NAMES,
        help="events go on to a stand-in of this platform, and the purchase begins there",
    )  # fmt: skip
    arguments = parser.parse_args()
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    try:
        wanted = arguments.port, dict(arguments.fault), dict(arguments.parameter), arguments.connector
        with running(*wanted) as addresses:
            return _serve(addresses, arguments, stopped)
    except PortTaken as error:
        print(f"sandbox: {error}; another may be free: --port 9000, make demo PORT=9000", file=sys.stderr)
    except (RuntimeError, ValueError) as error:
        print(f"sandbox: {error}", file=sys.stderr)
    return 1


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65531:
        raise argparse.ArgumentTypeError("must be 0 to 65531: four more follow")
    return int(text)


def _fault(text: str) -> tuple[str, dict[str, Any]]:
    try:
        return from_option(text)
    except WrongFault as wrong:
        raise argparse.ArgumentTypeError(str(wrong)) from None


def _parameter(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError("must be NAME=VALUE")
    return name, value


def _serve(addresses: Addresses, arguments: argparse.Namespace, stopped: threading.Event) -> int:
    at = {name: address for name, address in vars(addresses).items() if address and isinstance(address, str)}
    print("  ".join(f"{name} {address}" for name, address in at.items()), flush=True)
    if arguments.demo or arguments.once:
        skus = list(catalogue())
        try:
            for platform in addresses.connected.values():
                for line in platform.story(addresses):
                    print(line, flush=True)
            if not addresses.connected:
                buy(addresses, {"sku": skus[0]} if skus else {"productId": SAMPLE["productId"]})
        except PurchaseFailed as failure:
            print(f"sandbox: {failure}", file=sys.stderr)
            return 1
    if arguments.once or (arguments.demo and not sys.stdout.isatty()):
        return 0
    print(
        f"\nOpen {addresses.shop} and buy something."
        f"\nWatch what happens at {addresses.api}/_sandbox/, read and try the API at {addresses.api}/_sandbox/openapi/."
        "\nCtrl-C ends everything.",
        flush=True,
    )
    while not stopped.wait(1):  # what another thread was interrupted by is heard when this one wakes
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
