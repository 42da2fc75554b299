"""Writes docs/performance.md from the raw results in `benchmarks/results/`; losses stand as plainly as wins.

    .venv/bin/python benchmarks/performance_page.py [--check]

`--check` writes nothing and ends with 1 where the page is not what the results give.
"""

import argparse
import statistics
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from calibration import AS_THE_PLATFORM, BUDGETS_WERE_SET_AT
from results import kept

PAGE = Path(__file__).resolve().parents[1] / "docs" / "performance.md"
NEWEST_RUNS = 3
MOST_LOAD = 5.0
"""Load average at the end of a run above which others had the machine too; the run itself makes two to three."""
STRETCH = {
    "reads by id, audited, 16 clients": 4000,
    "reads by id, audited, 64 clients": 5000,
    "create-read-update-delete mix, 8 clients": 1000,
    "create-read-update-delete mix, 32 clients": 1700,
    "create-read-update-delete mix, 128 clients": 2000,
    "transaction bundles, resources": 5000,
    "search mix, pages of 20, 16 clients": 1500,
    "bytes a resource, all indexes, audit apart": 1000,
    "MLLP durable acknowledgements of a burst": 3000,
    "HL7 v2 messages, wire to committed record": 800,
}
_INTRODUCTION = """# Performance

Written by `make performance` from the raw results in `benchmarks/results/`; do not edit. `make bench` adds a run.

Work per CPU second of the server's processes and of all PostgreSQL processes together, with fsync, validation,
consent, audit and all indexes on: the median of a run's rounds, then of the newest {runs} runs of each work. "Must" and
"stretch" are the budgets of the design. A machine that is busy with other things gives lower figures: its caches are
shared.
"""
_DISTURBED = """**No undisturbed run is kept yet.** In all of them others used the machine (load average above 5, see
Runs), which halves what a CPU second is worth and counts the platform's standing work (sealing, jobs, statistics) many
times, since a run then takes several times as long. The figures say what is left under such a load, not what the
platform does."""


def main() -> None:
    """Write the page, or compare it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    text = page()
    if not parser.parse_args().check:
        PAGE.write_text(text, encoding="utf-8")
    elif PAGE.read_text(encoding="utf-8") != text:
        sys.exit("docs/performance.md is not what benchmarks/results gives: make performance")


def page() -> str:
    """The whole page."""
    runs, libraries = kept("whole_platform"), kept("library_speed")
    quiet = [run for run in runs if run["machine"]["load_average"] <= MOST_LOAD]
    parts = [_INTRODUCTION.format(runs=NEWEST_RUNS)]
    if runs and not quiet:
        parts.append(_paragraph(_DISTURBED))
    if runs:
        shown = quiet or runs
        parts += ["\n".join(section) for section in (_budgets(shown, libraries), _parts(shown), _bytes(shown))]
        parts += ["\n".join(section) for section in (_runs(runs), _machines(shown, libraries))]
    return "\n".join(parts) + "\n"


def _paragraph(text: str) -> str:
    return textwrap.fill(text, 120, break_on_hyphens=False) + "\n"


def newest(runs: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The newest rows of each work, oldest first, in the order in which a run measures."""
    found: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        for row in run["rows"]:
            found.setdefault(row["what"], []).append(row)
    return {what: rows[-NEWEST_RUNS:] for what, rows in found.items()}


def best_answers(runs: list[dict[str, Any]]) -> float:
    """Raw ASGI answers a CPU second of the machine when it was least busy."""
    return max(statistics.median(run["calibrations"][AS_THE_PLATFORM.name]) for run in runs)


def speed_by_libraries(libraries: list[dict[str, Any]]) -> float:
    """How many times as fast as that of the budgets the machine is, by the libraries that the design cites."""
    return max((float(run["median_ratio"]) for run in libraries), default=1.0)


def _budgets(runs: list[dict[str, Any]], libraries: list[dict[str, Any]]) -> Iterator[str]:
    ratio, answers = speed_by_libraries(libraries), best_answers(runs) / BUDGETS_WERE_SET_AT
    yield "## Beside the budgets\n"
    yield _paragraph(
        "Beside each work stands the calibration of the same minutes, raw ASGI answers a CPU second. The last two"
        f" columns divide the share by {ratio:.2f} (libraries) and {answers:.2f} (raw ASGI): see the end."
    )
    yield "| work | measured | lowest to highest | calibration | must | stretch | share | by libraries | by raw ASGI |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for what, rows in newest(runs).items():
        must = rows[-1]["must"]
        if must is None:
            continue
        values = [row["value"] for row in rows]
        value = statistics.median(values)
        share = must / value if rows[-1]["unit"] == "bytes" else value / must
        scaled, beside, missed = "- | -", "-", "" if share >= 1 else " **missed**"
        if rows[-1]["unit"] == "a CPU s":
            scaled = f"{share / ratio:.2f} | {share / answers:.2f}"
            beside = f"{statistics.median(row['answers_beside'] for row in rows):,.0f}"
        yield (
            f"| {what} ({rows[-1]['unit']}) | {value:,.0f} | {min(values):,.0f} to {max(values):,.0f} | {beside} |"
            f" {must:,.0f} | {STRETCH.get(what, must):,.0f} | {share:.2f}{missed} | {scaled} |"
        )
    yield ""


