"""The residents' accounts of the demo: which Patient each one is."""

import json
from pathlib import Path

from hospital_adapters.feeds import read_feed
from hospital_adapters.hl7v2.convert import convert
from hospital_adapters.hl7v2.parse import parse
from hospital_adapters.hl7v2.problems import ParseProblem
from kanglian.demo.hl7_messages import messages_of_first_hospital
from kanglian.demo.region import Resident

FEEDS = Path(__file__).parent / "feeds"
REFUSER = "resident.refuses"


def accounts_of(people: list[Resident]) -> dict[str, dict[str, object]]:
    """Account name to its Patient, for zhang.wei, liu.yang and the one who refuses to share."""
    feed = read_feed(FEEDS / "first-hospital.yaml")
    accounts: dict[str, dict[str, object]] = {}
    for resident in people:
        account = REFUSER if resident.refuses else resident.account
        if account is None:
            continue
        message = parse(next(iter(messages_of_first_hospital([resident]))))
        conversion = message if isinstance(message, ParseProblem) else convert(message, feed)
        if isinstance(conversion, ParseProblem):
            raise TypeError(f"the demo's own message is not understood: {conversion.cause}")
        name = f"{resident.family}{resident.given}"
        accounts[account] = {
            "name": name,
            "roles": ["resident"],
            "patient": conversion.patients[0].removeprefix("Patient/"),
            "purpose_of_use": "PATRQT",
        }
    return accounts


def write_accounts(path: Path, people: list[Resident]) -> None:
    """Write the file that the embedded issuer adds to its accounts."""
    path.write_text(json.dumps(accounts_of(people), ensure_ascii=False, indent=1), encoding="utf-8")
