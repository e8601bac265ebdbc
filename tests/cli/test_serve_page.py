"""The page of `pygan serve` in a headless Chromium: whole visits, each result compared with the offline one."""

import base64
import dataclasses
import http.client
import io
import json
import threading
import time

import numpy as np
import pytest
import torch
from PIL import Image
from serving import Negative, picture, pixels_of, png, served
from serving import until as server_until

from pygan import apply, pixels, use
from pygan.__main__ import main
from pygan.data import facades
from pygan.serve import server

KEY = "a-long-enough-key"
# The pixels of an element as a PNG: of a canvas itself, of an <img> by a canvas of its size.
PIXELS = """
const [id] = arguments;
const from = document.getElementById(id);
const [width, height] = [from.naturalWidth ?? from.width, from.naturalHeight ?? from.height];
const canvas = Object.assign(document.createElement("canvas"), { width, height });
canvas.getContext("2d").drawImage(from, 0, 0);
return canvas.toDataURL("image/png").split(",")[1];
"""
# A file for the page, from base64, by a drop or a paste.
GIVE = """
const [how, name, type, data] = arguments;
const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
const transfer = new DataTransfer();
transfer.items.add(new File([bytes], name, { type }));
const event = how === "paste"
  ? new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true, cancelable: true })
  : new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true });
document.body.dispatchEvent(event);
"""
# What lies in the clipboard, as base64 of a PNG.
CLIPBOARD = """
const done = arguments[0];
navigator.clipboard.read()
  .then(([item]) => item.getType("image/png")).then((blob) => blob.arrayBuffer())
  .then((bytes) => done(btoa(String.fromCharCode(...new Uint8Array(bytes)))), (error) => done(String(error)));
"""
# A camera of one colour, that is not asked of the browser. It moves, or no frames would come.
CAMERA = """
const canvas = Object.assign(document.createElement("canvas"), { width: 64, height: 48 });
const to = canvas.getContext("2d");
window.paint = (left, right) => {
  to.fillStyle = left; to.fillRect(0, 0, 32, 48);
  to.fillStyle = right; to.fillRect(32, 0, 32, 48);
};
window.paint("#c80000", "#0000c8");
setInterval(() => to.fillRect(60, 40, 1, 1), 30);
window.asked = 0;
navigator.mediaDevices.getUserMedia = async () => (window.asked += 1, canvas.captureStream(30));
"""


# The first question of the page goes wrong.
STUMBLE = """
const plain = window.fetch;
window.fetch = async (...asked) => ((window.fetch = plain), new Response("{}", { status: 504 }));
"""


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """Tiny runs: house fronts from labels, faces by label, pictures from noise, pictures from edges."""
    folder = tmp_path_factory.mktemp("serve-page")
    flags = ["--preset", "tiny", "--device", "cpu", "--no-tensorboard", "--steps", "2", "--epochs", "0"]
    found = {}
    for name, gan, more in (
        ("facades", "pix2pix", ()),
        ("faces", "stargan", ("--decay-epochs", "0")),
        ("noise", "dcgan", ()),
        ("edges", "pix2pix", ("--input-transform", "canny", "--no-test-dropout")),
    ):
        assert main(["train", gan, *flags, *more, "--run", str(folder / name)]) == 0
        found[name] = use.network(folder / name, device="cpu")
    return found


@pytest.fixture(scope="module")
def site(networks):
    with served(networks) as running:
        yield running


def until(browser, condition, most_s=30.0):
    """Wait until a JavaScript expression is true."""
    end = time.monotonic() + most_s
    while not browser.execute_script(f"return Boolean({condition})"):
        if time.monotonic() > end:
            pytest.fail(f"{condition} never came; the page says: {browser.find_element('tag name', 'body').text}")
        time.sleep(0.02)


def settled(browser):
    """Every picture that was to be sent is answered, and the last answer is shown."""
    until(browser, "document.body.dataset.busy === 'no' && document.body.dataset.state === 'shown'")