def _parts(runs: list[dict[str, Any]]) -> Iterator[str]:
    yield "## Where the CPU time goes\n"
    yield "Microseconds a piece of work, in the newest run of each, by kind of process.\n"
    yield "| work | http | feeds | jobs | PostgreSQL | analytics |"
    yield "|---|---|---|---|---|---|"
    for what, rows in newest(runs).items():
        spent = rows[-1].get("us_each")
        if spent:
            kinds = ("http", "feeds", "jobs", "postgres", "analytics")
            yield f"| {what} | {' | '.join(f'{spent.get(kind, 0):,.0f}' for kind in kinds)} |"
    yield ""


def _bytes(runs: list[dict[str, Any]]) -> Iterator[str]:
    rows = [row for run in runs for row in run["rows"] if row.get("relations")]
    if rows:
        yield "## What the bytes of a resource are\n"
        yield f"Tables and indexes after `vacuum full`, bytes a current resource ({rows[-1]['note']}).\n"
        yield "| relation | bytes |\n|---|---|"
        for relation, size in rows[-1]["relations"].items():
            if size >= 1:
                yield f"| `{relation}` | {size:,.0f} |"
        yield ""


def _runs(runs: list[dict[str, Any]]) -> Iterator[str]:
    chosen = ("transaction bundles, resources", "HL7 v2 messages, wire to committed record")
    yield "## Runs\n"
    yield "| at | version | load average at the end | raw ASGI answers | bundles, resources | HL7 v2 messages |"
    yield "|---|---|---|---|---|---|"
    for run in runs:
        values = {row["what"]: row["value"] for row in run["rows"]}
        shown = [f"{values[what]:,.0f}" if what in values else "-" for what in chosen]
        answers = statistics.median(run["calibrations"][AS_THE_PLATFORM.name])
        version = f"`{run['commit']}`" + (" and changes" if run["changed"] else "")
        yield (f"| {run['at']} | {version} | {run['machine']['load_average']} | {answers:,.0f} | {' | '.join(shown)} |")
    yield ""


def _machines(runs: list[dict[str, Any]], libraries: list[dict[str, Any]]) -> Iterator[str]:
    yield "## How fast the machine is\n"
    yield _paragraph(
        f"The design's budgets stand beside {BUDGETS_WERE_SET_AT:,} raw ASGI answers a CPU second, without a word on"
        " loop and parser, which alone differ by a factor of five on one machine:"
    )
    if runs:
        yield "| loop, parser | answers a CPU second | of the first |\n|---|---|---|"
        quietest = max(runs, key=lambda run: statistics.median(run["calibrations"][AS_THE_PLATFORM.name]))
        for name, answers in quietest["calibrations"].items():
            middle = statistics.median(answers)
            yield f"| {name} | {middle:,.0f} | {middle / best_answers(runs):.2f} |"
        machine = quietest["machine"]
        yield f"\n{machine['processor']}, {machine['cores']} cores, Python {machine['python']}.\n"
    if libraries and runs:
        yield "Libraries whose figures the design cites from the same place (`benchmarks/library_speed.py`) say more:\n"
        yield "| library | here | cited | this machine is faster by |\n|---|---|---|---|"
        for row in max(libraries, key=lambda run: float(run["median_ratio"]))["rows"]:
            yield f"| {row['what']} | {row['value']:,.1f} {row['unit']} | {row['cited']:,.1f} | {row['ratio']:.2f} |"
        ratio = speed_by_libraries(libraries)
        expected = best_answers(runs) / ratio
        yield ""
        yield _paragraph(
            f"Their median is {ratio:.2f}. They ran the same code there and here: by them the machine of the budgets"
            f" gives {expected:,.0f} answers with uvloop and httptools. {BUDGETS_WERE_SET_AT:,} is"
            f" {BUDGETS_WERE_SET_AT / expected:.2f} of that, no more than other settings of the same server leave: that"
            " calibration was made otherwise, and the shares scaled by the libraries are the ones to read."
        )


if __name__ == "__main__":
    main()
