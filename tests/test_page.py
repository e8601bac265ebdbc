"""Pages: what is written is safe and whole, and what is drawn can be read, clicked and typed at in a real browser."""

import base64
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from pygan import page
from pygan.page.charts import _thinned
from pygan.page.document import html

EVIL = '</script><script>document.title = "broken"</script><img src=x onerror=alert(1)>'


def test_every_text_is_escaped():
    body = page.section(EVIL, page.joined([page.table([{"a": EVIL}], {"a": EVIL}, caption=EVIL), page.note(EVIL)]))
    parts = [page.code(EVIL), page.tiles({EVIL: (EVIL, EVIL)}), page.heading(EVIL, EVIL), page.badge(EVIL)]
    parts += [page.curves(EVIL, [page.Line(EVIL, [1, 2], [1, 2])], note=EVIL, unit=EVIL, marks=[(1, EVIL)])]
    parts += [page.timeline({EVIL: [(1, "data:,")]}), page.pictures_row({EVIL: "data:,"}, caption=EVIL)]
    whole = page.html(EVIL, page.joined([body, *parts]), lead=EVIL, data={EVIL: [EVIL]})
    assert EVIL not in whole
    assert "<img src=x" not in whole
    assert whole.count("<script") == whole.count("</script>")


def test_data_comes_back_as_it_was_but_for_what_json_cannot_say():
    data = {"text": EVIL + "\u2028", "numbers": [1.5, float("nan"), float("inf")], "nested": {"a": (1, None, True)}}
    whole = html("t", "", data=data)
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', whole)[1]
    expected = {"text": data["text"], "numbers": [1.5, None, None], "nested": {"a": [1, None, True]}}
    assert json.loads(found) == expected


def test_a_script_cannot_end_itself():
    with pytest.raises(ValueError, match="must not contain"):
        page.html("t", "", scripts=["'</script>'"])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (12345, "12,345"),
        (0.4812345, "0.48123"),
        (2.5e-5, "2.5e-05"),
        (123456.7, "123,457"),
        (True, "on"),
        (None, "–"),
        (float("nan"), "NaN"),
        (float("-inf"), "-∞"),
        ("a", "a"),
    ],
)
def test_numbers_as_people_read_them(value, text):
    assert page.number(value) == text


def test_the_best_of_a_column_is_marked():
    rows = [{"l1": 3.0, "ssim": 0.5}, {"l1": 2.0, "ssim": 0.7}, {"l1": 2.0, "ssim": float("nan")}, {"l1": None}]
    found = page.table(rows, ("l1", "ssim"), best={"l1": "low", "ssim": "high"})
    assert re.findall(r'<td class="n best">([^<]*)', found) == ["2", "0.7", "2"]
    assert "best" not in page.table(rows[:1], ("l1",), best={"l1": "low"})  # nothing to compare with


def test_a_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match="zip"):
        page.table([(1, 2, 3)], ("a", "b"))


def test_a_picture_is_a_webp_of_its_size():
    uri = page.picture(Image.new("L", (7, 5)))
    kind, _, data = uri.partition(",")
    assert kind == "data:image/webp;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        assert (image.format, image.size) == ("WEBP", (7, 5))


def test_thinning_keeps_spikes_and_holes_and_ends():
    y = np.sin(np.arange(200_000) / 900.0)
    y[123_456], y[77_777], y[150_001] = 50.0, -50.0, np.nan
    x, thin = _thinned({"images": np.arange(200_000.0)}, y, 3000)
    assert len(thin) <= 3100
    places = dict(zip(x["images"].tolist(), thin.tolist(), strict=True))
    assert (places[123_456], places[77_777]) == (50.0, -50.0)
    assert np.isnan(places[150_001])
    assert {0, 199_999} <= places.keys()


def test_numbers_that_charts_share_are_there_once():
    x = {"images": np.arange(1000)}
    chart = [page.curves(name, [page.Line(name, x, np.arange(1000) + (k + 1) / 3)]) for k, name in enumerate("ab")]
    whole = page.html("t", page.charts(chart))
    ids = re.findall(r'class="column" data-id="(\w+)"', whole)
    assert len(ids) == len(set(ids)) == 3


