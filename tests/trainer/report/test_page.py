import base64
import re
from html.parser import HTMLParser

from trainer.report.content import Cell, Chart, Line, Missing, Point, Section, Source, Stat, Table
from trainer.report.page import page
from trainer.report.records import Runs

NOTHING = Runs((), (), ())
LINE = Line("z", "z", tuple(Point(x, Stat.of([1234.5 * x, 1236.5 * x])) for x in (1, 2)))
SOURCE = Source("photos <of> us", "one run & more")
CHART = Chart("chart", "A title", "epoch", "top-1", (LINE,), SOURCE, "What it is.", "What the paper says.")


def written(*parts, pictures=None):
    return page(NOTHING, (Section("A part", parts),), pictures or {})


class Checker(HTMLParser):
    """Notes where tags are left open, and everything that a browser would fetch."""

    def __init__(self):
        super().__init__()
        self.open, self.fetched, self.ids, self.links = [], [], [], []

    def handle_starttag(self, tag, attrs):
        named = dict(attrs)
        self.fetched += [named[name] for name in ("src", "srcset", "data", "poster") if name in named]
        self.fetched += [tag] if tag in ("script", "link", "iframe", "object") else []
        self.ids += [named["id"]] if "id" in named else []
        self.links += [named["href"]] if "href" in named else []
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_holds_its_pictures_and_fetches_nothing():
    missing = Missing("Figure 9", "no run <has> it", "stochcon train x")
    table = Table(
        "table", "T", (("", 1), ("both", 1)), ("a", "b"), ((Cell("c", "d"), Cell("e")),), "Caption."
    )
    text = written(CHART, table, missing, pictures={"chart": b"a picture"})
    checker = Checker()
    checker.feed(text)
    checker.close()
    assert checker.open == []
    assert checker.fetched == ["data:image/png;base64," + base64.b64encode(b"a picture").decode()]
    assert checker.links == ["#a-part"]
    assert set(checker.ids) == {"a-part", "chart", "table"}
    assert not re.search(r"https?://|url\(|@import|@font-face", text)
    assert "default-src 'none'" in text
    assert "prefers-color-scheme: dark" in text


def test_a_figure_lists_its_numbers_with_the_papers_words():
    text = written(CHART, pictures={"chart": b""})
    assert "<td>1,236<small>1,234 to 1,236, n = 2</small></td>" in text
    assert "<td>2,471<small>2,469 to 2,473, n = 2</small></td>" in text
    assert "<b>The paper.</b> What the paper says." in text
    assert "bands reach from the lowest to the highest" in text


def test_names_cannot_break_out_of_the_page():
    assert "photos &lt;of&gt; us.<br>one run &amp; more" in written(CHART, pictures={"chart": b""})
    assert "no run &lt;has&gt; it" in written(Missing("W", "no run <has> it", "c"))


def test_a_missing_part_says_why_and_what_would_make_it():
    text = written(Missing("Figure 9", "no run has it", "stochcon train x"))
    assert "<dt>Figure 9</dt><dd>no run has it<br><code>stochcon train x</code></dd>" in text


def test_without_a_finished_run_it_says_so():
    assert "No run given is finished." in written()
