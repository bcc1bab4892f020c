"""payments.addresses: buyers return to the shop's own pages and nowhere else."""

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from payments import addresses

ORIGINS = ["https://shop.example", "https://shop.example:8443", "http://localhost:8000", "http://127.0.0.1:8000"]
ORDER = "ord_test_01hzy7v3k4m5n6p7q8r9s0t1v2"


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        pytest.param("https://shop.example", ("https", "shop.example", 443), id="no_path"),
        pytest.param("https://shop.example/a?b=c#d", ("https", "shop.example", 443), id="path_query_fragment"),
        pytest.param("https://shop.example?x=1", ("https", "shop.example", 443), id="query_without_path"),
        pytest.param("https://shop.example:443/", ("https", "shop.example", 443), id="explicit_default_port"),
        pytest.param("https://shop.example:8443/", ("https", "shop.example", 8443), id="other_port"),
        pytest.param("HTTPS://SHOP.Example/", ("https", "shop.example", 443), id="upper_case"),
        pytest.param("https://xn--bcher-kva.example/", ("https", "xn--bcher-kva.example", 443), id="idn_in_ascii"),
        pytest.param("https://192.0.2.7/", ("https", "192.0.2.7", 443), id="ip_literal"),
        pytest.param("https://[2001:db8::1]:444/", ("https", "[2001:db8::1]", 444), id="ipv6_literal"),
        pytest.param("http://localhost:8000/", ("http", "localhost", 8000), id="localhost"),
        pytest.param("http://127.0.0.1/", ("http", "127.0.0.1", 80), id="loopback"),
        pytest.param("http://[::1]:8000/", ("http", "[::1]", 8000), id="ipv6_loopback"),
    ],
)
def test_origin(address: str, expected: tuple[str, str, int]):
    """An origin is scheme, host and port, in lower case, the default port filled in."""
    assert addresses.origin(address, loopback=True) == expected


NO_ADDRESS = [
    pytest.param("https://shop.example@evil.com/", id="userinfo"),
    pytest.param("https://evil.com@shop.example/", id="userinfo_before_our_host"),
    pytest.param("https://shop.example:443@evil.com/", id="userinfo_with_password"),
    pytest.param("https://@shop.example/", id="empty_userinfo"),
    pytest.param("https://shop.example%40evil.com/", id="percent_encoded_at"),
    pytest.param("//evil.com/", id="no_scheme"),
    pytest.param("//shop.example/", id="no_scheme_our_host"),
    pytest.param("/thank-you", id="only_a_path"),
    pytest.param("shop.example/", id="only_a_host"),
    pytest.param("https:shop.example", id="no_slashes"),
    pytest.param("https:/shop.example", id="one_slash"),
    pytest.param("https:///shop.example", id="three_slashes"),
    pytest.param("\thttps://shop.example/", id="leading_tab"),
    pytest.param(" https://shop.example/", id="leading_space"),
    pytest.param("\x01https://shop.example/", id="leading_control_character"),
    pytest.param("https://shop.example/\n", id="trailing_newline"),
    pytest.param("https://shop.example\n.evil.com/", id="newline_in_the_host"),
    pytest.param("ht\ntps://shop.example/", id="newline_in_the_scheme"),
    pytest.param("https://shop.example/a b", id="space"),
    pytest.param("https://shop.example\\@evil.com/", id="backslash"),
    pytest.param("https:\\\\shop.example/", id="backslashes_for_slashes"),
    pytest.param("https://evil.com\\.shop.example/", id="backslash_in_the_host"),
    pytest.param("https://shop.example/\\..\\evil", id="backslash_in_the_path"),
    pytest.param("https://shop.example?\\@evil.com", id="backslash_in_the_query"),
    pytest.param("javascript:alert(1)", id="javascript"),
    pytest.param("javascript://shop.example/%0aalert(1)", id="javascript_with_our_host"),
    pytest.param("data:text/html,x", id="data"),
    pytest.param("ftp://shop.example/", id="ftp"),
    pytest.param("blob:https://shop.example/x", id="blob"),
    pytest.param("https://shop.example:/", id="empty_port"),
    pytest.param("https://shop.example:0443/", id="port_with_leading_zero"),
    pytest.param("https://shop.example:+443/", id="port_with_sign"),
    pytest.param("https://shop.example:99999/", id="port_out_of_range"),
    pytest.param("https://shop.example:x/", id="port_no_number"),
    pytest.param("https://shop.example:443:443/", id="two_ports"),
    pytest.param("https://shop_example/", id="underscore"),
    pytest.param("https://shop.example;evil.com/", id="semicolon"),
    pytest.param("https://shop.example,evil.com/", id="comma"),
    pytest.param("https://*.example/", id="asterisk"),
    pytest.param("*", id="only_an_asterisk"),
    pytest.param("https://b\u00fccher.example/", id="idn_in_unicode"),
    pytest.param("https://sh\u043ep.example/", id="cyrillic_letter"),
    pytest.param("https://shop\u3002example/", id="ideographic_full_stop"),
    pytest.param("https://shop.example\uff0fevil.com/", id="fullwidth_slash"),
    pytest.param("https://\u212aing.example/", id="kelvin_sign"),
    pytest.param("https://[::1/", id="unclosed_bracket"),
    pytest.param("https://[evil.com]/", id="name_in_brackets"),
    pytest.param("https://[::1]evil.com/", id="text_after_brackets"),
    pytest.param("https://shop.example/\ud800", id="lone_surrogate"),
    pytest.param("https://shop.example/\0", id="nul"),
    pytest.param("https://shop.example/" + "x" * 3_000, id="3_kB"),
    pytest.param("", id="empty"),
    pytest.param("https://", id="no_host"),
    pytest.param(None, id="none"),
    pytest.param(7, id="number"),
    pytest.param(b"https://shop.example/", id="bytes"),
    pytest.param(["https://shop.example/"], id="list"),
]


