"""The report's page: sound, whole without a network, and nothing in it that a name could smuggle in."""

import math
import re
import shutil
import subprocess
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastserve.controlplane.html import MAX_FEATURES, render_html
from fastserve.controlplane.reporting import Report
from fastserve.controlplane.svg import MAX_CATEGORIES, columns, line, slots
from fastserve.monitoring.comparing import FeatureComparison, Side
from tests.controlplane.fleets import category, number, report, side

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=http://evil.example/x onerror=alert(1)>',
    "</style><script>1</script>",
    "'--></svg><svg onload=alert(1)>",
    "&lt;b&gt; &amp;",
    "\x00\u202e\ud7ff\r\n\t",
    "javascript:alert(1)",
]
VOID = {"meta", "input"}
TAGS = {
    *(
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "main",
        "script",
        "section",
        "div",
        "h1",
        "h2",
        "p",
        "span",
    ),
    *("a", "dl", "dt", "dd", "label", "input", "figure", "figcaption", "details", "summary"),
    *("table", "caption", "thead", "tbody", "tr", "th", "td", "svg", "defs", "pattern", "path", "text"),
    "bdi",
    "button",  # made by the page's script
}


class Page(HTMLParser):
    """Every tag with its attributes, and the text of each; a tag that closes another one is an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.said: list[tuple[str, str]] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.said.append((self.open[-1] if self.open else "", data))

    def words(self, tag: str) -> list[str]:
        return [text for of, text in self.said if of == tag]

    def count(self, tag: str, **attributes: str) -> int:
        wanted = {name.rstrip("_"): value for name, value in attributes.items()}
        return sum(of == tag and wanted.items() <= found.items() for of, found in self.tags)


def check(page: Page) -> None:
    """Nothing but the page's own tags, no handler, no address outside of it."""
    for tag, attributes in page.tags:
        assert tag in TAGS, tag
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            assert name not in ("src", "srcset", "action", "style", "data", "formaction"), (tag, name)
            if name in ("href", "xlink:href"):
                assert value is not None and re.fullmatch(r"#f\d+", value), value
    assert sum(tag == "script" for tag, _ in page.tags) == 1
    assert sum(tag == "style" for tag, _ in page.tags) == 1
    (style,) = page.words("style")
    assert "url(" not in style.replace("url(#hr)", "").replace("url(#hl)", "")
    assert "@import" not in style


def test_a_page_of_both_kinds() -> None:
    page = Page(render_html(report(number("x"), category("carrier"))))
    check(page)
    assert page.words("h1") == ["flights version 3"]
    assert page.count("section") == 2
    assert [page.words("bdi")[at] for at in (0, 1)] == ["x", "carrier"]
    assert page.count("a", href="#f1") == page.count("section", id="f1") == 1
    said = "".join(text for _, text in page.said)
    assert "12,345, 2013-07-01 00:00 UTC to 2013-07-02 00:00 UTC" in said
    assert "1,000 rows: train.parquet" in said
    assert "0% → 10%" in said  # missing
    assert "0% → 25%" in said  # out of range
    assert "2 → 2.75" in said  # mean
    assert "live traffic" not in said


def test_shares_of_a_number() -> None:
    # 100 reference rows, 100 live rows of which 10 are missing.
    assert slots(number(), 40) == [
        ("≤ 0", 0.0, 0.05, True, ("", "")),
        ("0 to 1", 0.1, 0.05, False, ("0", "1")),
        ("1 to 2", 0.4, 0.1, False, ("1", "2")),
        ("2 to 3", 0.4, 0.2, False, ("2", "3")),
        ("3 to 4", 0.1, 0.3, False, ("3", "4")),
        ("> 4", 0.0, 0.2, True, ("", "")),
        ("missing", 0.0, 0.1, True, ("", "")),
    ]


def test_many_bins_are_taken_together() -> None:
    counts = (1, *range(1, 101), 2)
    wide = number(edges=tuple(map(float, range(101))), reference=side(counts, 0, 3), live=side(counts, 0, 3))
    made = slots(wide, 16)
    assert len(made) == 15 + 2  # seven to one
    assert [made[1].name, made[-2].name] == ["0 to 7", "98 to 100"]
    assert sum(one.live for one in made) == pytest.approx(1)


def test_an_edge_just_below_zero_reads_as_zero() -> None:
    made = slots(number(edges=(math.nextafter(0.0, -math.inf), 1.0, 2.0, 3.0, 4.0)), 40)
    assert [one.name for one in made[:2]] == ["≤ 0", "0 to 1"] and made[1].ends == ("0", "1")


