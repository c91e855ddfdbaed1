"""The budgets of a run as JUnit XML: one test case each, for CI systems that know nothing else."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from mediaserver.loadtest.report import Report


def junit(report: Report) -> bytes:
    """UTF-8."""
    name = report.scenario["name"]
    failures = sum(not check.holds for check in report.checks)
    attributes = {"name": f"loadtest.{name}", "tests": str(len(report.checks)), "failures": str(failures)}
    suites = ET.Element("testsuites")
    suite = ET.SubElement(suites, "testsuite", attributes, errors="0", skipped="0", time=f"{report.seconds:.1f}")
    for check in report.checks:
        case = ET.SubElement(suite, "testcase", classname=f"loadtest.{name}", name=check.name)
        if not check.holds:
            text = f"{check.measured}, allowed {check.allowed} ({check.segment})"
            ET.SubElement(case, "failure", message=text, type=check.segment).text = text
    told = [*(finding.text for finding in report.findings), *report.refused, *report.gone]
    ET.SubElement(suite, "system-out").text = "\n".join(told)
    return bytes(ET.tostring(suites, encoding="utf-8", xml_declaration=True))