@pytest.mark.parametrize("address", NO_ADDRESS)
@pytest.mark.parametrize("loopback", [False, True])
def test_no_address(address: Any, loopback: bool):
    """What a browser might read otherwise than we do is no address, and nothing raises."""
    assert addresses.origin(address, loopback) is None
    assert not addresses.allowed(address, ORIGINS, loopback)


def test_the_longest_address():
    """2,048 characters are accepted, one more is not."""
    longest = "https://shop.example/".ljust(addresses.MAX_LENGTH, "x")
    assert addresses.MAX_LENGTH == 2_048
    assert addresses.allowed(longest, ORIGINS, loopback=False)
    assert not addresses.allowed(longest + "x", ORIGINS, loopback=False)


@pytest.mark.parametrize(
    "address",
    [
        pytest.param("http://shop.example/", id="a_host"),
        pytest.param("http://localhost.evil.com/", id="localhost_as_a_prefix"),
        pytest.param("http://evil.localhost/", id="localhost_as_a_suffix"),
        pytest.param("http://127.0.0.2/", id="another_loopback_address"),
        pytest.param("http://127.1/", id="short_form"),
        pytest.param("http://2130706433/", id="one_number"),
        pytest.param("http://0.0.0.0/", id="any_address"),
        pytest.param("http://[::ffff:127.0.0.1]/", id="mapped"),
        pytest.param("http://localhost./", id="trailing_dot"),
    ],
)
@pytest.mark.parametrize("loopback", [False, True])
def test_http_elsewhere(address: str, loopback: bool):
    """Plain http reaches this machine or nothing."""
    assert addresses.origin(address, loopback) is None


@pytest.mark.parametrize("address", ["http://localhost:8000/", "http://127.0.0.1:8000/", "http://[::1]:8000/"])
def test_http_to_this_machine(address: str):
    """Loopback is an origin under development only."""
    assert addresses.origin(address, loopback=True)
    assert addresses.origin(address, loopback=False) is None
    assert not addresses.allowed(address, [address], loopback=False)


@pytest.mark.parametrize(
    "address",
    [
        pytest.param("https://shop.example", id="the_origin_itself"),
        pytest.param("https://shop.example/thank-you?a=b#c", id="a_page"),
        pytest.param("https://shop.example:443/", id="explicit_default_port"),
        pytest.param("https://SHOP.EXAMPLE/", id="upper_case_host"),
        pytest.param("HTTPS://shop.example/", id="upper_case_scheme"),
        pytest.param("https://shop.example:8443/x", id="a_listed_port"),
        pytest.param("http://localhost:8000/thank-you.html", id="listed_loopback"),
        pytest.param("https://shop.example/?next=https://evil.com/", id="another_address_in_the_query"),
        pytest.param("https://shop.example//evil.com/", id="double_slash_in_the_path"),
        pytest.param("https://shop.example/@evil.com/", id="at_in_the_path"),
    ],
)
def test_allowed(address: str):
    """Pages of a listed origin are allowed, however that origin is written."""
    assert addresses.allowed(address, ORIGINS, loopback=True)


