"""The page in a real browser, on a desk and on a phone, by day and by night: what it shows, and that it can be read."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By

from stalewatch.commands.main import main
from stalewatch.reports import page

pytest.importorskip("jinja2")

WIDTHS = (1280, 390)
THEMES = ("light", "dark")
LOAD = ("--users", 5, "--seed", 3)
STALE = ("--read-from", "any", "--lag", 0.05)
DRILL = ("drill", "memory", "--fault", "kill-primary", "--at", 3, "--for", 5, "--duration", 15)
COMMANDS = {
    "clean": ("bench", "memory", "--topology", "linearizable", "--ops", 2000, "--rate", 300),
    "violated": ("bench", "memory", *STALE, "--ops", 3000, "--rate", 300),
    "drill": (*DRILL, *STALE, "--rate", 100),
    "repeated": (*DRILL, *STALE, "--rate", 100, "--vary", "write-acks=1,majority", "--repeat", 3),
}

UNREADABLE = """
    const width = document.documentElement.clientWidth, found = [];
    for (const one of document.querySelectorAll('body *')) {
      const text = [...one.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
      if (!one.checkVisibility() || !(text || one.tagName === 'CANVAS')) continue;
      const box = one.getBoundingClientRect(), style = getComputedStyle(one);
      if (box.right > width + 1 || box.left < -1) found.push(`${one.tagName} ends at ${box.right}: ${one.textContent}`);
      if (parseFloat(style.fontSize) < 11) found.push(`${one.tagName} is small: ${one.textContent}`);
      if (one.scrollWidth > one.clientWidth + 1 && style.overflow !== 'visible') found.push(`cut: ${one.textContent}`);
    }
    return found;
"""
"""Returns visible texts and charts that leave the screen, are cut, or are smaller than 11 px."""

ENDS = """
    return [...document.querySelectorAll('.lanes')].filter((one) => one.checkVisibility()).map((lanes) => {
      const box = (one) => one.getBoundingClientRect();
      const arrow = lanes.querySelector('.arrow'), bars = [...lanes.querySelectorAll('.bar')].map(box);
      return arrow && [box(arrow).left, box(arrow).right, bars.at(-2).right, bars.at(-1).left];
    }).filter(Boolean);
"""
"""Returns where each arrow begins and ends, and the bars that it should join."""

Results = list[dict[str, Any]]


def emulate(browser: webdriver.Chrome, width: int, theme: str = "light") -> None:
    """Give the page a screen, which it notices by itself as it would on a device that is turned."""
    features = [{"name": "prefers-color-scheme", "value": theme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    # The events of both come with the next frames.
    browser.execute_async_script(
        "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => done()))"
    )


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Results]]:
    """Return the page and the results of each command."""
    folder, made = tmp_path_factory.mktemp("pages"), {}
    for name, command in COMMANDS.items():
        html, result = folder / f"{name}.html", folder / f"{name}.json"
        assert main([str(word) for word in (*command, *LOAD, "--json", result, "--report", html)]) == 0
        found = json.loads(result.read_text())
        made[name] = (html, found if isinstance(found, list) else [found])
    return made


@pytest.fixture(scope="module")
def words(browser: webdriver.Chrome, pages: dict[str, tuple[Path, Results]]) -> dict[str, str]:
    """Return the text of each page on a desk, after a look at all of its sizes and themes."""
    return {name: text for name, (html, _) in pages.items() for text in _looked_at(browser, html)}


def _looked_at(browser: webdriver.Chrome, html: Path) -> Iterator[str]:
    emulate(browser, 1280)
    browser.get(html.as_uri())
    yield browser.find_element(By.TAG_NAME, "main").text.replace("\xa0", " ")
    charts = browser.execute_script("return [...document.querySelectorAll('.uplot')].length")
    papers = set()
    for width in WIDTHS:
        for theme in THEMES:
            emulate(browser, width, theme)
            assert browser.execute_script("return document.documentElement.scrollWidth") <= width
            assert browser.execute_script(UNREADABLE) == [], (html.name, width, theme)
            assert browser.execute_script("return document.querySelectorAll('.uplot canvas').length") == charts
            for begin, end, write, read in browser.execute_script(ENDS):
                assert (begin, end) == (pytest.approx(write, abs=6), pytest.approx(read, abs=6))
            papers.add(browser.execute_script("return getComputedStyle(document.body).backgroundColor"))
    assert len(papers) == len(THEMES)
    assert not [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


def figures(html: Path) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="figures">(.*?)</script>', html.read_text())
    assert found
    return json.loads(found[1])  # type: ignore[no-any-return] # what the page draws


def lines(figure: dict[str, Any]) -> dict[str, list[float]]:
    return {line["name"]: line["y"] for panel in figure["panels"] for line in panel["lines"]}


@pytest.mark.parametrize("name", ["clean", "violated", "drill"])
def test_the_figures_of_a_run_are_those_of_its_json(
    name: str, words: dict[str, str], pages: dict[str, tuple[Path, Results]]
) -> None:
    shown, (html, (result,)) = words[name], pages[name]
    assert html.stat().st_size < 500_000
    stale = result["guarantees"]["stale_reads"]
    for row in result["guarantees"].values():
        if row["checked"]:
            assert f"{row['violated']:,} / {row['checked']:,}" in shown
    latency = result["latency"]["write"]["service_ms"]
    assert f"writes p50 {latency['p50']:#.3g} ms, p99 {latency['p99']:#.3g} ms" in shown
    assert result["command"] in shown
    if stale["violated"]:
        assert f"{stale['rate'] * 100:.3g} % were stale ({stale['violated']:,} of {stale['checked']:,})" in shown
        served = {row["node"]: row.get("stale_reads", 0) for row in result["nodes"]}
        assert sum(served.values()) == stale["violated"]
        for node, number in served.items():
            assert re.search(rf"^{node} [\d,]+ {number:,}\b", shown, re.MULTILINE)
    drawn = lines(figures(html)["timeline0"])
    assert sum(drawn["reads"]) == result["operations"]["read"]["ok"]
    assert sum(drawn.get("stale reads", [])) == stale["violated"]
    assert max(drawn["read p99"]) == max(second.get("read_p99_ms", 0) for second in result["timeline"])


def test_the_marks_of_the_curve_are_those_of_the_json(pages: dict[str, tuple[Path, Results]], words: Any) -> None:
    html, (result,) = pages["violated"]
    (curve,) = figures(html)["freshness"]["curves"]
    after = result["guarantees"]["stale_reads"]["fresh_after_s"]
    assert [mark["x"] for mark in curve["marks"]] == [age for age in after.values() if age is not None]
    assert f"{curve['marks'][0]['name']}".replace("\xa0", " ") in words["violated"]


def test_a_drill_says_first_how_long_nobody_could_write(
    words: dict[str, str], pages: dict[str, tuple[Path, Results]]
) -> None:
    html, (result,) = pages["drill"]
    rto_s = result["recovery"]["write"]["rto_s"]
    assert words["drill"].splitlines()[1] == "Simulated store, kill-primary, leader: w=1 / any"
    assert f"nobody could write for {rto_s:.2f} s" in words["drill"].splitlines()[2]
    assert f"How long could nobody write?\n{rto_s:.2f} s" in words["drill"]
    (band,) = figures(html)["timeline0"]["bands"]
    (fault,) = result["faults"]
    assert band["to"] - band["from"] == pytest.approx(fault["end_s"] - fault["start_s"], abs=0.01)


def test_repeats_are_shown_as_median_and_range(words: dict[str, str], pages: dict[str, tuple[Path, Results]]) -> None:
    shown, (_, results) = words["repeated"], pages["repeated"]
    assert len(results) == 6
    for acks in (1, "majority"):
        own = [one for one in results if one["options"]["write_acks"] == acks]
        rto_s = sorted(one["recovery"]["write"]["rto_s"] for one in own)
        spread = f"{median(rto_s):.2f} s" + (
            f"\n({rto_s[0]:.2f} \u2013 {rto_s[-1]:.2f} s)" if f"{rto_s[0]:.2f}" != f"{rto_s[-1]:.2f}" else ""
        )
        assert spread.replace("\n", " ") in shown.replace("\n", " ")
        assert f"leader: w={acks} / any, run 3" in shown
    assert not re.search(r"seed\d+-", shown)


HOSTILE = "<img src=x onerror='window.hacked=1'><script>window.hacked=1</script>\u202e\x1b[31m" + "y" * 1_000_000


def test_hostile_texts_are_text(
    browser: webdriver.Chrome, pages: dict[str, tuple[Path, Results]], tmp_path: Path
) -> None:
    _, (result,) = pages["drill"]
    hostile = json.loads(json.dumps(result).replace('"m1"', json.dumps(HOSTILE)).replace('"s1"', json.dumps(HOSTILE)))
    hostile |= {
        "database": HOSTILE,
        "run": HOSTILE,
        "command": HOSTILE,
        "drill": HOSTILE,
        "options": {HOSTILE: HOSTILE},
    }
    page.write(tmp_path / "page.html", [hostile, hostile])
    assert (tmp_path / "page.html").stat().st_size < 1_000_000
    emulate(browser, 390)
    browser.get((tmp_path / "page.html").as_uri())
    assert "<img src=x onerror=" in browser.find_element(By.TAG_NAME, "main").text
    assert browser.execute_script("return window.hacked || document.querySelectorAll('img').length") == 0
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
    assert not [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