def visit(browser, url):
    browser.get_log("browser")
    browser.requests()
    browser.get(f"{url.rstrip('/')}/health")
    browser.execute_script("sessionStorage.clear()")  # of what was drawn before
    browser.get(url)
    settled(browser)


def calm(browser, url):
    """The page asked nobody else for anything, and had nothing to complain about."""
    assert all(one.startswith(url) for one in browser.requests())
    said = [entry["message"] for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
    assert not [line for line in said if "/favicon.ico" not in line]  # of /health, on the way here


def click(browser, name):
    browser.find_element("id", name).click()


def change(browser, name, value):
    """Give a field a value as its user would: with the events."""
    script = """
    const [id, value] = arguments;
    const field = document.getElementById(id);
    field.value = value;
    for (const name of ["input", "change"]) field.dispatchEvent(new Event(name, { bubbles: true }));
    """
    browser.execute_script(script, name, str(value))


def model(browser, name):
    change(browser, "model", name)
    settled(browser)


def seen(browser, name):
    """uint8 (h, w, 3): what an element shows."""
    image = Image.open(io.BytesIO(base64.b64decode(browser.execute_script(PIXELS, name))))
    return np.asarray(image.convert("RGB"))


def offline(network, given, *, seed=0, **options):
    """uint8 (h, w, 3): what `pygan translate` makes of those pixels."""
    (made,) = apply.translated(network, [pixels.read(png(given))], seed=seed, options=options)
    return made.pixels


def stroke(browser, name, points):
    """The mouse is pressed, goes through the points (parts of the board's width and height), and is let go."""
    from selenium.webdriver.common.action_chains import ActionChains

    board = browser.find_element("id", name)
    width, height = board.size["width"], board.size["height"]
    chain = ActionChains(browser, duration=20)
    for k, (x, y) in enumerate(points):
        chain.move_to_element_with_offset(board, round((x - 0.5) * width), round((y - 0.5) * height))
        if k == 0:
            chain.click_and_hold()
    chain.release().perform()


def press(browser, *keys):
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(browser).send_keys(*keys).perform()


def paint_with(browser, label, tool="brush"):
    browser.find_element("css selector", f"#palette [data-value={label}]").click()
    browser.find_element("css selector", f"[data-tool={tool}]").click()


def colour(label):
    return facades.PALETTE[1 + facades.CLASSES.index(label)]


def same(shown, expected):
    """Equal but for the last bit of a sum that another batch adds in another order."""
    assert shown.shape == expected.shape
    assert np.abs(shown.astype(int) - expected.astype(int)).max() <= 1


def test_painting_labels(browser, site, networks):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    visit(browser, site.url)
    assert browser.find_element("id", "tab-labels").get_attribute("aria-selected") == "true"
    assert "facade labels" in browser.find_element("id", "about").text
    names = [one.text for one in browser.find_elements("css selector", "#palette button span")]
    assert names == list(facades.CLASSES)
    example, first = seen(browser, "labels-board"), seen(browser, "result")
    assert example.shape == (32, 32, 3)  # as trained
    same(first, offline(networks["facades"], example))

    # A stroke: exactly one class where it went, and the very result of that picture.
    paint_with(browser, "door")
    stroke(browser, "labels-board", [(0.1, 0.1), (0.4, 0.3), (0.9, 0.2)])
    settled(browser)
    drawn, result = seen(browser, "labels-board"), seen(browser, "result")
    changed = (drawn != example).any(-1)
    assert 20 < changed.sum() < 200
    assert (drawn[changed] == colour("door")).all()
    assert (drawn[6, 28] == colour("door")).all()
    same(result, offline(networks["facades"], drawn))
    assert (result != first).any()

    # Back, forth, and by keys.
    click(browser, "undo")
    settled(browser)
    assert (seen(browser, "labels-board") == example).all()
    assert (seen(browser, "result") == first).all()
    ActionChains(browser).key_down(Keys.CONTROL).key_down(Keys.SHIFT).send_keys("z").perform()
    ActionChains(browser).key_up(Keys.SHIFT).key_up(Keys.CONTROL).perform()
    settled(browser)
    assert (seen(browser, "labels-board") == drawn).all()
    click(browser, "undo")

    # Rectangle, fill, everything, and every class, each exact.
    paint_with(browser, "shop", "rect")
    stroke(browser, "labels-board", [(0.11, 0.11), (0.9, 0.4), (0.61, 0.36)])
    expected = example.copy()
    expected[3:12, 3:20] = colour("shop")
    assert (seen(browser, "labels-board") == expected).all()
    paint_with(browser, "sill", "fill")
    stroke(browser, "labels-board", [(0.3, 0.2)])
    expected[3:12, 3:20] = colour("sill")
    assert (seen(browser, "labels-board") == expected).all()
    for label in facades.CLASSES:
        paint_with(browser, label)
        click(browser, "flood")
        assert (seen(browser, "labels-board") == colour(label)).all()
    click(browser, "clear")
    assert (seen(browser, "labels-board") == colour("background")).all()

    # Without a mouse: arrow keys and Space.
    paint_with(browser, "pillar")
    change(browser, "size", 4)
    browser.execute_script("document.getElementById('labels-board').focus()")
    press(browser, " ", *[Keys.ARROW_RIGHT] * 5, " ", Keys.ARROW_UP, Keys.ARROW_UP)
    settled(browser)
    drawn = seen(browser, "labels-board")
    assert 5 <= (drawn == colour("pillar")).all(-1).sum() <= 14
    assert len(np.unique(drawn.reshape(-1, 3), axis=0)) == 2
    same(seen(browser, "result"), offline(networks["facades"], drawn))

    # Chance, as its seed says; another size of the canvas.
    change(browser, "seed", 5)
    settled(browser)
    same(seen(browser, "result"), offline(networks["facades"], drawn, seed=5))
    assert (offline(networks["facades"], drawn, seed=5) != offline(networks["facades"], drawn)).any()
    for wrong, taken in ((-5, "0"), (2**40, str(2**32 - 1)), ("1.5", "1")):
        change(browser, "seed", wrong)
        assert browser.find_element("id", "seed").get_attribute("value") == taken
    click(browser, "dice")
    settled(browser)
    seed = int(browser.find_element("id", "seed").get_attribute("value"))
    same(seen(browser, "result"), offline(networks["facades"], drawn, seed=seed))
    change(browser, "canvas-size", 256)
    settled(browser)
    large = seen(browser, "labels-board")
    assert large.shape == seen(browser, "result").shape == (256, 256, 3)
    assert (large == drawn.repeat(8, axis=0).repeat(8, axis=1)).all()
    calm(browser, site.url)


def test_drawing_edges(browser, site, networks):
    visit(browser, site.url)
    model(browser, "edges")
    assert browser.find_element("id", "tab-draw").get_attribute("aria-selected") == "true"
    assert not browser.find_element("id", "colour").is_displayed()
    click(browser, "clear")
    change(browser, "size", 40)
    stroke(browser, "draw-board", [(0.2, 0.42), (0.8, 0.58)])
    settled(browser)
    drawn = seen(browser, "draw-board")
    assert drawn[16, 16].max() == 0
    assert drawn[2, 2].min() == 255
    assert drawn[:, 16].astype(int).sum() % 255 > 0  # its rim is soft, to the eye
    ink = np.where(drawn[:, :, :1] >= 128, np.uint8(255), np.uint8(0))
    given = pixels.to_signed(ink).transpose(2, 0, 1)[None]
    network = networks["edges"]
    made = apply.through(network, torch.from_numpy(given), seed=0)  # edges as they are, not edges of edges
    same(seen(browser, "result"), pixels.from_signed(made[0].permute(1, 2, 0).numpy(), "uint8"))
    before = seen(browser, "result")
    browser.find_element("css selector", "[data-tool=eraser]").click()
    stroke(browser, "draw-board", [(0.5, 0.2), (0.5, 0.8)])
    settled(browser)
    assert seen(browser, "draw-board")[16, 16].min() == 255
    assert (seen(browser, "result") != before).any()
    calm(browser, site.url)


def test_a_pen_that_feels_pressure(browser, site):
    visit(browser, site.url)
    click(browser, "tab-draw")
    box = browser.find_element("id", "draw-board").rect
    change(browser, "size", 64)
    widths = []
    for pressure in (0.1, 0.9):
        click(browser, "clear")
        for kind, part in (("mousePressed", 0.2), ("mouseMoved", 0.8), ("mouseReleased", 0.8)):
            event = {"type": kind, "x": box["x"] + part * box["width"], "y": box["y"] + box["height"] / 2}
            event |= {"button": "left", "buttons": 1, "clickCount": 1, "pointerType": "pen", "force": pressure}
            browser.execute_cdp_cmd("Input.dispatchMouseEvent", event)
        settled(browser)
        widths.append((seen(browser, "draw-board")[:, 16, 0] < 128).sum())
    assert 0 < widths[0] < widths[1]


def test_pictures_from_outside(browser, site, networks, tmp_path):
    visit(browser, site.url)
    model(browser, "faces")
    assert browser.find_element("id", "tab-upload").get_attribute("aria-selected") == "true"
    labels = networks["faces"].card.options["to"]
    assert [one.text for one in browser.find_elements("css selector", "#to button")] == [
        label.replace("_", " ") for label in labels
    ]
    given, file = picture(1, (16, 12))
    (tmp_path / "face.png").write_bytes(file)
    browser.find_element("id", "file").send_keys(str(tmp_path / "face.png"))
    until(browser, "document.getElementById('given-hint').textContent === '12 × 16 pixels'")
    settled(browser)
    same(seen(browser, "result"), offline(networks["faces"], given, to=labels[0]))
    browser.find_elements("css selector", "#to button")[2].click()
    settled(browser)
    same(seen(browser, "result"), offline(networks["faces"], given, to=labels[2]))

    for k, how in enumerate(("drop", "paste")):
        given, file = picture(5 + k, (14 + k, 16))
        click(browser, "tab-draw")
        browser.execute_script(GIVE, how, "x.png", "image/png", base64.b64encode(file).decode())
        until(browser, f"document.getElementById('given-hint').textContent === '16 × {14 + k} pixels'")
        settled(browser)
        same(seen(browser, "result"), offline(networks["faces"], given, to=labels[2]))
    browser.execute_script(GIVE, "drop", "x.html", "text/html", base64.b64encode(b"<b>no</b>").decode())
    until(browser, "document.getElementById('trouble-line').textContent === 'x.html is not a picture.'")
    broken = base64.b64encode(file[:60]).decode()
    browser.execute_script(GIVE, "drop", "<b>x</b>.png", "image/png", broken)
    until(browser, "document.getElementById('trouble-line').textContent.includes('cannot use this picture: ')")
    assert not browser.find_elements("css selector", "#trouble b")

    # Large ones are made as small as the canvas, and can be drawn on.
    given, file = picture(9, (48, 64))
    browser.execute_script(GIVE, "drop", "x.png", "image/png", base64.b64encode(file).decode())
    until(browser, "document.getElementById('given-hint').textContent === '64 × 48 pixels'")
    settled(browser)
    assert seen(browser, "result").shape == (12, 16, 3)
    change(browser, "canvas-size", 0)
    settled(browser)
    same(seen(browser, "result"), offline(networks["faces"], given, to=labels[2]))
    click(browser, "edit")
    settled(browser)
    assert browser.find_element("id", "tab-draw").get_attribute("aria-selected") == "true"
    assert seen(browser, "draw-board").shape == (48, 64, 3)
    stroke(browser, "draw-board", [(0.1, 0.5), (0.9, 0.5)])
    settled(browser)
    same(seen(browser, "result"), offline(networks["faces"], seen(browser, "draw-board"), to=labels[2]))


def test_the_camera(browser, site):
    visit(browser, site.url)
    model(browser, "faces")
    click(browser, "tab-camera")
    refuse = "navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('', 'NotAllowedError') }"
    browser.execute_script(refuse)
    click(browser, "camera-start")
    until(browser, "document.getElementById('camera-trouble').textContent.includes('refused')")
    browser.execute_script(CAMERA)
    assert browser.execute_script("return window.asked") == 0
    before = int(browser.execute_script("return document.body.dataset.results"))
    click(browser, "camera-start")
    until(browser, f"document.body.dataset.results > {before + 5}")
    frame = seen(browser, "under")
    assert frame.shape == (16, 16, 3)
    assert np.abs(frame[8, 2].astype(int) - (0, 0, 200)).max() < 24  # as in a mirror, the right is on the left
    assert np.abs(frame[8, 13].astype(int) - (200, 0, 0)).max() < 24
    assert "/s" in browser.find_element("id", "latency").text
    browser.execute_script("window.paint('#00c800', '#00c800')")
    click(browser, "camera-hold")
    settled(browser)
    held = browser.execute_script("return document.body.dataset.results")
    time.sleep(0.3)
    assert browser.execute_script("return document.body.dataset.results") == held
    click(browser, "camera-hold")
    until(browser, f"document.body.dataset.results > {held} + 3")
    assert browser.execute_script("return document.getElementById('camera-shown').srcObject.active")
    browser.execute_script("window.stream = document.getElementById('camera-shown').srcObject")
    click(browser, "tab-draw")
    assert not browser.execute_script("return window.stream.active")  # its light goes out
    assert browser.execute_script("return window.asked") == 1


def test_making_pictures_and_keeping_them(browser, site, networks, tmp_path):
    visit(browser, site.url)
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})

    def kept(button, name):
        click(browser, button)
        file = tmp_path / name
        end = time.monotonic() + 20
        while not file.exists() or not file.stat().st_size:
            assert time.monotonic() < end, sorted(tmp_path.iterdir())
            time.sleep(0.02)
        return pixels_of(file.read_bytes())

    # The result as it is shown, alone and beside what was given.
    board, result = seen(browser, "labels-board"), seen(browser, "result")
    assert (kept("save", "facades-result.png")[:, :, :3] == result).all()
    pair = kept("save-pair", "facades-result-pair.png")[:, :, :3]
    assert (pair == np.concatenate([board, result], axis=1)).all()

    permitted = {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"], "origin": site.url}
    browser.execute_cdp_cmd("Browser.grantPermissions", permitted)
    click(browser, "copy")
    until(browser, "document.querySelector('#copy span').textContent === 'Copied'")
    data = browser.execute_async_script(CLIPBOARD)
    assert (pixels_of(base64.b64decode(data))[:, :, :3] == result).all()

    # The input over the result: by the slider, and while the picture is pressed.
    under = browser.find_element("id", "under")
    assert not under.is_displayed()
    change(browser, "compare", 40)
    assert under.is_displayed()
    assert browser.execute_script("return document.getElementById('under').style.clipPath") == "inset(0px 60% 0px 0px)"
    change(browser, "compare", 0)
    from selenium.webdriver.common.action_chains import ActionChains

    hold = ActionChains(browser).click_and_hold(browser.find_element("id", "result"))
    hold.perform()
    assert under.is_displayed()
    ActionChains(browser).release().perform()
    assert not under.is_displayed()

    # From noise.
    model(browser, "noise")
    assert not browser.find_element("id", "tab-labels").is_displayed()
    network = networks["noise"]
    change(browser, "make-number", 5)
    settled(browser)
    change(browser, "make-seed", 3)
    settled(browser)
    assert len(browser.find_elements("css selector", "#grid img")) == 5
    made = network.generate(5, network.rng(3))
    expected = pixels.from_signed(made.permute(0, 2, 3, 1).numpy(), "uint8")
    browser.find_elements("css selector", "#grid button")[3].click()
    same(kept("save", "noise-made-4.png")[:, :, :3], expected[3])
    browser.find_elements("css selector", "#grid button")[3].click()
    sheet = kept("save", "noise-made.png")[:, :, :3]
    same(sheet[16:32, 16:32], expected[4])
    assert sheet.shape == (32, 48, 3)
    change(browser, "make-number", 1)
    settled(browser)
    until(browser, "!document.getElementById('result').hidden")
    same(
        seen(browser, "result"),
        pixels.from_signed(network.generate(1, network.rng(3))[0].permute(1, 2, 0).numpy(), "uint8"),
    )
    model(browser, "facades")
    assert (seen(browser, "result") == result).all()  # what was drawn is still there


def test_what_each_model_can_be_asked(browser):
    """Two directions, and a sentence."""
    ways = Negative(options={"direction": ("AtoB", "BtoA")})
    says = Negative(acts=("generate",), asks=("text",))
    says.card = dataclasses.replace(says.card, recipe=says.card.recipe | {"text_encoder": "hashing"})
    with served({"ways": ways, "says": says}) as running:
        visit(browser, running.url)
        click(browser, "tab-draw")
        settled(browser)
        assert (seen(browser, "result") == 255 - seen(browser, "draw-board")).all()
        browser.find_element("css selector", "#direction [data-value=BtoA]").click()
        settled(browser)
        assert (seen(browser, "result") == seen(browser, "draw-board")).all()
        assert browser.execute_script("return document.getElementById('seed-box').hidden")
        assert browser.execute_script("return document.querySelector('#ways.lone')") is None
        model(browser, "says")
        assert browser.find_element("css selector", "#ways.lone").text == "Make"  # a title: there is nothing to choose
        assert browser.find_element("id", "about").text == "Makes pictures from a sentence · trained on 7 images"
        field = browser.find_element("id", "make-text")
        assert field.is_displayed()
        field.clear()
        field.send_keys("a red bird")
        change(browser, "make-number", 2)
        settled(browser)
        assert len(browser.find_elements("css selector", "#grid img")) == 2
        calm(browser, running.url)


def test_a_page_that_could_not_begin_is_tried_again(browser, site):
    """A proxy gives up on the very first question."""
    script = browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": STUMBLE})
    try:
        browser.get(site.url)
        until(browser, "document.getElementById('trouble-line').textContent.startsWith('The network took too long')")
        click(browser, "retry")
        settled(browser)
        assert not browser.find_element("id", "trouble").is_displayed()
    finally:
        browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)