@pytest.mark.parametrize(
    "address",
    [
        pytest.param("https://evil.com/", id="another_host"),
        pytest.param("https://shop.example.evil.com/", id="look_alike_suffix"),
        pytest.param("https://evil-shop.example/", id="look_alike_prefix"),
        pytest.param("https://www.shop.example/", id="subdomain"),
        pytest.param("https://example/", id="parent_domain"),
        pytest.param("https://shop.example./", id="trailing_dot"),
        pytest.param("https://shop.example:444/", id="other_port"),
        pytest.param("https://shop.example:80/", id="port_of_http"),
        pytest.param("https://localhost:8000/", id="other_scheme"),
        pytest.param("http://localhost:8001/", id="other_loopback_port"),
        pytest.param("http://localhost/", id="loopback_without_port"),
        pytest.param("https://192.0.2.7/", id="ip_literal"),
        pytest.param("https://xn--shp-ula.example/", id="idn_look_alike"),
        pytest.param("https://evil.com/https://shop.example/", id="our_origin_in_the_path"),
        pytest.param("https://evil.com/?https://shop.example/", id="our_origin_in_the_query"),
        pytest.param("https://evil.com#https://shop.example/", id="our_origin_in_the_fragment"),
    ],
)
def test_not_allowed(address: str):
    """A page of any other origin is not allowed."""
    assert addresses.origin(address, loopback=True)
    assert not addresses.allowed(address, ORIGINS, loopback=True)


@pytest.mark.parametrize("origins", [[], [""], ["*"], ["null"], ["shop.example"], ["http://shop.example"]], ids=repr)
def test_a_broken_list_allows_nothing(origins: list[str]):
    """An entry that is no origin matches nothing, least of all another thing that is none."""
    for address in ("https://shop.example/", "", "*", "null", "http://shop.example/", None):
        assert not addresses.allowed(address, origins, loopback=False)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        pytest.param("https://s.example", "https://s.example?{}", id="no_path"),
        pytest.param("https://s.example/a", "https://s.example/a?{}", id="no_query"),
        pytest.param("https://s.example/a?", "https://s.example/a?{}", id="empty_query"),
        pytest.param("https://s.example/a?b=c", "https://s.example/a?b=c&{}", id="own_query"),
        pytest.param("https://s.example/a#frag", "https://s.example/a?{}#frag", id="own_fragment"),
        pytest.param("https://s.example/#/thanks?x=1", "https://s.example/?{}#/thanks?x=1", id="route_in_the_fragment"),
        pytest.param(
            "https://s.example/?z=%20+%C3%a9&a=1&a=2", "https://s.example/?z=%20+%C3%a9&a=1&a=2&{}", id="verbatim"
        ),
        pytest.param("https://s.example/?flag&e=&=v", "https://s.example/?flag&e=&=v&{}", id="odd_pairs"),
        pytest.param("https://s.example/?a=b?c/d;e", "https://s.example/?a=b?c/d;e&{}", id="reserved_characters"),
        pytest.param(
            "https://s.example/?u=https://x/?order_id=1",
            "https://s.example/?u=https://x/?order_id=1&{}",
            id="in_a_value",
        ),
        pytest.param("https://s.example/?my_order_id=1", "https://s.example/?my_order_id=1&{}", id="longer_name"),
        pytest.param("https://s.example//evil.com/", "https://s.example//evil.com/?{}", id="double_slash"),
        pytest.param("https://s.example/a;p?q", "https://s.example/a;p?q&{}", id="path_parameter"),
        pytest.param("https://S.example:443/%7e/../a", "https://S.example:443/%7e/../a?{}", id="nothing_normalised"),
    ],
)
def test_with_order_id(address: str, expected: str):
    """The order id comes last in the query; everything else stays as it was written."""
    assert addresses.with_order_id(address, ORDER) == expected.format(f"order_id={ORDER}")


@pytest.mark.parametrize(
    "planted",
    [
        pytest.param("order_id=evil", id="plain"),
        pytest.param("order_id", id="no_value"),
        pytest.param("order_id=", id="empty_value"),
        pytest.param("order%5Fid=evil", id="percent_encoded_underscore"),
        pytest.param("order%5fid=evil", id="percent_encoded_in_lower_case"),
        pytest.param("%6F%72%64%65%72%5F%69%64=evil", id="percent_encoded_all"),
        pytest.param("order_id=1&order_id=2&order%5Fid=3", id="three_times"),
    ],
)
def test_a_planted_order_id_is_removed(planted: str):
    """The page that the buyer returns to finds one order id: ours."""
    query = urlsplit(addresses.with_order_id(f"https://s.example/?a=1&{planted}&b=2", ORDER)).query
    assert query == f"a=1&b=2&order_id={ORDER}"
    assert parse_qs(query)["order_id"] == [ORDER]


def test_the_origin_does_not_change():
    """Whatever is added, the buyer returns to the origin that was checked."""
    for address in ("https://shop.example", "https://shop.example/a?b#c", "https://shop.example//evil.com?x"):
        assert addresses.origin(addresses.with_order_id(address, ORDER), False) == addresses.origin(address, False)