def test_lines_without_a_common_axis_are_refused():
    lines = [page.Line("a", {"images": [1]}, [1]), page.Line("b", {"steps": [1]}, [1])]
    with pytest.raises(ValueError, match="axis"):
        page.curves("t", lines)
    with pytest.raises(ValueError, match="length"):
        page.curves("t", [page.Line("a", [1, 2], [1])])


# In the browser.

N = 30_000
X = {"images": np.arange(1, N + 1) * 4, "steps": np.arange(1, N + 1)}
SPIKE, HOLE, GONE = 20_001, 9_000, 1_500


def big():
    y = np.cos(np.arange(N) / 3000.0)
    y[SPIKE] = 100.0
    y[HOLE : HOLE + GONE] = np.nan
    return y


@pytest.fixture(scope="module")
def opened(browser, tmp_path_factory):
    """A page with everything on it, open."""
    few = page.Line("few", {"images": [4, 60_000, 120_000], "steps": [1, 15_000, 30_000]}, [0.25, 0.5, 1e-7])
    charts = [
        page.heading("Charts"),
        page.curves(
            "Big", [page.Line("big", X, big()), few], most=N, marks=[({"images": 60_000, "steps": 15_000}, "hm")]
        ),
        page.curves("Below", [page.Line("below", X, -1 - np.arange(N) / N)], most=N),
    ]
    reds = [(at, page.picture(Image.new("RGB", (40, 30), (at, 0, 0)), quality=100)) for at in (50, 100, 200)]
    blues = [(at, page.picture(Image.new("RGB", (40, 30), (0, 0, at)), quality=100)) for at in (100, 150)]
    rows = [{"flag": "--lr", "help": "rate"}, {"flag": "--seed", "help": "chance"}, {"flag": "--beta1", "help": "rate"}]
    table = page.table(rows, ("flag", "help"), marks=["changed", "", ""], name="fields")
    pictures = [page.timeline({"red": reds, "blue": blues}), page.pictures_row({"a": reds[0][1]})]
    words = [page.filtered(table, "fields", toggles={"changed": "changed"}), page.code("pygan x 'a b'")]
    body = [
        page.section("Charts", page.charts(charts)),
        page.section("Pictures", page.joined(pictures)),
        page.section("Words", page.joined(words)),
    ]
    file = tmp_path_factory.mktemp("page") / "page.html"
    file.write_text(page.html("All of it", page.joined(body)))
    browser.requests()
    browser.get(f"file://{file}")
    browser.execute_script("document.documentElement.style.scrollBehavior = 'auto'")
    return browser


@pytest.fixture
def find(opened):
    opened.refresh()
    opened.execute_script("document.documentElement.style.scrollBehavior = 'auto'")
    return lambda css: opened.find_elements("css selector", css)


def hover(driver, canvas, part):
    """Move the pointer over a chart to a part of its plot's width, 0 to 1."""
    from selenium.webdriver.common.action_chains import ActionChains

    driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
    width = canvas.size["width"]
    ActionChains(driver, duration=0).move_to_element_with_offset(canvas, int((part - 0.5) * width), 0).perform()


def tip(chart):
    """What a chart's tip says: (its head, {line: value})."""
    lines = chart.find_element("css selector", ".tip").text.splitlines()
    return lines[0], dict(line.split(" ")[:2] for line in lines[1:] if " " in line)


def place(head):
    """{"images": 400, "steps": 100} from the head of a tip."""
    return {part.split()[0]: int(part.split()[1].replace(",", "")) for part in head.split("·")}


def test_nothing_is_fetched_and_nothing_fails(opened, find):
    assert [url for url in opened.requests() if not url.endswith("page.html")] == []
    assert [entry["message"] for entry in opened.get_log("browser")] == []
    assert opened.title == "All of it"
    assert all(chart.get_attribute("data-drawn") for chart in find(".chart"))