def test_a_stroke_is_shown_while_it_is_drawn_and_the_newest_wins(browser):
    from selenium.webdriver.common.action_chains import ActionChains

    network = Negative()
    with served({"negative": network}) as running:
        visit(browser, running.url)
        click(browser, "tab-draw")
        change(browser, "canvas-size", 256)
        settled(browser)
        # The mouse is still down.
        board, shown = browser.find_element("id", "draw-board"), seen(browser, "result")
        ActionChains(browser).move_to_element(board).click_and_hold().move_by_offset(90, 40).perform()
        settled(browser)
        assert (seen(browser, "result") != shown).any()
        assert (seen(browser, "result") == 255 - seen(browser, "draw-board")).all()
        ActionChains(browser).release().perform()
        settled(browser)
        # While one answer is waited for, five strokes become one request.
        network.gate.clear()
        before = len(network.seen)
        for k in range(6):
            stroke(browser, "draw-board", [(0.1, 0.1 + 0.1 * k), (0.9, 0.1 + 0.1 * k)])
        server_until(lambda: len(network.seen) == before + 1)
        assert browser.execute_script("return document.body.dataset.state") == "waiting"
        network.gate.set()
        settled(browser)
        assert len(network.seen) == before + 2
        assert (seen(browser, "result") == 255 - seen(browser, "draw-board")).all()


