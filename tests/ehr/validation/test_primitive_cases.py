"""Values of primitive types that R4 takes and refuses, each in an element of that type."""

from decimal import Decimal
from typing import Any

import pytest

from ehr.validation import check

TAKEN: dict[str, list[Any]] = {
    "boolean": [True, False],
    "integer": [0, -1, 2147483647, -2147483648],
    "unsignedInt": [0, 7, 2147483647],
    "positiveInt": [1, 2147483647],
    "decimal": [0, -5, Decimal("72.50"), Decimal("-0.0"), Decimal("1E-8"), Decimal("0.00000000000000000001"), 10**20],
    "string": ["a", " ", "a b", "多字节", "tab\tand\r\nlines", "\u00a0", "\u3000全角", "x" * 70000],
    "markdown": ["# a\n* b"],
    "code": ["a", "a b", "a-b_c.d", "两"],
    "id": ["a", "A.b-9", "x" * 64],
    "uri": [
        "http://a.org/b?c#d",
        "urn:oid:1.2.3",
        "urn:uuid:c757873d-ec9a-4326-a141-556f43239520",
        "a/b",
        "#frag",
        "http://例.org/",
    ],
    "url": ["http://a.org", "mailto:a@b.org"],
    "canonical": ["http://a.org/x|1.0", "http://a.org/x#y", "#x", "urn:oid:1.2.840.113619"],
    "oid": ["urn:oid:1.2.840.113619", "urn:oid:2.16.156.10011.1.3"],
    "uuid": ["urn:uuid:c757873d-ec9a-4326-a141-556f43239520"],
    "base64Binary": ["QQ==", "QUI=", "QUJD", "QUJD\nQUJD", "QUJD QUJD"],
    "date": ["2023", "2023-02", "2023-02-28", "2024-02-29", "2000-02-29", "0001", "9999-12-31", "1900-02-28"],
    "dateTime": [
        "2023",
        "2023-02",
        "2023-02-28",
        "2023-02-28T23:59:59Z",
        "2023-02-28T00:00:00.123456+08:00",
        "2023-02-28T00:00:00-14:00",
        "2024-02-29T12:00:00+00:00",
    ],
    "instant": ["2023-02-28T23:59:59Z", "2023-02-28T23:59:59.000+08:00", "2015-02-07T13:28:17.239+02:00"],
    "time": ["00:00:00", "23:59:59", "12:30:00.5"],
}

REFUSED: dict[str, list[Any]] = {
    "boolean": ["true", 1, 0, "", None, [], {}, [True]],
    "integer": ["1", Decimal("1.0"), Decimal("1E+1"), 2147483648, -2147483649, True, "", {}, [1]],
    "unsignedInt": [-1, 2147483648, "0", Decimal("0.5"), False],
    "positiveInt": [0, -1, 2147483648, "1"],
    "decimal": ["72.5", True, "", None, 10**400, {}],
    "string": ["", "\x00", "a\x01b", "\x1f", 1, True, None, {}, ["a"]],
    "markdown": ["", 5],
    "code": ["", " a", "a ", "a  b", "a\u0009\u0009b", "\n", 1, True],
    "id": ["", "a b", "a_b", "x" * 65, "é", "a/b", 5],
    "uri": ["", "a b", "http://a.org/ b", " http://a.org", "urn:oid:x", "urn:oid:1.02", "urn:uuid:1", "oid:1.2", 1],
    "url": ["", "http://a b"],
    "canonical": ["", "ValueSet/x", "abc", "http://a.org/x y"],
    "oid": ["1.2.3", "urn:oid:3.1", "urn:oid:1", "urn:oid:1.02", "urn:oid:1.2."],
    "uuid": ["c757873d-ec9a-4326-a141-556f43239520", "urn:uuid:C757873D-EC9A-4326-A141-556F43239520", "urn:uuid:c7"],
    "base64Binary": ["", "A", "QQ=", "QUJ", "QQ==QQ==", "Q!==", "=QQQ"],
    "date": [
        "2023-02-29",
        "2023-02-30",
        "1900-02-29",
        "2100-02-29",
        "2023-04-31",
        "2023-13",
        "2023-00",
        "2023-1-1",
        "2023-01-00",
        "2023-01-32",
        "23",
        "0000",
        "20230101",
        "2023-01-01T00:00:00Z",
        "2023-02-28 ",
        "",
        2023,
        "2023/01/01",
        "10000",
        "2023-02-28\n",
        "２０２３",
    ],
    "dateTime": [
        "2023-02-29",
        "2023-02-29T00:00:00Z",
        "2023-02-28T24:00:00Z",
        "2023-02-28T23:59Z",
        "2023-02-28T23:59:59",
        "2023-02-28T23:59:61Z",
        "2023-02-28 23:59:59Z",
        "2023-02-28T23:59:59+15:00",
        "2023-02-28T23:59:59+0800",
        "2023-02-28T23:60:00Z",
        "2023-02-28T23:59:59.Z",
        "2023-02-28T23:59:59z",
        "2023-02T00:00:00Z",
    ],
    "instant": ["2023", "2023-02-28", "2023-02-28T23:59:59", "2023-02-30T23:59:59Z", "2023-02-28T23:59Z"],
    "time": ["24:00:00", "12:30", "12:30:61", "12:60:00", "12:30:00Z", "1:30:00", "T12:30:00"],
}


def parameters_with(kind: str, value: Any) -> dict[str, Any]:
    """A Parameters with one value of a primitive type."""
    member = "value" + kind[0].upper() + kind[1:]
    return {"resourceType": "Parameters", "parameter": [{"name": "x", member: value}]}


@pytest.mark.parametrize(("kind", "value"), [(kind, value) for kind, values in TAKEN.items() for value in values])
def test_taken(kind: str, value: Any) -> None:
    assert check(parameters_with(kind, value)) == []


@pytest.mark.parametrize(("kind", "value"), [(kind, value) for kind, values in REFUSED.items() for value in values])
def test_refused(kind: str, value: Any) -> None:
    expressions = {issue.expression for issue in check(parameters_with(kind, value))}
    assert "Parameters.parameter[0].value" in expressions


def test_diagnostics_say_what_is_wanted() -> None:
    [issue] = check({"resourceType": "Patient", "birthDate": "2023-02-30"})
    assert (issue.severity, issue.code, issue.expression) == ("error", "value", "Patient.birthDate")
    assert "2023-02-30" in issue.diagnostics
    assert "a date that exists" in issue.diagnostics
