"""Every given message has an answer; what is converted is valid, complete enough, and the same when done twice."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from fhir.resources.R4B import get_fhir_model_class

from ehr import json_text
from ehr.validation import check
from hospital_adapters.feeds import Feed
from hospital_adapters.hl7v2 import ack
from hospital_adapters.hl7v2.convert import Conversion, convert
from hospital_adapters.hl7v2.parse import Message, parse


@pytest.fixture(scope="module")
def kept_values() -> ModuleType:
    path = Path(__file__).parents[3] / "benchmarks" / "hl7v2_kept_values.py"
    specification = importlib.util.spec_from_file_location("hl7v2_kept_values", path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_each_given_message_has_an_answer(given: list[Path], feed: Feed) -> None:
    for path in given:
        message = parse(path.read_bytes())
        answer = convert(message, feed) if isinstance(message, Message) else message
        problems = [] if isinstance(answer, Conversion) else [answer]
        code = "AA" if isinstance(answer, Conversion) else ack.refusal(answer)
        assert ack.acknowledge(message, code, problems).startswith(b"MSH"), path.name


def test_bundles_are_valid_and_the_same_when_made_twice(given: list[Path], feed: Feed) -> None:
    for path in given:
        message, again = parse(path.read_bytes()), parse(path.read_bytes())
        assert isinstance(message, Message)
        assert isinstance(again, Message)
        one, two = convert(message, feed), convert(again, feed)
        if not isinstance(one, Conversion) or not isinstance(two, Conversion):
            continue
        assert json_text.encode(one.bundle) == json_text.encode(two.bundle), path.name
        assert (one.order_keys, one.loss, one.warnings) == (two.order_keys, two.loss, two.warnings)
        assert len(one.order_keys) == len(one.bundle["entry"])
        references = {entry["request"]["url"] for entry in one.bundle["entry"]}
        assert len(references) == len(one.bundle["entry"])
        for entry in one.bundle["entry"]:
            assert check(entry["resource"]) == [], (path.name, entry["request"]["url"])


def test_most_values_of_the_seven_kinds_are_kept(given: list[Path], feed: Feed, kept_values: ModuleType) -> None:
    values: dict[str, list[int]] = {}
    for path in given:
        message = parse(path.read_bytes())
        assert isinstance(message, Message)
        kind = "^".join(message.kind)
        if kind not in kept_values.SEVEN:
            continue
        conversion = convert(message, feed)
        assert isinstance(conversion, Conversion), (path.name, conversion)
        haystack = kept_values.Haystack(conversion.bundle)
        found = [haystack.strict(text) for _, text in kept_values.values_of(message)]
        total = values.setdefault(kind, [0, 0])
        total[0] += sum(found)
        total[1] += len(found)
    assert {kind: kept / total for kind, (kept, total) in values.items() if kept / total < 0.9} == {}
    assert set(values) == set(kept_values.SEVEN)


def test_a_second_validator_agrees(given: list[Path], feed: Feed) -> None:
    for path in [p for p in given if p.parent.name == "microsoft"]:
        message = parse(path.read_bytes())
        conversion = convert(message, feed) if isinstance(message, Message) else message
        if isinstance(conversion, Conversion):
            for entry in conversion.bundle["entry"]:
                resource = entry["resource"]
                get_fhir_model_class(resource["resourceType"]).model_validate_json(json_text.encode(resource))
