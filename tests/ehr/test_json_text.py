import time
import tracemalloc
from decimal import Decimal

import pytest

from ehr import json_text
from ehr.errors import Malformed


def test_decimals_keep_their_digits() -> None:
    parsed = json_text.parse(b'{"a":72.50,"b":1e2,"c":7,"d":0.0}')
    assert parsed == {"a": Decimal("72.50"), "b": Decimal("1E+2"), "c": 7, "d": Decimal("0.0")}
    assert str(parsed["a"]) == "72.50"
    assert isinstance(parsed["c"], int)
    assert json_text.encode(parsed) == b'{"a":72.50,"b":1E+2,"c":7,"d":0.0}'


def test_text_and_a_byte_order_mark_are_read() -> None:
    assert json_text.parse('{"a":"张伟"}') == {"a": "张伟"}
    assert json_text.parse(b'\xef\xbb\xbf {"a":1}\n') == {"a": 1}


REFUSED = {
    "empty": b"",
    "array": b"[]",
    "string": b'"a"',
    "null": b"null",
    "trailing comma": b'{"a":1,}',
    "trailing text": b'{"a":1} {}',
    "trailing nul": b'{"a":1}\x00',
    "single quotes": b"{'a':1}",
    "comment": b'{"a":1 /* x */}',
    "NaN": b'{"a":NaN}',
    "Infinity": b'{"a":Infinity}',
    "minus Infinity": b'{"a":-Infinity}',
    "leading zero": b'{"a":01}',
    "bare fraction": b'{"a":.5}',
    "plus": b'{"a":+1}',
    "hexadecimal": b'{"a":0x1}',
    "duplicate key": b'{"a":1,"a":1}',
    "duplicate key, nested": b'{"x":[{"a":{"b":1,"c":2,"b":3}}]}',
    "duplicate key, escaped": b'{"a":1,"\\u0061":2}',
    "duplicate key beside longer numbers": b'{"a":1e5,"":1,"":1}',
    "duplicate key in white space": b'{ "a" : 1,\n "a" : 2 }',
    "high surrogate": b'{"a":"\\ud800"}',
    "low surrogate": b'{"a":"\\udc00"}',
    "surrogate pair reversed": b'{"a":"\\udc00\\ud800"}',
    "surrogate in a key": b'{"\\ud800":1}',
    "surrogate in UTF-8": b'{"a":"\xed\xa0\x80"}',
    "Latin-1": '{"a":"é"}'.encode("latin-1"),
    "UTF-16": '{"a":1}'.encode("utf-16"),
    "raw control character": b'{"a":"\x01"}',
    "raw line feed": b'{"a":"\n"}',
    "unknown escape": b'{"a":"\\x41"}',
    "open string": b'{"a":"',
    "open object": b'{"a":{',
    "exponent bomb": b'{"a":1e999999999}',
    "exponent beyond Decimal": b'{"a":1e99999999999999999999999}',
    "negative exponent bomb": b'{"a":1e-999999999}',
    "exponent bomb of a zero": b'{"a":0e99999999}',
    "exponent bomb of a negative zero": b'{"a":-0.0e-99999999}',
    "long integer": b'{"a":' + b"1" * 5000 + b"}",
    "long fraction": b'{"a":0.' + b"1" * 5000 + b"}",
    "deep": b'{"a":' + b"[" * 101 + b"]" * 101 + b"}",
    "deep with brackets in strings": b'{"a":' + b'["[",' * 101 + b'"]"' + b"]" * 101 + b"}",
    "deep with brackets and escapes": b'{"a":' + b'["\\\\","\\"]",' * 101 + b"1" + b"]" * 101 + b"}",
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED.keys())
def test_refused(data: bytes) -> None:
    with pytest.raises(Malformed):
        json_text.parse(data)


