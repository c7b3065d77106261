"""Parse the HTML of a report."""

from __future__ import annotations

from html.parser import HTMLParser

from rsft.evaluation.report.pages import write_report

VOID_ELEMENTS = {"meta", "input", "img"}


class Page(HTMLParser):
    """A report: its elements, its tables and the text of its sections.

    Attributes:
        html: the text of the file.
        tags: name and attributes of every element.
        tables: rows of cell texts of every table.
        sections: text by section.
    """

    def __init__(self, html):
        super().__init__()
        self.html = html
        self.tags = []
        self.open = []
        self.tables = []
        self.sections = {}
        self.feed(html)
        assert not self.open, "an element is not closed"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID_ELEMENTS:
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
        section = next(
            (attrs["aria-labelledby"] for tag, attrs in self.open if tag == "section"),
            "header",
        )
        self.sections[section] = self.sections.get(section, "") + data
        if ("td" in names or "th" in names) and "small" not in names:
            self.tables[-1][-1][-1] += data

    def all(self, tag):
        """Return the attributes of all elements with this tag."""
        return [attrs for name, attrs in self.tags if name == tag]


def page_of(run):
    """Write the report of a run folder and parse it."""
    return Page(write_report(run).read_text(encoding="utf-8"))
