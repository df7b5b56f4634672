"""Locust's web page with the Consistency tab, in a real browser."""

import csv
import io
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from tests.locust.conftest import SLOW, STALE, Swarm, assert_agrees

SERVER = Path(__file__).with_name("login_users.py")
FAULTED = Path(__file__).with_name("faulted_users.py")
LOAD = ("--keys", "100", *SLOW, *STALE)
Eventually = Callable[..., None]


def button(browser: webdriver.Chrome, text: str) -> WebElement:
    """Return the button or tab with that text, once it exists and is enabled."""

    def found(_: object) -> WebElement | None:
        buttons = browser.find_elements(By.CSS_SELECTOR, "button, [role=tab]")
        return next((one for one in buttons if one.text.upper() == text.upper() and one.is_enabled()), None)

    # The page may be rendered again at any time.
    element: WebElement = WebDriverWait(browser, 30, ignored_exceptions=[StaleElementReferenceException]).until(found)
    return element


def start(browser: webdriver.Chrome, users: int) -> None:
    for name, value in (("userCount", users), ("spawnRate", 50)):
        field = WebDriverWait(browser, 30).until(lambda _, name=name: browser.find_element(By.NAME, name))
        browser.execute_script("arguments[0].select()", field)
        field.send_keys(str(value))
    button(browser, "Start").click()


def table(browser: webdriver.Chrome) -> dict[str, list[str]]:
    """Return the cells of the visible table, by the first cell of each row."""
    script = "return [...document.querySelectorAll('table tr')].map(r => [...r.cells].map(c => c.innerText))"
    rows: list[list[str]] = browser.execute_script(script)
    return {row[0]: row[1:] for row in rows if row}


def checked(browser: webdriver.Chrome) -> int:
    return int(table(browser).get("stale_reads", ["0"])[0])


def operations(browser: webdriver.Chrome) -> int:
    """Return how many operations the row of the whole run tells of."""
    return int(table(browser)["whole run"][6].split()[0])


@pytest.mark.parametrize(
    "processes", [pytest.param((), id="alone", marks=pytest.mark.soak), pytest.param(("--processes", "2"), id="master")]
)
def test_the_numbers_rise_follow_a_reset_and_end_with_the_verdict(
    swarm: Swarm, browser: webdriver.Chrome, eventually: Eventually, processes: tuple[str, ...]
) -> None:
    pid = swarm.alone(*processes, *LOAD)
    swarm.await_page()
    if processes:
        swarm.await_log(pid, "reported as ready", times=2)
    browser.get(f"http://127.0.0.1:{swarm.web_port}/")
    start(browser, users=10)
    button(browser, "Consistency").click()
    eventually(lambda: checked(browser) > 0)
    before = checked(browser)
    eventually(lambda: checked(browser) > before)
    rows = table(browser)
    assert rows["Guarantee"][0] == "# Checked"
    assert rows["stale_reads"][4] == "violated"
    assert "wrote" in rows["stale_reads"][6]
    assert rows["conflicts"][4] == "not applicable"
    browser.save_screenshot(str(swarm.folder / "consistency.png"))
    eventually(lambda: checked(browser) > 2000)
    before = checked(browser)
    button(browser, "Reset").click()
    eventually(lambda: 0 < checked(browser) < before)
    assert operations(browser) > before
    button(browser, "Stop").click()
    button(browser, "New")
    result = swarm.result()
    assert_agrees(result, swarm.histories)
    assert int(table(browser)["lost_writes"][0]) == result["guarantees"]["lost_writes"]["checked"] > 0
    assert operations(browser) == sum(sum(counts.values()) for counts in result["operations"].values())
    assert table(browser)["whole run"][4] == result["verdict"]
    button(browser, "Download data").click()
    link = browser.find_element(By.PARTIAL_LINK_TEXT, "consistency CSV")
    assert link.get_attribute("href") == f"http://127.0.0.1:{swarm.web_port}/consistency.csv"
    lines = list(csv.DictReader(io.StringIO(swarm.get("/consistency.csv").text)))
    assert {line["guarantee"] for line in lines} >= set(result["guarantees"])


def test_the_tables_are_readable_in_light_and_dark(swarm: Swarm, browser: webdriver.Chrome) -> None:
    pid = swarm.alone("--autostart", "-u", "10", "-r", "50", *LOAD)
    swarm.await_users(pid)
    browser.get(f"http://127.0.0.1:{swarm.web_port}/?tab=consistency")
    button(browser, "Consistency")
    WebDriverWait(browser, 30).until(lambda _: checked(browser) > 0)
    contrasts = []
    for theme in ("light", "dark"):
        contrasts.append(contrast(browser))
        browser.save_screenshot(str(swarm.folder / f"{theme}.png"))
        theme_switch(browser).click()
        WebDriverWait(browser, 30).until(lambda _, theme=theme: is_dark(browser) == (theme == "light"))
    assert min(contrasts) > 7  # WCAG's AAA
    width = "return [document.querySelector('table').scrollWidth, document.documentElement.clientWidth]"
    assert int.__le__(*browser.execute_script(width))