@pytest.mark.parametrize("part", [0.2, 0.5, 0.9])
def test_hover_shows_the_values_of_the_row(opened, find, part):
    chart = find(".chart")[0]
    hover(opened, chart.find_element("css selector", ".over"), part)
    head, values = tip(chart)
    at = place(head)
    assert at["images"] == 4 * at["steps"]
    assert float(values["big"]) == pytest.approx(float(np.float32(big()[at["steps"] - 1])), rel=1e-5)
    assert abs(at["images"] / (4 * N) - part) < 0.1  # the axis and its label take a little of the width
    assert find(".tip")[1].get_attribute("hidden")  # the crosshair is in both charts, the tip here


def test_a_line_elsewhere_says_where_its_value_is(opened, find):
    chart = find(".chart")[0]
    hover(opened, chart.find_element("css selector", ".over"), 0.75)
    text = chart.find_element("css selector", ".tip").text
    assert re.search(r"few (0.5 at 60,000|1e-7 at 120,000)", text)


def test_the_legend_hides_a_line_and_the_axis_fits_what_is_left(opened, find):
    chart, button = find(".chart")[0], find(".chart .legend button")[0]
    drawn = int(chart.get_attribute("data-drawn"))
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    assert int(chart.get_attribute("data-drawn")) == drawn + 1
    hover(opened, chart.find_element("css selector", ".over"), 0.5)
    head, values = tip(chart)
    assert list(values) == ["few"]
    assert place(head)["steps"] == 15_000
    button.click()
    hover(opened, chart.find_element("css selector", ".over"), 0.4)
    assert set(tip(chart)[1]) == {"few", "big"}


def pixels(opened, chart):
    """The chart's lower canvas as an array (h, w, 4)."""
    canvas = chart.find_element("css selector", "canvas")
    uri = opened.execute_script("return arguments[0].toDataURL()", canvas)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGBA"))


def inked(opened, chart, colour):
    """The columns and rows of pixels with a colour of the palette."""
    value = opened.execute_script(
        "return getComputedStyle(document.documentElement).getPropertyValue(arguments[0]).trim()", colour
    )
    wanted = np.array([int(value[i : i + 2], 16) for i in (1, 3, 5)])
    image = pixels(opened, chart)
    return np.nonzero((np.abs(image[..., :3].astype(int) - wanted).sum(2) < 40) & (image[..., 3] > 120))


def test_a_spike_of_one_row_in_thirty_thousand_is_drawn(opened, find):
    """The other lines lie between -1 and 1; what is inked near the top can only be the spike."""
    chart = find(".chart")[0]
    rows, columns = inked(opened, chart, "--c0")
    height, width = pixels(opened, chart).shape[:2]
    high = columns[rows < 0.3 * height]
    assert len(high) > 0
    assert abs(high.mean() / width - SPIKE / N) < 0.05


def test_a_hole_is_a_gap_with_a_mark(opened, find):
    chart = find(".chart")[0]
    assert chart.get_attribute("data-holes") == str(GONE)
    find(".chart .legend button")[1].click()  # nothing lies over the line
    columns = np.unique(inked(opened, chart, "--c0")[1])
    first, last = (columns.min() + part / N * np.ptp(columns) for part in (HOLE, HOLE + GONE))
    assert not ((columns > first + 3) & (columns < last - 3)).any()
    assert ((columns > first - 4) & (columns < first + 3)).any()
    assert ((columns > last - 3) & (columns < last + 4)).any()
    rows, _ = inked(opened, chart, "--bad")
    assert len(rows) > 5
    assert rows.max() < 20  # at the upper edge


def test_the_logarithm_of_what_is_not_positive_is_not_drawn(opened, find):
    first, second = find(".chart")[:2]
    assert second.find_element("css selector", ".log").get_attribute("hidden")  # all of it is negative
    button = first.find_element("css selector", ".log")
    before = inked(opened, first, "--c1")[0]
    button.click()
    assert button.get_attribute("aria-pressed") == "true"
    after = inked(opened, first, "--c1")[0]
    assert np.ptp(after) > np.ptp(before) + 20  # 1e-7 is far from 0.5 now