def test_a_busy_server_and_a_slow_one(browser):
    network = Negative()
    with served({"negative": network}, queue=1, timeout_s=3) as running:
        visit(browser, running.url)
        click(browser, "tab-draw")
        settled(browser)
        # Somebody else has the only place. The page waits, and goes on by itself.
        network.gate.clear()
        before = len(network.seen)
        other = threading.Thread(target=post, args=(running.port, picture()[1]))
        other.start()
        server_until(lambda: len(network.seen) > before)
        click(browser, "flood")
        until(browser, "document.getElementById('trouble-line').textContent.startsWith('The server is busy')")
        assert "Trying again" in browser.find_element("id", "trouble-line").text
        network.gate.set()
        other.join()
        settled(browser)
        assert browser.find_element("id", "trouble").get_attribute("hidden")
        assert (seen(browser, "result") == 255).all()
        # It takes too long: a line and a button, not a page that hangs.
        network.gate.clear()
        click(browser, "example")
        until(browser, "document.getElementById('trouble-line').textContent.startsWith('The network took too long')")
        network.gate.set()
        click(browser, "retry")
        settled(browser)
        assert (seen(browser, "result") == 255 - seen(browser, "draw-board")).all()


def test_a_reload_keeps_what_was_drawn(browser, site, networks):
    visit(browser, site.url)
    model(browser, "edges")
    stroke(browser, "draw-board", [(0.1, 0.9), (0.9, 0.1)])
    model(browser, "facades")
    paint_with(browser, "balcony")
    stroke(browser, "labels-board", [(0.1, 0.1), (0.9, 0.1)])
    settled(browser)
    drawn, labels, result = (seen(browser, name) for name in ("draw-board", "labels-board", "result"))
    browser.refresh()
    settled(browser)
    assert (seen(browser, "labels-board") == labels).all()
    assert (seen(browser, "result") == result).all()
    assert (seen(browser, "draw-board") == drawn).all()
    model(browser, "edges")
    browser.refresh()
    settled(browser)
    assert browser.find_element("id", "model").get_attribute("value") == "edges"


