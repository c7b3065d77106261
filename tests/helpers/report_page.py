"""A report, read back."""

from __future__ import annotations

from html.parser import HTMLParser

from rsft.evaluation.report.run_page import write_report

VOID = {"meta", "input", "img"}


class Page(HTMLParser):
    """A report: its elements, its tables and the text of its sections."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.open, self.tables, self.sections, self.words = [], [], [], {}, []
        self.feed(html)
        assert not self.open, "an element is not closed"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append((tag, dict(attrs)))
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("th", "td"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        names = [tag for tag, _ in self.open]
        if "script" in names or "style" in names:
            return
        self.words.append(data)
        section = next((attrs["aria-labelledby"] for tag, attrs in self.open if tag == "section"), "header")
        self.sections[section] = self.sections.get(section, "") + data
        if ("td" in names or "th" in names) and "small" not in names:
            self.tables[-1][-1][-1] += data

    def all(self, tag):
        return [attrs for found, attrs in self.tags if found == tag]


def page_of(run):
    return Page(write_report(run).read_text(encoding="utf-8"))