def test_values_near_each_other_are_told_apart() -> None:
    days = tuple(1_700_000_000 + 86_400.0 * at for at in range(5))
    made = slots(number(edges=days), 40)
    assert [one.ends[0] for one in made[1:5]] == ["1.7e+09", "1.70009e+09", "1.70017e+09", "1.70026e+09"]
    assert made[1].name == "1.7e+09 to 1.70009e+09"
    moved = number(
        reference=side((0, 10, 40, 40, 10, 0), 0, 0, days[0]),
        live=side((5, 5, 10, 20, 30, 20), 10, 25, days[1]),
    )
    assert "1.7e+09 → 1.7001e+09" in render_html(report(moved))


@pytest.mark.parametrize("low", [0.0, 8.363e-05])
def test_edges_that_are_long_stand_apart(low: float) -> None:
    edges = tuple(low + at / 256 for at in range(17))
    even = side((0, *(1,) * 16, 0), 0, 0)
    drawn = columns(slots(number(edges=edges, reference=even, live=even), 40), "t")
    ends = sorted(
        (int(x) - len(text) * 3, int(x) + len(text) * 3)
        for x, y, text in re.findall(r'x="(\d+)" y="(\d+)" text-anchor="middle">([^<]*)<', drawn)
        if y == "152"
    )
    assert len(ends) >= 4
    assert all(before[1] < after[0] for before, after in pairwise(ends))


def test_categories_are_the_largest_the_others_and_the_unseen() -> None:
    names = tuple(f"c{place}" for place in range(30))
    many = category(
        categories=names,
        reference=side(tuple(range(30)), 0, 0),
        live=Side(rows=10, missing=0, counts=(9,) + (0,) * 29, outside=1),
    )
    made = slots(many, 16)
    assert [one.name for one in made[:2]] == ["c0", "c29"]
    assert [one.name for one in made[-2:]] == ["10 others", "unseen"]
    assert len(made) == MAX_CATEGORIES + 2
    assert made[-1].live == 0.1


@pytest.mark.parametrize(
    "odd",
    [
        number(edges=(1.0,), reference=side((0, 0), 0, 0), live=side((0, 0), 0, 0)),
        number(distances={}, live=Side(rows=0, missing=0, counts=(0,) * 6, outside=0)),
    ],
    ids=["one edge", "no rows"],
)
def test_odd_features(odd: FeatureComparison) -> None:
    page = Page(render_html(report(odd)))
    check(page)
    assert page.count("section") == 1


def test_without_features() -> None:
    empty = Page(render_html(report(rows=0)))
    check(empty)
    assert any("No rows were served" in text for text in empty.words("p"))


def test_a_line_has_gaps_and_dots() -> None:
    drawn = line([(0.0, 1.0), (0.25, 2.0), (0.5, None), (0.75, 1.0), (1.0, None)], "t")
    (path,) = re.findall(r'class="s" d="([^"]*)"', drawn)
    assert re.sub(r"[0-9.]+ [0-9.]+", "", path) == "MLMh.1"
    assert "no window" in line([(0.0, None)], "t")


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ((0.2, 1.9), {"0", "1", "2"}),
        ((-0.0032, 1.9), {"2", "0"}),
        ((-0.0032, 0.004), {"−0.005", "0", "0.005"}),
        ((-6.1, 0.0), {"−10", "0"}),
    ],
)
def test_a_line_says_round_figures_and_0_below_which_it_goes(
    values: tuple[float, ...], labels: set[str]
) -> None:
    drawn = line(list(enumerate(values)), "t")
    assert set(re.findall(r'text-anchor="end">([^<]*)<', drawn)) == labels


def test_a_long_timeline_is_drawn_by_its_highest() -> None:
    long = report(number(), points=1_000)
    page = render_html(long)
    (psi, _) = re.findall(r'class="s" d="([^"]*)"', page)
    assert psi.count("L") <= 120
    assert "the highest of each few windows" in page


def test_a_phi_that_nobody_measured_is_no_figure() -> None:
    words = "φ was not measured and counts as 1"
    page = render_html(report(number(phi=1.0)))
    assert words in page and "overdispersion" not in page
    page = render_html(report(number(phi=1.5, phi_windows=20)))
    assert words not in page and "overdispersion φ 1.5" in page
    assert f'<p class="soft">{words}; 100 live rows' in render_html(report(number(distances={})))


def test_a_reference_of_live_rows_is_said() -> None:
    said = Page(render_html(report(number(), source="live"))).words("p")
    assert any("The reference is live traffic" in text for text in said)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text(text: str) -> None:
    found = render_html(
        report(
            number(text, tensor=text, role=text),
            category(text, categories=(text, "b", "c")),
            model=text,
            aliases=(text,),
            description=text,
            profile=text,
        )
    )
    page = Page(found)
    check(page)
    if text.isprintable():
        assert page.words("bdi")[:2] == [text, text]
    said = "".join(words for _, words in page.said)
    assert all(one.isprintable() or one == "\n" for one in said)