def test_refusals_say_why() -> None:
    with pytest.raises(Malformed, match="'b' is given twice"):
        json_text.parse(REFUSED["duplicate key, nested"])
    with pytest.raises(Malformed, match="nested deeper than"):
        json_text.parse(REFUSED["deep"])
    with pytest.raises(Malformed, match="lone surrogate"):
        json_text.parse('{"a":"\ud800"}')


ACCEPTED = {
    "escapes": (b'{"a":"\\/\\u00e9\\ud83d\\ude00\\n"}', {"a": "/é😀\n"}),
    "colon after quote in a string": (b'{"a":"x\\":y\\":","b":1e1}', {"a": 'x":y":', "b": Decimal("1E+1")}),
    "deep enough": (b'{"a":' + b"[" * 99 + b"]" * 99 + b"}", None),
    "brackets in strings": (b'{"a":["' + b"[{" * 200 + b'"]}', {"a": ["[{" * 200]}),
    "many brackets in many strings": (b'{"a":[' + b'"]",' * 200 + b'"["]}', {"a": ["]"] * 200 + ["["]}),
    "same key in different objects": (b'{"a":{"a":{"a":1e1}}}', {"a": {"a": {"a": Decimal("1E+1")}}}),
    "minus zero": (b'{"a":-0.0}', {"a": Decimal("-0.0")}),
}


@pytest.mark.parametrize(("data", "value"), ACCEPTED.values(), ids=ACCEPTED.keys())
def test_accepted(data: bytes, value: object) -> None:
    parsed = json_text.parse(data)
    assert value is None or parsed == value


BOMBS = {
    "a million arrays deep": b"[" * 1_000_000,
    "a million objects deep": b'{"a":' * 1_000_000 + b"1" + b"}" * 1_000_000,
    "ten million digits": b'{"a":' + b"9" * 10_000_000 + b"}",
    "ten million digits after the point": b'{"a":0.' + b"9" * 10_000_000 + b"}",
    "too many values": b'{"a":[' + b"1," * 5_000_000 + b"1]}",
    "too many bytes": b'{"a":"' + b"x" * (json_text.MAXIMUM_BYTES + 1) + b'"}',
}


@pytest.mark.parametrize("data", BOMBS.values(), ids=BOMBS.keys())
def test_bombs_are_refused_cheaply(data: bytes) -> None:
    tracemalloc.start()
    started = time.process_time()
    with pytest.raises(Malformed):
        json_text.parse(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert time.process_time() - started < 3
    assert peak < 3 * len(data) + (1 << 20)


def test_splice_sets_id_and_meta_and_keeps_the_rest() -> None:
    data = b""" { "meta" : {"versionId":"9","_versionId":{"id":"x"},"source":"urn:a","tag":[{"code":"\\u0061"}]},
        "id":"old", "resourceType" : "Observation", "valueQuantity": { "value": 72.50 }, "note":[{"text":"a\\/b"}] }"""
    _, minified = json_text.parse_body(data)
    spliced = json_text.splice(minified, resource_id="n1", version=3, last_updated_iso="2024-01-02T03:04:05.678Z")
    assert spliced == (
        b'{"resourceType":"Observation","id":"n1","meta":{"versionId":"3","lastUpdated":"2024-01-02T03:04:05.678Z",'
        b'"source":"urn:a","tag":[{"code":"\\u0061"}]},"valueQuantity":{"value":72.50},"note":[{"text":"a\\/b"}]}'
    )


def test_splice_makes_meta_where_there_was_none() -> None:
    assert json_text.splice(b'{"resourceType":"Basic"}', resource_id="1", version="1", last_updated_iso="t") == (
        b'{"resourceType":"Basic","id":"1","meta":{"versionId":"1","lastUpdated":"t"}}'
    )


def test_entry_resources_are_the_bytes_that_were_sent() -> None:
    data = b'{"resourceType":"Bundle","entry":[{"resource":{"resourceType":"Basic", "x":1.10}},{"fullUrl":"u"}]}'
    assert json_text.entry_resources(data) == [b'{"resourceType":"Basic", "x":1.10}', None]
    assert json_text.entry_resources(b"{}") == []
