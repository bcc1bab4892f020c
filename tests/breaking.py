"""A process that ends at any request that leaves for AWS, Pocketsflow or the public address."""

from collections.abc import Callable, Iterator
from typing import Any

import botocore.client
from moto.dynamodb.models import dynamodb_backends

import ops.provider
import ops.web
import ops.webhooks
from payments import secrets
from sandbox import aws
from tests.pf import run
from tests.public import Site

_READS = ("Get", "Describe", "List", "Scan", "Query")


class Break(Exception):
    """The process ends here."""


class Calls:
    """Counts what changes something outside of the process, and breaks off behind one of these calls, which is where
    the next one has not been made. At each it is seen that no endpoint is active whose secret would be refused."""

    def __init__(self, site: Site, patch: Any) -> None:
        self.number, self.breaks_at = 0, -1
        self.known_bad: list[str] = []
        """Endpoints whose secret is refused from the beginning."""
        self.also: Callable[[], bool] = lambda: True
        """What else must hold at each."""
        self._site, self._inside = site, False
        call, ask_provider, ask = botocore.client.BaseClient._make_api_call, ops.provider.Provider._ask, ops.web.ask  # type: ignore[attr-defined]

        def calling(client: Any, name: str, arguments: Any) -> Any:
            changes = not name.startswith(_READS)
            return self._passing(changes, lambda: call(client, name, arguments))

        def asking(provider: Any, method: str, *arguments: Any, **options: Any) -> Any:
            return self._passing(method != "GET", lambda: ask_provider(provider, method, *arguments, **options))

        def reaching(*arguments: Any, **options: Any) -> Any:
            return self._passing(True, lambda: ask(*arguments, **options))

        patch.setattr(botocore.client.BaseClient, "_make_api_call", calling)
        patch.setattr(ops.provider.Provider, "_ask", asking)
        patch.setattr(ops.web, "ask", reaching)

    def _passing(self, changes: bool, call: Callable[[], Any]) -> Any:
        """What a call causes in turn is the functions', and Pocketsflow's own."""
        if self._inside or not changes:
            return call()
        self.number += 1
        number, self._inside = self.number, True
        try:
            answer = call()
            assert [each for each in self._site.refused() if each not in self.known_bad] == []
            assert self.also()
        finally:
            self._inside = False
        if number == self.breaks_at:
            raise Break
        return answer

    def everywhere(self, prepare: Callable[[], None], *words: str) -> Iterator[int]:
        """Runs a command until its first call, then from the same beginning until its second, and so on; what comes
        of it is the caller's to see."""
        number, broke = 0, True
        while broke:
            self._inside = True
            prepare()
            self._inside = False
            number += 1
            self.number, self.breaks_at = 0, number
            result = run(*words)
            self.breaks_at, broke = -1, isinstance(result.exception, Break)
            if not broke:
                assert result.exit_code in (0, 75), (result.output, result.exception)
            yield number


def _forget_stream(site: Site) -> None:
    """moto copies all of it for each transaction, which an entry of the audit is."""
    shard = dynamodb_backends[aws.ACCOUNT][aws.REGION].tables[site.stack.table].stream_shard
    assert shard is not None
    shard.items.clear()
    site.shop._position = 0


def beginning(site: Site) -> Callable[[], None]:
    """Puts everything back as it is now."""
    account, cloud = site.shop.account, site.shop.stack
    endpoints = {identity: dict(each) for identity, each in account.endpoints.items()}
    value, state = " ".join(site.words), cloud.items().get(ops.webhooks.STATE)

    def restore() -> None:
        account.endpoints.clear()
        account.endpoints.update({identity: dict(each) for identity, each in endpoints.items()})
        cloud.clear()
        _forget_stream(site)
        cloud.put_secret("WebhookSecrets", value)
        if state:
            cloud.dynamodb.put_item(TableName=cloud.table, Item=state)
        secrets._copies.clear()
        account._tokens = 200

    return restore
