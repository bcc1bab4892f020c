"""The ledger against its model: whatever arrives, in whatever order, in whatever words and however often."""

from collections import Counter
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from payments import events, ledger, orders, table
from payments.catalogue import Item
from tests.conftest import Aws
from tests.integration.ledger_model import (
    EXAMPLES,
    NAMES,
    STATES,
    Book,
    Clock,
    Fact,
    Page,
    Said,
    Whose,
    assert_ledger_holds,
    deliver,
    empty,
    first_answer_is_lost,
    found_by_the_api,
    is_payment,
    opened,
    own_fact,
    own_name,
    stored,
)
from tests.payloads import (
    NOW,
    OTHER_PRODUCT,
    PRODUCT,
)

ITEMS = [
    Item(PRODUCT),
    Item(PRODUCT),
    Item(PRODUCT, variant_id="a2"),
    Item(PRODUCT, price=Decimal("60.00"), currency="usd", hold_on_difference=True),
]
AMOUNTS = [60, 60, 10, 32.5, 0, 64.99]


def common(*whose: Whose) -> dict[str, st.SearchStrategy[Any]]:
    """Few ids, so that facts meet each other."""
    return {
        "whose": st.sampled_from(whose),
        "payment": st.sampled_from(["sale1", "sale1", "sale1", "sale2", "sale 3"]),
        "wording": st.sampled_from([0, 0, 0, 1]),
        "large": st.sampled_from([False, False, False, True]),
    }


def sales(*whose: Whose, event: tuple[str | None, ...] = ("order.completed", None)) -> st.SearchStrategy[Said]:
    return st.builds(
        Said,
        st.just("sale"),
        event=st.sampled_from(event),
        product=st.sampled_from([PRODUCT, PRODUCT, PRODUCT, OTHER_PRODUCT]),
        variant=st.sampled_from(["a2", "a2", "a3", None]),
        amount=st.sampled_from(AMOUNTS),
        before_tax=st.sampled_from([60, 60, 6000, 59.99]),
        currency=st.sampled_from(["usd", "usd", "usd", "eur"]),
        **{**common(*whose), "payment": st.sampled_from(["sale1", "sale2", "sale 3"])},
    )


def refunds(*whose: Whose) -> st.SearchStrategy[Said]:
    return st.builds(
        Said,
        st.just("refund"),
        event=st.sampled_from(["order.refunded", None]),
        refund=st.sampled_from(["ref1", "ref1", "ref1", "ref2", "ref#3"]),
        amount=st.sampled_from(AMOUNTS),
        status=st.sampled_from(["succeeded", "succeeded", "completed", "failed", "pending", "Succeeded"]),
        **common(*whose),
    )


def subscriptions(*whose: Whose) -> st.SearchStrategy[Said]:
    return st.builds(
        Said,
        st.just("subscription"),
        event=st.sampled_from(["customer.subscription.created", "customer.subscription.deleted", None]),
        product=st.sampled_from([PRODUCT, PRODUCT, OTHER_PRODUCT]),
        looks=st.sampled_from(["active", "active", *STATES]),
        **common(*whose),
    )


def anything(*whose: Whose) -> st.SearchStrategy[Said]:
    claims = sales(*whose, event=("order.refunded",))
    both = sales(*whose).map(lambda sale: replace(sale, shape="sale and refund"))
    return sales(*whose) | refunds(*whose) | claims | both | subscriptions(*whose)


def stories(*whose: Whose) -> st.SearchStrategy[list[Said]]:
    """What Pocketsflow may say about one order: payments, refunds, and whatever else."""
    parts = (
        st.lists(sales("ours"), min_size=1, max_size=3),
        st.lists(refunds("ours"), max_size=4),
        st.lists(anything(*whose), max_size=2),
    )
    return st.tuples(*parts).map(lambda lists: [words for part in lists for words in part])


def different_facts() -> st.SearchStrategy[list[Said]]:
    """Of one order of ours: none is in other words what another says."""
    return stories("ours").map(lambda words: [*{fact: said for said in words if (fact := own_fact(said))}.values()])


