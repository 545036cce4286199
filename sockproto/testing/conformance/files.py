"""A report as a file: JUnit's XML for a build server, or a page for people."""

from __future__ import annotations

from html import escape
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from sockproto.service.escaping import escaped
from sockproto.testing.conformance.results import Report, Result, Verdict

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62em; margin: 2em auto; padding: 0 1em;
       color: #222; background: #fff }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; vertical-align: top; padding: .35em .8em .35em 0;
         border-bottom: 1px solid #ddd }
td:first-child { white-space: nowrap; font-weight: 600 }
td:last-child { text-align: right }
pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: .4em 0; font-size: 14px }
.ok { color: #186a30 } .weak { color: #8a5a00 } .failed { color: #b3171d } .na { color: #666 }
@media (prefers-color-scheme: dark) {
  body { color: #ddd; background: #181818 } th, td { border-color: #444 }
  .ok { color: #6fce8b } .weak { color: #e6b450 } .failed { color: #ff7b7b } .na { color: #999 }
}
"""

_CLASSES = {
    Verdict.OK: "ok",
    Verdict.WEAK: "weak",
    Verdict.FAILED: "failed",
    Verdict.NOT_APPLICABLE: "na",
}


def junit(report: Report, *, strict: bool = False) -> str:
    """
    The report as JUnit's XML, which build servers read.

    Args:
        report: The report.
        strict: Whether a check that says ``WEAK`` has failed.
    """
    failing = {Verdict.FAILED, Verdict.WEAK} if strict else {Verdict.FAILED}
    failures = [each for each in report.results if each.verdict in failing]
    skipped = report.of(Verdict.NOT_APPLICABLE)
    suite = Element(
        "testsuite",
        name=f"sockproto conformance {escaped(report.name)}",
        tests=str(len(report.results)),
        failures=str(len(failures)),
        skipped=str(len(skipped)),
        errors="0",
        time=f"{sum(each.seconds for each in report.results):.3f}",
    )
    for result in report.results:
        case = SubElement(
            suite,
            "testcase",
            classname=f"{escaped(report.name)}.{result.group}",
            name=result.check,
            time=f"{result.seconds:.3f}",
        )
        if result.verdict in failing:
            trouble = SubElement(case, "failure", message=escaped(result.reason))
            trouble.text = _text(report, result)
        elif result.verdict is Verdict.NOT_APPLICABLE:
            SubElement(case, "skipped", message=escaped(result.reason))
        elif result.verdict is Verdict.WEAK:
            SubElement(case, "system-out").text = f"WEAK: {escaped(result.reason)}"
    indent(suite)
    return f"<?xml version='1.0' encoding='utf-8'?>\n{tostring(suite, 'unicode')}\n"


def html(report: Report) -> str:
    """The report as one page, without scripts and without anything from elsewhere."""
    rows = "\n".join(_row(report, each) for each in report.results)
    name = escape(escaped(report.name))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Conformance of {name}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>Conformance of {name}</h1>
<p>{escape(escaped(report.summary))}</p>
<table>
<thead><tr><th>Verdict</th><th>Check</th><th>Promise</th><th>Cases</th></tr></thead>
<tbody>
{rows}
</tbody>
</table>
</body>
</html>
"""


def _row(report: Report, result: Result) -> str:
    found = escape(_text(report, result)) if result.reason else ""
    shown = f"<pre>{found}</pre>" if found else ""
    kind = _CLASSES[result.verdict]
    return (
        f'<tr class="{result.group}"><td class="{kind}">{result.verdict}</td>'
        f"<td><code>{result.check}</code></td>"
        f"<td>{escape(result.promise)}{shown}</td><td>{result.cases}</td></tr>"
    )


def _text(report: Report, result: Result) -> str:
    return "\n".join(map(escaped, report.describe(result)))