def test_a_picture_that_is_too_large(browser):
    with served({"negative": Negative()}, most_bytes=2000) as running:
        visit(browser, running.url)
        click(browser, "tab-draw")
        change(browser, "canvas-size", 512)
        until(browser, "document.getElementById('trouble-line').textContent.includes('larger than the server takes')")
        assert "2,000" in browser.find_element("id", "trouble-line").text


def test_a_key_and_a_restart(browser):
    from selenium.webdriver.common.keys import Keys

    with server.bound("127.0.0.1", 0) as sock:
        port = sock.getsockname()[1]
    url = f"http://127.0.0.1:{port}/"
    with served({"negative": Negative()}, port=port, api_key=KEY):
        browser.get(url)
        assert browser.execute_script("return getComputedStyle(document.body).display") == "grid"  # its style is let in
        browser.find_element("id", "key").send_keys("wrong one" + Keys.ENTER)
        until(browser, "document.querySelector('[role=alert]').textContent === 'That is not the key.'")
        browser.find_element("id", "key").send_keys(KEY + Keys.ENTER)
        until(browser, "document.body.dataset.state === 'shown'")
        click(browser, "tab-draw")
        click(browser, "flood")
        change(browser, "colour", "#ffaa00")
        settled(browser)
    # It is gone: what is drawn now is kept. It comes back, and its cookie is worth nothing any more.
    stroke(browser, "draw-board", [(0.2, 0.2), (0.8, 0.8)])
    until(browser, "document.getElementById('trouble-line').textContent.includes('Your picture is kept')")
    drawn = seen(browser, "draw-board")
    assert (drawn > 0).any()
    with served({"negative": Negative()}, port=port, api_key=KEY + "2"):
        until(browser, "document.getElementById('key-box').open")
        assert not browser.find_element("id", "trouble").is_displayed()
        browser.find_element("id", "key").send_keys("wrong one" + Keys.ENTER)
        until(browser, "document.getElementById('key-trouble').textContent === 'That is not the key.'")
        browser.find_element("id", "key").send_keys(KEY + "2" + Keys.ENTER)
        until(browser, "!document.getElementById('key-box').open")
        settled(browser)
        assert (seen(browser, "draw-board") == drawn).all()
        assert (seen(browser, "result") == 255 - drawn).all()
    browser.delete_all_cookies()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone(browser, site, networks, scheme):
    metrics = {"width": 390, "height": 844, "deviceScaleFactor": 3, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    try:
        visit(browser, site.url)
        for way in ("labels", "draw", "upload", "camera"):
            click(browser, f"tab-{way}")
            assert browser.execute_script("return document.documentElement.scrollWidth") == 390
        click(browser, "tab-labels")
        settled(browser)
        # The board, most of the result and the tools are in sight at once; a finger hits every button.
        tools = browser.find_element("id", "tools").rect
        assert tools["y"] + tools["height"] <= 845
        result = browser.find_element("id", "shown").rect
        assert tools["y"] - result["y"] > 0.6 * result["height"]
        sizes = browser.execute_script(
            "return [...document.querySelectorAll('button, select, input[type=range]')]"
            ".filter((one) => one.checkVisibility())"
            ".map((one) => [one.getBoundingClientRect().width, one.getBoundingClientRect().height])"
        )
        assert len(sizes) > 20
        assert min(width for width, _ in sizes) >= 36
        assert min(height for _, height in sizes) >= 40
        # A finger draws, and the page stays where it is.
        before, scroll = seen(browser, "labels-board"), browser.execute_script("return window.scrollY")
        box = browser.find_element("id", "labels-board").rect
        paint_with(browser, "blind")
        touch(browser, box, [(0.5, 0.2), (0.5, 0.5), (0.5, 0.9)])
        settled(browser)
        drawn = seen(browser, "labels-board")
        changed = (drawn != before).any(-1)
        assert changed.any()
        assert (drawn[changed] == colour("blind")).all()
        same(seen(browser, "result"), offline(networks["facades"], drawn))
        assert browser.execute_script("return window.scrollY") == scroll
        ink, paper = (
            np.mean(
                [
                    int(n)
                    for n in browser.execute_script(f"return getComputedStyle(document.body).{what}")[4:-1].split(",")
                ]
            )
            for what in ("color", "backgroundColor")
        )
        assert (ink > paper + 120) if scheme == "dark" else (paper > ink + 120)
        ring = browser.execute_script("const o = document.getElementById('overlay'); return o.width / o.clientWidth")
        assert ring == pytest.approx(3, rel=0.02)  # the ring is drawn at the resolution of the screen
        calm(browser, site.url)
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def touch(browser, box, points):
    for k, (x, y) in enumerate(points):
        kind = "touchMove" if k else "touchStart"
        point = {"x": box["x"] + x * box["width"], "y": box["y"] + y * box["height"]}
        browser.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [point]})
    browser.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def post(port, data):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("POST", "/v1/translate/negative", data, {"Content-Type": "image/png"})
    answer = connection.getresponse().read()
    connection.close()
    return answer


def test_the_page_knows_the_palette(site):
    """Its colours and names are those of the data, and the examples of it need no network."""
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=30)
    connection.request("GET", "/static/palette.js")
    text = connection.getresponse().read().decode()
    connection.close()
    rows = json.loads(text.partition("CLASSES = ")[2].partition(";")[0].replace(",\n]", "\n]"))
    assert [name for name, _ in rows] == list(facades.CLASSES)
    assert [tuple(bytes.fromhex(code[1:])) for _, code in rows] == [tuple(row) for row in facades.PALETTE[1:].tolist()]
