"""What a report says: the verdict, the seed, the figures; and that the page needs nothing else."""

import re
from html.parser import HTMLParser

import msgspec
from rich.console import Console

from drill.samples import BEGAN, changed, fault, good_observations
from purveyor_drill.measures import Spread, measure, per_second
from purveyor_drill.page import write
from purveyor_drill.report import Report, Run, judge
from purveyor_drill.schedule import Fault
from purveyor_drill.terminal import show

RUN = Run(shape="split", seconds=60, rate=50, seed=4711, policy="resend", ledger="postgres")
PLANNED = [Fault(at_s=1.0, action="kill", target="mails-1", lasts_s=0.5)]
VOID = {"meta", "br", "line", "polyline"}


class Tags(HTMLParser):
    """Checks that every tag is closed, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        assert tag in VOID

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def broken_report() -> Report:
    observed = good_observations()
    observed.injected.append(fault("kill", "<b>evil</b>", BEGAN + 2, BEGAN + 3, BEGAN + 4))
    del observed.ledger[0], observed.mails[0]
    return judge(RUN, PLANNED, observed)


def test_the_files(tmp_path):
    report = broken_report()
    data, page = write(report, tmp_path)
    assert msgspec.json.decode(data.read_bytes(), type=Report) == report
    text = page.read_text()
    assert "Violated: I4" in text
    assert "4711" in text
    assert RUN.command in text
    assert "event-0" in text
    assert "{{" not in text
    assert "<b>evil</b>" not in text
    parser = Tags()
    parser.feed(text)
    assert parser.open == []


def test_the_page_needs_nothing_from_elsewhere(tmp_path):
    page = write(judge(RUN, PLANNED, good_observations()), tmp_path)[1].read_text()
    assert not re.search(r"https?://|<script|<link|@import|url\(|src=", page)
    assert "prefers-color-scheme: dark" in page
    assert "Proven: 1 faults, 3 orders accepted" in page


def test_the_terminal(tmp_path):
    console = Console(record=True, width=140, file=(tmp_path / "out").open("w"))
    show(broken_report(), [tmp_path / "report.html"], console)
    told = console.export_text()
    assert "I4   events, ledger and mails match" in told
    assert "Violated: I4" in told
    assert f"repeat with: {RUN.command}" in told


def test_the_figures():
    observed = good_observations()
    changed(observed.ledger, 0, resends=1)
    observed.mails.append(msgspec.structs.replace(observed.mails[0], at=BEGAN + 4))
    figures = measure(observed)
    assert (figures.orders_sent, figures.orders_accepted, figures.orders_lost, figures.mails_lost) == (3, 3, 0, 0)
    assert (figures.mails_duplicated, figures.sender_deaths, figures.duplicates_per_death) == (1, 1, 1.0)
    assert figures.duplicates_by_cause == {"kill mails-1": 1}
    assert figures.recovery["kill mails-1"].median == 1.5
    assert figures.faults == {"kill mails-1": 1}


def test_lost_and_doubled_are_counted():
    observed = good_observations()
    observed.orders.append(observed.orders[1])
    del observed.orders[0], observed.mails[2]
    figures = measure(observed)
    assert (figures.orders_lost, figures.orders_duplicated, figures.mails_lost) == (1, 1, 1)


def test_a_disturbed_recovery_is_not_counted():
    observed = good_observations()
    observed.injected = [
        fault("kill", "mails-1", BEGAN + 1, BEGAN + 1.7, BEGAN + 3),
        fault("freeze", "smtp", BEGAN + 1.8, BEGAN + 2.2, BEGAN + 2.2),
    ]
    assert set(measure(observed).recovery) == {"freeze smtp"}


def test_spreads():
    assert Spread.of([]) == Spread(count=0, median=0, p99=0, longest=0)
    assert Spread.of(range(1, 101)) == Spread(count=100, median=50, p99=99, longest=100)
    assert per_second([BEGAN - 1, BEGAN, BEGAN + 0.9, BEGAN + 2], BEGAN, 4) == [2, 0, 1, 0]
