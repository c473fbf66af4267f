"""What a client may send: from random bytes to orders that are almost in order."""

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from hypothesis import strategies as st

from shop import an_address

Strategy = st.SearchStrategy

EXTREMES = [0, -1, 1001, 2**31 - 1, 2**31, 2**53, 2**63 - 1, 2**63, 2**64, -(2**63) - 1, 10**30, 10**400]
TRICKS = [
    "",
    " ",
    "\x00",
    "\ud800",
    "\udfff\ud800",
    "\u202e\u2066",
    "\ufeff",
    "a\u0300" * 50,
    "ﷺ" * 40,
    "🏳️‍🌈" * 20,
    "'; drop table orders.orders; --",
    "%s%n%(x)s{0}{x.__class__}",
    "{{ 7 * 7 }}{% raw %}",
    "a\r\nBcc: all@example.com",
    "=?utf-8?b?AAAA?=",
    "\\u0000",
    "../../etc/passwd",
    "NaN",
    "1e400",
    "\u0130\u0131\u017f\u212a",
]
BROKEN = [
    b"[" * 100_000,
    b"[" * 30_000 + b"]" * 30_000,
    b'{"items":' * 6_000 + b"1" + b"}" * 6_000,
    b'{"items":[{"product_id":1e400,"quantity":1}]}',
    b'{"items":[{"product_id":1E1,"quantity":1.0}]}',
    b'{"items":[{"product_id":' + b"9" * 5_000 + b',"quantity":1}]}',
    b'{"items":[{"product_id":1,"quantity":-0}]}',
    b'{"items":[{"product_id":1,"quantity":1}],"items":[]}',
    b'{"items":[{"product_id":1,"quantity":1}],"note":"\xed\xa0\x80"}',
    b'{"items":[{"product_id":1,"quantity":1}],"note":"\\ud800"}',
    b'{"items":[{"product_id":1,"quantity":1}],"note":"\\u0000"}',
    b'{"items":[{"product_id":1,"quantity":1}],"note":"\x00"}',
    b'{"\\u0000":1}',
    b'{"\\ud800":1}',
    b'{"\xff":1}',
    b"\xef\xbb\xbf{}",
    b"\x00",
    b'"',
    b"-",
    b"1e999999999",
    b"username=%00&password=%ff",
]

texts: Strategy[str] = st.one_of(
    st.text(st.characters(exclude_categories=()), max_size=40),
    st.sampled_from(TRICKS),
    st.builds(lambda trick, text: text + trick, st.sampled_from(TRICKS), st.text(max_size=10)),
)
numbers: Strategy[Any] = st.one_of(
    st.integers(-10, 2000), st.sampled_from(EXTREMES), st.floats(allow_nan=False, allow_infinity=False)
)
scalars: Strategy[Any] = st.one_of(st.none(), st.booleans(), numbers, texts)
values: Strategy[Any] = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


def almost(valid: dict[str, Any]) -> Strategy[dict[str, Any]]:
    """These members, some left out and some replaced, now and then one more."""
    members = {name: st.one_of(st.just(value), texts, values) for name, value in valid.items()}
    whole = st.fixed_dictionaries({}, optional=members).map(lambda some: valid | some)
    parts = st.fixed_dictionaries({}, optional=members)
    more = st.builds(lambda made, name, value: made | {name: value}, whole, texts, values)
    return st.one_of(whole, parts, more)


lines = almost({"product_id": 1, "quantity": 1})
orders = st.builds(
    lambda order, items: order | items,
    almost(
        {
            "items": [{"product_id": 1, "quantity": 1}],
            "payment_method": "card",
            "note": "ring twice",
            "shipping_address": None,
            "shipping_address_id": None,
        }
    ),
    st.fixed_dictionaries(
        {},
        optional={
            "items": st.lists(lines, max_size=5),
            "shipping_address": almost(an_address()),
        },
    ),
)


def encoded(made: Strategy[Any]) -> Strategy[bytes]:
    """As JSON: with escapes (also of lone surrogates), or as bare UTF-8, which they make invalid."""
    escaped = made.map(lambda value: json.dumps(value).encode())
    bare = made.map(lambda value: json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass"))
    return escaped | bare


def bodies(valid: Strategy[Any]) -> Strategy[bytes]:
    """Bodies that range from what a route takes to bytes that mean nothing."""
    return st.one_of(encoded(valid), encoded(values), st.binary(max_size=200), st.sampled_from(BROKEN))


segments: Strategy[str] = st.one_of(
    st.binary(min_size=1, max_size=30).map(lambda raw: quote(raw, safe="")),
    texts.filter(bool).map(lambda text: quote(text.encode("utf-8", "surrogatepass"), safe="")),
    st.sampled_from([str(number) for number in EXTREMES]),
    st.uuids().map(str),
)
query_values: Strategy[str] = st.one_of(
    segments,
    st.datetimes().map(lambda moment: quote(moment.isoformat())),
    st.sampled_from(["NaN", "inf", "1e400", "0001-01-01T00:00:00%2B14:00", "9999-12-31T23:59:59-14:00", "1e15"]),
)


def query(names: Sequence[str]) -> Strategy[str]:
    """What stands behind the question mark: these parameters, or anything."""
    pairs = st.builds("{}={}".format, st.sampled_from(names), query_values)
    return st.one_of(
        st.lists(pairs, max_size=3).map("&".join),
        st.binary(max_size=40).map(lambda raw: quote(raw, safe="=&+;")),
        st.sampled_from(["&&&", "=", "%", "%zz=%", "limit=1&limit=2", "limit[]=1", "a=%00&limit=%00"]),
    )


header_values: Strategy[bytes] = st.one_of(
    st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=300).map(str.encode),
    st.binary(min_size=1, max_size=40).map(lambda raw: bytes(byte | 0x80 for byte in raw)),
    st.sampled_from([b"", b'"', b"W/", b"*", b",,,", b"Bearer " + b"x" * 9000, b"Bearer a.b.c", b"a=b;" * 200]),
)