def test_a_feature_that_is_gone_is_marked() -> None:
    rows = number("dew").model_copy(update={"live": side((0, 0, 0, 0, 0, 0), 500, 0), "distances": {}})
    page = Page(render_html(report(rows)))
    check(page)
    assert page.count("span", class_="high") == 2
    assert "the share of missing values is another" in page.words("span")
    assert any("100%" in text for text in page.words("span"))


def test_what_is_out_of_range_is_marked() -> None:
    page = Page(render_html(report(number(live=side((0, 5, 10, 20, 15, 50), 0, 50), distances={"psi": 0.0}))))
    assert page.count("span", class_="high") == 2
    assert "the share out of range or unseen is another" in page.words("span")


def test_two_marks_of_a_feature_are_told_apart() -> None:
    page = render_html(report(number(live=side((5, 5, 10, 20, 30, 20), 500, 25))))
    assert 'PSI is high</span>, <span class="high">the share of missing values is another</span></h2>' in page


@given(st.text(max_size=300), st.lists(st.text(max_size=40), min_size=1, max_size=30, unique=True))
@settings(max_examples=50)
def test_any_text(name: str, categories: list[str]) -> None:
    counts = side((1,) * len(categories), 0, 0)
    check(
        Page(render_html(report(category(name, categories=tuple(categories), reference=counts, live=counts))))
    )


def wide(count: int, name: str = "feature_{}") -> Report:
    """Features of 16 bins and two tails, and of 30 categories, over 60 windows."""
    bins = number(
        edges=tuple(place / 7 for place in range(17)),
        reference=side((50,) * 18, 3, 0, 1.0),
        live=side((49,) * 18, 9, 98, 2.0),
    )
    kinds = category(
        categories=tuple(name.format(place) for place in range(30)),
        reference=side((9,) * 30, 0, 0),
        live=side((8,) * 30, 5, 5),
    )
    features = [
        (kinds if place % 4 == 0 else bins).model_copy(update={"feature": name.format(place)})
        for place in range(count)
    ]
    return report(*features, points=60)


def test_two_thousand_features_fit() -> None:
    text = render_html(wide(2_000))
    assert text.count("<section") == 2_000
    assert len(text.encode()) < 20e6


def test_long_names_do_not_make_it_larger() -> None:
    text = render_html(wide(2_000, '"' * 250 + "{}"))
    assert len(text.encode()) < 20e6
    assert "The file is full" in text


def test_more_features_than_are_shown() -> None:
    text = render_html(report(*[number()] * (MAX_FEATURES + 5), points=1))
    assert text.count("<section") == MAX_FEATURES
    assert "Of 2,005 features the 2,000 that differ most are shown" in text


def test_both_schemes_have_enough_contrast() -> None:
    (style,) = Page(render_html(report(number()))).words("style")
    light, dark = re.findall(r":root\{([^}]*)\}", style)
    for scheme in (light, dark):
        colours = dict(re.findall(r"--(\w+):(#[0-9a-f]{3,6})", scheme))
        for name in ("ink", "soft", "high", "some", "low"):
            assert min(contrast(colours[name], colours[on]) for on in ("page", "card")) >= 4.5, name
        for name in ("ref", "live"):
            assert min(contrast(colours[name], colours[on]) for on in ("page", "card")) >= 3, name


def contrast(one: str, other: str) -> float:
    """As the Web Content Accessibility Guidelines define it."""

    def luminance(colour: str) -> float:
        digits = colour[1:] if len(colour) == 7 else "".join(c * 2 for c in colour[1:])
        parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dim, bright = sorted((luminance(one), luminance(other)))
    return (bright + 0.05) / (dim + 0.05)


@pytest.fixture
def browser(tmp_path: Path) -> list[str]:
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("no Chromium on the PATH")
    return [
        found,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path / 'browser'}",
        "--dump-dom",
    ]


def test_in_a_browser(browser: list[str], tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(render_html(report(number(HOSTILE[0]), category(HOSTILE[1]))), "utf-8")
    done = subprocess.run([*browser, file.as_uri()], capture_output=True, text=True, check=True, timeout=60)
    page = Page(done.stdout.removeprefix("<!DOCTYPE html>").strip())
    check(page)
    # Its own script ran, so that the policy lets it; nobody else's is there.
    assert page.count("button", type_="button") == 8
    assert page.count("script") == 1
    assert page.count("img") == 0
    assert page.count("section") == 2