def test_smoothing_draws_the_mean_and_says_it(opened, find):
    opened.execute_script(
        "const s = document.querySelector('.smooth'); s.value = 0.9; s.dispatchEvent(new Event('input'))"
    )
    chart = find(".chart")[0]
    hover(opened, chart.find_element("css selector", ".over"), 0.5)
    steps = place(tip(chart)[0])["steps"]
    raw, mean, mass = big()[:steps], 0.0, 0.0
    for value in raw[-400:]:
        mean, mass = 0.9 * mean + 0.1 * value, 0.9 * mass + 0.1
    said = float(re.search(r"big \S+ ~ (\S+)", chart.find_element("css selector", ".tip").text)[1])
    assert said == pytest.approx(mean / mass, rel=1e-3)
    few = re.search(r"few \S+ ~ (\S+)", chart.find_element("css selector", ".tip").text)[1]
    assert float(few) == 0.5  # a mean over three of thirty thousand would say nothing


def test_drag_zooms_all_charts_and_a_double_click_returns(opened, find):
    from selenium.webdriver.common.action_chains import ActionChains

    chart, canvas = find(".chart")[0], find(".chart .over")[0]
    opened.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
    width = canvas.size["width"]
    mouse = ActionChains(opened, duration=50)
    mouse.move_to_element_with_offset(canvas, int(-0.1 * width), 0).click_and_hold()
    mouse.move_by_offset(int(0.2 * width), 0).release().perform()
    assert find(".whole")[0].is_enabled()
    hover(opened, canvas, 0.2)
    near = place(tip(chart)[0])["images"]
    assert 0.35 * 4 * N < near < 0.5 * 4 * N
    other = find(".chart")[1]
    hover(opened, other.find_element("css selector", ".over"), 0.2)
    assert abs(place(tip(other)[0])["images"] - near) < 4 * N * 0.02
    ActionChains(opened).double_click(canvas).perform()
    assert not find(".whole")[0].is_enabled()
    hover(opened, canvas, 0.2)
    assert place(tip(chart)[0])["images"] < 0.25 * 4 * N


def test_keys_read_a_chart(opened, find):
    from selenium.webdriver.common.keys import Keys

    chart, canvas = find(".chart")[1], find(".chart .over")[1]
    opened.execute_script("arguments[0].focus()", canvas)
    canvas.send_keys(Keys.HOME)
    assert place(tip(chart)[0]) == {"images": 4, "steps": 1}
    canvas.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert place(tip(chart)[0]) == {"images": 12, "steps": 3}
    canvas.send_keys(Keys.END, Keys.ARROW_LEFT)
    head, values = tip(chart)
    assert place(head)["steps"] == N - 1
    assert float(values["below"]) == pytest.approx(-1 - (N - 2) / N, rel=1e-5)
    canvas.send_keys(Keys.ESCAPE)
    assert find(".tip")[1].get_attribute("hidden")


def test_the_x_axis_can_be_steps(opened, find):
    select = find(".axis select")[0]
    assert [option.text for option in select.find_elements("css selector", "option")] == ["images", "steps"]
    opened.execute_script("arguments[0].value = 'steps'; arguments[0].dispatchEvent(new Event('change'))", select)
    chart = find(".chart")[0]
    hover(opened, chart.find_element("css selector", ".over"), 0.99)
    assert place(tip(chart)[0])["steps"] == N


def test_what_happened_is_told_where_it_happened(opened, find):
    from selenium.webdriver.common.keys import Keys

    chart, canvas = find(".chart")[0], find(".chart .over")[0]
    find(".chart .legend button")[0].click()  # only the line of three points is left
    opened.execute_script("arguments[0].focus()", canvas)
    canvas.send_keys(Keys.HOME)
    assert "hm" not in chart.find_element("css selector", ".tip").text
    canvas.send_keys(Keys.ARROW_RIGHT)
    assert chart.find_element("css selector", ".tip").text.endswith("hm")