def test_verdicts_are_colored_guarantees_explained_and_stale_reads_charted(
    swarm: Swarm, browser: webdriver.Chrome, eventually: Eventually
) -> None:
    load = ("--rate", "300", "--keys", "100", *STALE)
    pid = swarm.alone("--autostart", "-u", "10", "-r", "50", "--processes", "2", *load)
    # Locust's page stays on the form of a new test if it was opened before the workers were there.
    swarm.await_users(pid)
    browser.get(f"http://127.0.0.1:{swarm.web_port}/?tab=consistency")
    eventually(lambda: table(browser).get("stale_reads", [""] * 5)[4] == "violated")
    eventually(lambda: cell(browser, "stale_reads", "verdict")["verdict"] == "violated")
    assert cell(browser, "stale_reads", "verdict")["color"] == "rgb(198, 40, 40)"
    assert cell(browser, "conflicts", "verdict")["color"] == "rgb(97, 97, 97)"
    assert "newest write" in cell(browser, "stale_reads", "promise")["promise"]
    assert not [name for name in table(browser) if name.startswith("worker")]
    browser.save_screenshot(str(swarm.folder / "consistency.png"))
    button(browser, "Worker Runs").click()
    eventually(
        lambda: [row[0] for name, row in table(browser).items() if name.startswith("worker ")] == ["running"] * 2
    )
    button(browser, "Charts").click()
    eventually(lambda: browser.find_elements(By.CSS_SELECTOR, "#stale-share polyline"))
    assert "Stale Reads" in browser.find_element(By.ID, "stale-share").text
    browser.execute_script("document.getElementById('stale-share').scrollIntoView()")
    browser.save_screenshot(str(swarm.folder / "charts.png"))
    button(browser, "Stop").click()
    button(browser, "New")
    points, timeline = swarm.get("/stale-share.json").json()["points"], swarm.result()["timeline"]
    assert [share for _, share in points] == [
        pytest.approx(100 * row.get("stale_reads", 0) / row["read_ok"]) if row.get("read_ok") else None
        for row in timeline
    ]


def test_faults_are_shaded_in_the_chart_of_stale_reads(
    swarm: Swarm, browser: webdriver.Chrome, eventually: Eventually
) -> None:
    load = ("-u", "5", "-r", "50", "--rate", "200", "--keys", "100", *STALE)
    pid = swarm.alone("--autostart", *load, locustfile=str(FAULTED))
    swarm.await_users(pid)
    browser.get(f"http://127.0.0.1:{swarm.web_port}/?tab=charts")
    eventually(lambda: browser.find_elements(By.CSS_SELECTOR, "#stale-share polyline"))
    assert not browser.find_elements(By.CSS_SELECTOR, "#stale-share rect")
    swarm.get("/faults/begin")
    began = time.time()
    eventually(lambda: bands(swarm) and bands(swarm)[0]["to"] > began + 1)
    swarm.get("/faults/end")
    eventually(lambda: bands(swarm)[0]["to"] < swarm.get("/stale-share.json").json()["end"] - 1)
    (band,) = bands(swarm)
    assert band["name"] == "partition node-0, node-1"
    assert began - 1 < band["from"] < began < band["to"]
    eventually(lambda: 0 < shaded_share(browser) < 1)
    assert band["name"] in browser.find_element(By.ID, "stale-share").text
    browser.execute_script("document.getElementById('stale-share').scrollIntoView()")
    browser.save_screenshot(str(swarm.folder / "faults.png"))
    swarm.post_reset()
    eventually(lambda: not bands(swarm))


def bands(swarm: Swarm) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = swarm.get("/stale-share.json").json()["bands"]
    return found


def shaded_share(browser: webdriver.Chrome) -> float:
    """Return the share of the chart's width that is shaded."""
    script = (
        "const [chart, band] = ['#stale-share svg', '#stale-share rect'].map((one) => document.querySelector(one));"
        "return band ? band.getBoundingClientRect().width / chart.getBoundingClientRect().width : 0"
    )
    share: float = browser.execute_script(script)
    return share


def cell(browser: webdriver.Chrome, row: str, field: str) -> dict[str, str]:
    """Return what the script has set of the cell with that field in the row of a guarantee, and its color."""
    script = (
        "const row = [...document.querySelectorAll('tr')].find((one) => one.cells[0].innerText === arguments[0]);"
        "const cell = row.querySelector(`td[data-${arguments[1]}]`);"
        "return cell ? {...cell.dataset, color: getComputedStyle(cell).backgroundColor} : {[arguments[1]]: ''}"
    )
    found: dict[str, str] = browser.execute_script(script, row, field)
    return found


def theme_switch(browser: webdriver.Chrome) -> WebElement:
    """Return the only visible button of the header without text."""
    buttons = browser.find_elements(By.CSS_SELECTOR, "header button")
    (switch,) = (one for one in buttons if one.is_displayed() and not one.text)
    return switch


def is_dark(browser: webdriver.Chrome) -> bool:
    return luminance(browser, "body", "backgroundColor") < 0.5


