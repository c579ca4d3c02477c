"""Limits that a network must keep beside a board's: `quant budget --max-macs 30M --max-params 20k`.

    gated(report, {"max_macs": 30e6})    the report with a line more for each limit
    junit(report), github(report)        its lines for a CI job

Reports of built artifacts are judged alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from edge_runtime.errors import Failure
from edge_runtime.quoting import github_property, github_text, xml

if TYPE_CHECKING:
    from quant.audit.findings import BudgetPart, Layer  # the help of `quant budget` needs no NumPy


class Gate(NamedTuple):
    """A limit: the option that sets it, what it counts, its value in a report, and in a row of the report's layers."""

    name: str
    title: str
    help: str
    value: Callable[[BudgetPart], float]
    of_layer: Callable[[Layer], float]


GATES: Final = (
    Gate("max_macs", "MACs a second, executed:", "MACs a second as the streaming graph executes them",
         lambda r: round(1e6 * r.totals.mmacs_per_s), lambda row: round(1e6 * row.mmacs_per_s)),
    Gate("max_published_macs", "MACs a second, published:", "MACs a second as papers count them (ptflops 0.7)",
         lambda r: r.published.macs, lambda row: row.published_macs),
    Gate("max_params", "learned parameters:", "learned parameters, as papers count them: without the ERB matrices",
         lambda r: r.published.n_learned, lambda row: row.n_learned),
    Gate("max_bytes", "weight bytes:", "bytes of weights, biases and scales, as planned",
         lambda r: r.totals.weight_bytes, lambda row: row.weight_bytes),
    Gate("max_state", "state bytes:", "bytes carried from frame to frame",
         lambda r: r.totals.state_bytes, lambda row: row.state_bytes),
)  # fmt: skip


def gated(report: BudgetPart, limits: Mapping[str, float]) -> BudgetPart:
    """The report with a line for each limit, and its verdict."""
    chosen = [gate for gate in GATES if gate.name in limits]
    lines = [report.line(g.name, g.title, g.value(report), limits[g.name], g.of_layer) for g in chosen]
    return report.judged_by([*report.budget, *lines])


def check(report: BudgetPart, name: str) -> None:
    """Failure that names every exceeded line of a report and the largest layer in it."""
    if broken := [line.sentence for line in report.budget if line.exceeded]:
        remedy = "choose a smaller network or wider limits"
        raise Failure(f"over budget: {'; '.join(broken)}", where=name, remedy=remedy)


def junit(report: BudgetPart, name: str) -> str:
    """JUnit XML: a test case a line, one that is exceeded has failed."""
    from xml.etree import ElementTree  # `quant --help` pays for none of it

    lines = report.budget
    counted = {"tests": str(len(lines)), "failures": str(sum(line.exceeded for line in lines)), "errors": "0"}
    suites = ElementTree.Element("testsuites", counted)
    suite = ElementTree.SubElement(suites, "testsuite", {"name": f"quant budget {xml(name)}", **counted})
    for line in lines:
        case = ElementTree.SubElement(suite, "testcase", {"classname": f"budget.{xml(name)}", "name": line.name})
        if line.exceeded:
            ElementTree.SubElement(case, "failure", {"message": xml(line.sentence), "type": "exceeded"})
        else:
            ElementTree.SubElement(case, "system-out").text = xml(line.sentence)
    ElementTree.indent(suites)
    return ElementTree.tostring(suites, encoding="unicode", xml_declaration=True)


def github(report: BudgetPart, name: str) -> str:
    """GitHub workflow commands: an error for each exceeded line, a notice for each kept one."""
    title = github_property(f"quant budget {name}")
    return "\n".join(
        f"::{'error' if line.exceeded else 'notice'} title={title}::{github_text(line.sentence)}"
        for line in report.budget
    )


FORMATS: Final = {"junit": junit, "github": github}