def test_values_are_there_without_a_picture(find):
    details = find(".chart details")[0]
    assert "no number" not in details.text
    details.find_element("css selector", "summary").click()
    assert f"30,000 ({GONE} no number)" in details.text
    assert "100" in details.text


def test_a_slider_moves_all_lanes(opened, find):
    shown = "return [...document.querySelectorAll('.lanes img')].map((i) => i.style.visibility + i.dataset.i)"
    words = "return [...document.querySelectorAll('.lanes span')].map((s) => s.textContent)"
    output = find(".timeline output")[0]
    assert output.text == "200 images"
    assert opened.execute_script(shown) == ["2", "1"]
    assert opened.execute_script(words) == ["", "at 150"]
    slider = find(".timeline input")[0]
    from selenium.webdriver.common.keys import Keys

    slider.send_keys(Keys.HOME)
    assert output.text == "50 images"
    assert opened.execute_script(words) == ["", "nothing yet"]
    first = opened.execute_script("return document.querySelector('.lanes img').src")
    slider.send_keys(Keys.ARROW_RIGHT)
    assert output.text == "100 images"
    assert opened.execute_script("return document.querySelector('.lanes img').src") != first
    play = find(".timeline .play")[0]
    opened.execute_script("arguments[0].scrollIntoView({block: 'center'})", play)
    play.click()
    assert play.text == "Pause"
    play.click()
    assert play.text == "Play"


def test_a_click_enlarges_and_escape_returns(opened, find):
    from selenium.webdriver.common.keys import Keys

    button = find(".pictures .zoom")[0]
    opened.execute_script("arguments[0].scrollIntoView({block: 'center'})", button)
    button.click()
    dialog = find("#large")[0]
    assert dialog.get_attribute("open")
    assert find("#large img")[0].size["width"] >= 400  # 40 pixels, enlarged by a whole factor
    dialog.send_keys(Keys.ESCAPE)
    assert not dialog.get_attribute("open")


def test_a_table_is_filtered(find):
    rows = lambda: [row.text for row in find("#fields tbody tr") if row.is_displayed()]  # noqa: E731
    box = find(".filtered input[type=search]")[0]
    box.send_keys("RATE")
    assert rows() == ["--lr rate", "--beta1 rate"]
    assert find(".filtered output")[0].text == "2 of 3"
    find(".filtered input[type=checkbox]")[0].click()
    assert rows() == ["--lr rate"]


def test_a_command_is_copied(opened, find):
    opened.execute_cdp_cmd(
        "Browser.grantPermissions", {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    )
    button = find(".copy")[0]
    opened.execute_script("arguments[0].scrollIntoView({block: 'center'})", button)
    button.click()
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(opened, 5).until(lambda _: button.text == "Copied")
    read = "const done = arguments[0]; navigator.clipboard.readText().then(done, (e) => done(String(e)))"
    assert opened.execute_async_script(read) == "pygan x 'a b'"


def test_dark_and_narrow(opened, find):
    """The page obeys the system's colours, charts too, and nothing is wider than a telephone."""
    light = opened.execute_script("return getComputedStyle(document.body).backgroundColor")
    emulated = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", emulated)
    metrics = {"width": 400, "height": 800, "deviceScaleFactor": 2, "mobile": True}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        opened.refresh()
        dark = opened.execute_script("return getComputedStyle(document.body).backgroundColor")
        bright = lambda colour: sum(map(int, re.findall(r"\d+", colour)[:3])) / 3  # noqa: E731
        assert bright(light) > 200 > 60 > bright(dark)
        assert opened.execute_script("return document.documentElement.scrollWidth") <= 400
        assert len(inked(opened, find(".chart")[0], "--c0")[0]) > 0
    finally:
        opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
        opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