def contrast(browser: webdriver.Chrome) -> float:
    """Return the contrast of a cell's text with the page, as defined by WCAG."""
    text, page = luminance(browser, "td", "color"), luminance(browser, "body", "backgroundColor")
    return (max(text, page) + 0.05) / (min(text, page) + 0.05)


def luminance(browser: webdriver.Chrome, selector: str, style: str) -> float:
    color: str = browser.execute_script(f"return getComputedStyle(document.querySelector('{selector}')).{style}")
    channels = [float(part) / 255 for part in color[color.index("(") + 1 : -1].split(",")[:3]]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_an_invalid_form_starts_nothing_and_shows_why(swarm: Swarm, browser: webdriver.Chrome) -> None:
    swarm.alone(*LOAD)
    swarm.await_page()
    browser.get(f"http://127.0.0.1:{swarm.web_port}/")
    button(browser, "Custom parameters").click()
    field = WebDriverWait(browser, 30).until(lambda _: browser.find_element(By.NAME, "writeRatio"))
    WebDriverWait(browser, 30).until(lambda _: field.is_displayed())
    browser.execute_script("arguments[0].select()", field)
    field.send_keys("7")
    button(browser, "Start").click()
    message = "--write-ratio '7': must be a share from 0 to 1"
    WebDriverWait(browser, 30).until(lambda _: message in browser.find_element(By.TAG_NAME, "body").text)
    assert swarm.get("/stats/requests").json()["state"] == "ready"


def test_a_class_can_be_picked_on_the_page(swarm: Swarm) -> None:
    swarm.alone("--class-picker", *LOAD, locustfile="locustfiles/")
    swarm.await_page()
    swarm.post("/swarm", user_count=5, spawn_rate=50, user_classes="MemoryUser")
    swarm.await_operations()
    swarm.post("/stop")
    assert swarm.result()["database"] == "memory"
    assert_agrees(swarm.result(), swarm.histories, workers=1)


def test_without_a_login_nothing_is_shown(swarm: Swarm) -> None:
    swarm.alone("--web-login", *LOAD, locustfile=str(SERVER))
    swarm.await_page()
    for path in ("/consistency.csv", "/stats/requests", "/stale-share.json", "/stalewatch.js"):
        answer = swarm.get(path)
        assert answer.url.partition("?")[0].endswith("/login")
        assert "stale_reads" not in answer.text


def test_the_page_sets_no_value_beyond_the_bounds(swarm: Swarm) -> None:
    swarm.alone(*LOAD)
    swarm.await_page()
    for field, value, most in (
        ("keys", "99999999999", "10000000"),
        ("value_size", "99999999999", "16000000"),
        ("rate", "1e8", "10000000"),
        ("user_count", "1000000000000", "1000000"),
        ("spawn_rate", "1e308", "1000000"),
        ("run_time", "999999h", "31536000"),
    ):
        answer = swarm.post("/swarm", **{"user_count": 1, "spawn_rate": 1, field: value}).json()
        assert not answer["success"]
        assert f"must be {most} at most" in answer["message"]
    assert swarm.get("/stats/requests").json()["state"] == "ready"


def test_the_login_of_the_environment_opens_the_page(swarm: Swarm) -> None:
    pid = swarm.alone("--web-login", "-L", "DEBUG", *LOAD, env={"STALEWATCH_WEB_PASSWORD": "s3cret"})
    swarm.await_page()
    base = f"http://127.0.0.1:{swarm.web_port}"
    form, right = {"user_count": 1, "spawn_rate": 1}, {"username": "stalewatch", "password": "s3cret"}
    with requests.Session() as page:
        for wrong in ({**right, "password": "guess"}, {**right, "username": "guess"}, {}):
            assert "wrong user or password" in page.post(f"{base}/login_submit", data=wrong, timeout=30).text
            assert page.post(f"{base}/swarm", data=form, timeout=30).url.partition("?")[0] == f"{base}/login"
        assert page.post(f"{base}/login_submit", data=right, timeout=30).url == f"{base}/"
        assert "stale_reads" in page.get(f"{base}/consistency.csv", timeout=30).text
        assert page.post(f"{base}/swarm", data=form, timeout=30).json()["success"]
    assert swarm.get("/consistency.csv").url.partition("?")[0] == f"{base}/login"
    assert "s3cret" not in swarm.log(pid)


def test_no_run_starts_while_the_last_one_is_ending(swarm: Swarm) -> None:
    pid = swarm.alone(*LOAD, "--service", "4", "--timeout", "9")
    swarm.await_page()
    swarm.post("/swarm", user_count=5, spawn_rate=50)
    swarm.await_users(pid)
    stopping = threading.Thread(target=swarm.post, args=("/stop",))
    stopping.start()
    time.sleep(1)
    answer = swarm.post("/swarm", user_count=9, spawn_rate=50).json()
    stopping.join()
    assert not answer["success"]
    assert "still ending" in answer["message"]
    assert_agrees(swarm.result(), swarm.histories, workers=1)