@EXAMPLES
@given(
    item=st.sampled_from(ITEMS),
    words=stories("ours", "unknown", "foreign", "nobody's"),
    limits=st.sampled_from([(100, 10), (100, 10), (100, 10), (2, 1)]),
    data=st.data(),
)
def test_whatever_arrives_the_ledger_is_its_model(
    cloud: Aws,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    item: Item,
    words: list[Said],
    limits: tuple[int, int],
    data: st.DataObject,
) -> None:
    """Each delivery is answered with the model's outcome, whether it comes by webhook, under another event's name, from
    a list of orders, or twice because an answer was lost; and the ledger holds what the model knows: each fact once
    and in its first words, every signed body, every subscription as it was last said to be, the status that the facts
    add up to."""
    for name, limit in zip(("MAX_FACTS", "MAX_MORE_PAYMENTS"), limits, strict=True):
        monkeypatch.setattr(ledger, name, limit)
    empty(cloud)
    clock.time = NOW
    order_id, book = opened(item, clock.time), Book()
    book.open(order_id, item, clock.stamp)
    again = data.draw(st.lists(st.sampled_from(words), max_size=5), "again")
    for spoken in data.draw(st.permutations([*words, *again]), "arrivals"):
        clock.passes(milliseconds=1)
        way = data.draw(st.sampled_from(["webhook", "webhook", "webhook", "api", "relabelled", "answer lost"]), "way")
        name = data.draw(st.sampled_from(NAMES), "name") if way == "relabelled" else own_name(spoken)
        by_api = way == "api" and spoken.fact(name) is not None
        expected = book.receive(spoken, name, order_id, clock.stamp, "api" if by_api else "webhook")
        with first_answer_is_lost(way == "answer lost"):
            if by_api:
                assert found_by_the_api(spoken.about(order_id), name, clock.time) == expected
            else:
                assert deliver(spoken.about(order_id), name) == expected
    assert_ledger_holds(book, stored(cloud))
    page, state = book.orders[order_id], ledger.state(order_id)
    assert state is not None
    assert (state.status, state.updated_at) == (page.status, page.updated_at)


@settings(EXAMPLES, max_examples=30)
@given(
    item=st.sampled_from(ITEMS),
    words=different_facts(),
    data=st.data(),
)
def test_facts_commute(cloud: Aws, clock: Clock, item: Item, words: list[Said], data: st.DataObject) -> None:
    """After any permutation and duplication the record is the same; with several payments all but which came first,
    and of those exactly one has settled when any fits."""
    empty(cloud)
    clock.time = NOW
    records, settled = [], []
    for _ in range(2):
        order_id = opened(item, clock.time)
        again = data.draw(st.lists(st.sampled_from(words), max_size=3), "again")
        arrivals = data.draw(st.permutations([*words, *again]), "arrivals")
        outcomes = Counter(deliver(spoken.about(order_id), own_name(spoken)) for spoken in arrivals)
        settled.append(outcomes["settled"])
        records.append(record(stored(cloud), order_id))
    page = Page(item, facts={str(own_fact(spoken)): Fact(spoken, b"", "") for spoken in words})
    payments = [fact for fact in page.facts if is_payment(fact)]
    first, second = records
    if len(payments) > 1:
        assert sorted(first.pop("payments")) == sorted(second.pop("payments"))
    assert first == second
    assert first["rev"] == len(words)
    assert settled == [1 if any(map(page.fits, payments)) else 0] * 2


@settings(EXAMPLES, max_examples=300)
@given(item=st.sampled_from(ITEMS), words=different_facts())
def test_the_status_is_what_the_facts_add_up_to(item: Item, words: list[Said]) -> None:
    """Which payment fits, and what is left of it after its refunds, is the model's reckoning, whichever facts come
    together."""
    page = Page(item)
    facts: dict[str, dict[str, Any]] = {}
    for spoken in words:
        body, name = replace(spoken, large=False).about(f"ord_test_{'0' * 26}"), own_name(spoken)
        fact = events.parse(body, name)
        assert isinstance(fact, events.Payment | events.Refund | events.Claim)
        page.facts[ledger.fact_name(fact)] = Fact(spoken, body, "")
        fields = ledger.fact_fields(fact, body, NOW, "webhook")
        facts[ledger.fact_name(fact)] = table.plain_value(table.value(fields))
    payments = [fact for fact in facts if is_payment(fact)]
    assert {fact: orders.fits(item, facts[fact]) for fact in payments} == {fact: page.fits(fact) for fact in payments}
    assert orders.status(item, facts, payments) == page.status


def record(items: dict[str, dict[str, Any]], order_id: str) -> dict[str, Any]:
    """All that the ledger knows of an order, without what differs between two orders that were told the same."""

    def neutral(value: Any) -> Any:
        match value:
            case dict():
                return {name: neutral(inner) for name, inner in value.items()}
            case str() if value.startswith("raw#"):
                return neutral(items[value]["body"])
            case str():
                return value.replace(order_id, "ORDER")
            case bytes():
                return value.replace(order_id.encode(), b"ORDER")
        return value

    kept = [item["body"] for pk, item in items.items() if pk.startswith("raw#") and order_id.encode() in item["body"]]
    order: dict[str, Any] = neutral(items[f"order#{order_id}"])
    return {**order, "kept": sorted(map(neutral, kept))}
