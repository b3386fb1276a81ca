"""Figures and folds on the built pages, in a real browser: without scripts, in print, and on a phone."""

import base64
import io
import itertools
import json
import re
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
LESSONS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"
VIEW = "application/vnd.jupyter.widget-view+json"
PHONE, DESKTOP = {"width": 390, "height": 844}, {"width": 1300, "height": 900}
LEGIBLE = 8  # px, the smallest text
FRAME_DPI = 110  # of a slider's frames, whose files do not say it

pytestmark = pytest.mark.browser


@pytest.fixture(scope="session")
def static_tab(browser):
    """A phone whose browser runs no script of a page."""
    context = browser.new_context(viewport=PHONE, java_script_enabled=False)
    yield context.new_page()
    context.close()


@pytest.fixture(scope="session")
def touch_tab(browser):
    """A phone that is touched."""
    context = browser.new_context(viewport=PHONE, has_touch=True, reduced_motion="reduce")
    context.set_default_timeout(15_000)
    yield context.new_page()
    context.close()


@pytest.fixture
def phone(touch_tab):
    """The same, with the errors of its pages."""
    wrong = []

    def hear(error):
        wrong.append(str(error))

    touch_tab.on("pageerror", hear)
    yield touch_tab
    touch_tab.remove_listener("pageerror", hear)
    touch_tab.set_viewport_size(PHONE)
    touch_tab.emulate_media(color_scheme="light")
    assert wrong == []


def open_lesson(page, base, name):
    """Open a lesson and wait until its sliders stand."""
    page.goto(f"{base}/notebooks/{name}.html", wait_until="load")
    page.wait_for_function("() => !document.querySelector('img.still')")


def stored(name):
    return json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))


# Without scripts, and in print ------------------------------------------------------------------------------


# Every place of a slider with the pictures that show in it.
PLACES = """() => [...document.querySelectorAll(`script[type="VIEW"]`)].map(view => {
  const place = view.closest('.cell_output');
  return [...place.querySelectorAll('img')].filter(x => x.checkVisibility({ visibilityProperty: true })).map(x => ({
    alt: x.alt, shape: x.naturalWidth / x.naturalHeight - x.width / x.height,
    width: x.width, natural: x.naturalWidth, room: place.clientWidth }));
})""".replace("VIEW", VIEW)
# How many folds there are, and of how many the content shows.
FOLDS = """() => [...document.querySelectorAll('details.fold')].map(fold =>
  fold.lastElementChild.checkVisibility({ contentVisibilityAuto: true }) && fold.lastElementChild.clientHeight > 0)"""


def pictures_faults(places, alts):
    """What is wrong with the pictures in the places of sliders."""
    wrong = (
        [] if [[x["alt"] for x in place] for place in places] == [[alt] for alt in alts] else ["alt texts"]
    )
    for picture in itertools.chain(*places):
        if not picture["natural"] or abs(picture["shape"]) > 0.02:
            wrong.append(f"out of shape: {picture}")
        # A figure has a margin of 8 px at its sides.
        if not min(picture["natural"], picture["room"] - 16) <= picture["width"] <= picture["natural"]:
            wrong.append(f"of a wrong size: {picture}")
    return wrong


@pytest.mark.parametrize("lesson", LESSONS)
def test_a_page_stands_without_scripts(static_tab, base, lesson):
    page = static_tab
    page.goto(f"{base}/notebooks/{lesson}.html", wait_until="load")
    cells = stored(lesson)["cells"]
    shown = [output for cell in cells for output in cell.get("outputs", []) if VIEW in output.get("data", {})]
    alts = [output["metadata"]["image/png"]["alt"] for output in shown]
    assert alts
    page.emulate_media(media="screen")
    assert pictures_faults(page.evaluate(PLACES), alts) == []
    folds = page.evaluate(FOLDS)
    assert len(folds) == len(re.findall(r":class: dropdown", json.dumps(cells))) > 0
    assert not any(folds)
    page.locator("details.fold > summary").first.click()
    assert page.evaluate(FOLDS) == [True, *folds[1:]]

    page.emulate_media(media="print")
    assert [len(place) for place in page.evaluate(PLACES)] == [1] * len(alts)
    assert all(page.evaluate(FOLDS))


# With scripts ------------------------------------------------------------------------------------------------


# In each frame that the browser draws: how many pictures show in the place of a slider, and how much room they take
# above its caption.
WATCH = f"""window.counts = new Set();
window.heights = new Set();
const look = () => {{
  ({PLACES})().forEach(place => counts.add(place.length));
  const caption = document.querySelector('figure:has(script[type="{VIEW}"]) > figcaption');
  if (caption) heights.add(caption.getBoundingClientRect().top - caption.parentElement.getBoundingClientRect().top);
  requestAnimationFrame(look);
}};
requestAnimationFrame(look);"""


@pytest.mark.parametrize("screen", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_a_slider_takes_its_pictures_place_without_a_flash_or_a_jump(browser, base, screen):
    context = browser.new_context(viewport=screen)
    page, held = context.new_page(), []
    page.add_init_script(WATCH)
    page.route("**/embed-amd.js*", lambda route: held.append(route))
    page.goto(f"{base}/notebooks/kl_cross_entropy.html", wait_until="commit")
    page.wait_for_function("() => document.querySelector('.still')?.naturalWidth && heights.size")
    held[0].continue_()
    page.wait_for_function("() => !document.querySelector('.still')")
    page.evaluate("() => new Promise(go => requestAnimationFrame(() => requestAnimationFrame(go)))")
    counts, heights = page.evaluate("() => [[...counts], [...heights]]")
    assert counts == [1]
    assert max(heights) - min(heights) < 1
    assert min(heights) > 150
    context.close()


def test_where_the_widgets_never_come_the_picture_stays(browser, base):
    context = browser.new_context(viewport=PHONE)
    page = context.new_page()
    page.route("**/embed-amd.js*", lambda route: route.abort())
    page.goto(f"{base}/notebooks/kl_cross_entropy.html", wait_until="load")
    assert [len(place) for place in page.evaluate(PLACES)] == [1]
    context.close()


def test_links_and_keys_unfold_a_solution(phone, base):
    open_lesson(phone, base, "kl_cross_entropy")
    fold = phone.locator("details.fold:has(.math[id^='equation-eq-'])").first
    address = fold.get_attribute("id")
    for target in (fold.locator(".math[id^='equation-eq-']").first.get_attribute("id"), address):
        fold.evaluate("fold => { fold.open = false; location.hash = '' }")
        phone.evaluate("target => { location.hash = target }", target)
        phone.wait_for_function("fold => fold.open", arg=fold.element_handle())
    fold.locator("summary").focus()
    for key, state in (("Enter", False), ("Space", True)):
        phone.keyboard.press(key)
        assert fold.evaluate("fold => fold.open") is state
    phone.goto("about:blank")
    phone.goto(f"{base}/notebooks/kl_cross_entropy.html#{address}", wait_until="load")
    phone.wait_for_function("() => document.querySelector('details:target').open")


# Pictures at their own size ----------------------------------------------------------------------------------


REDUCED = ".picture.reduced:visible > img"
# The picture of the open dialog, how far its sheet scrolls, and the window that it must stay in.
DIALOG = """() => {
  const box = document.querySelector('dialog.enlarged[open]'), picture = box.querySelector('img');
  const sheet = picture.parentElement, edge = box.getBoundingClientRect();
  const filter = getComputedStyle(picture).filter;
  return { src: picture.src, alt: picture.alt, width: picture.width, height: picture.height, filter,
    natural: [picture.naturalWidth, picture.naturalHeight], right: [sheet.scrollWidth, sheet.clientWidth],
    down: [sheet.scrollHeight, sheet.clientHeight], left: sheet.scrollLeft, top: sheet.scrollTop,
    inside: edge.left >= 0 && edge.top >= 0 && edge.right <= innerWidth && edge.bottom <= innerHeight };
}"""
AXE_RUN = """async where => (await axe.run({ include: where.map(x => [x]) }, { preload: false })).violations
  .flatMap(x => x.nodes.map(node => `${x.id}: ${node.html.slice(0, 120)}`))"""


def closed(page, button):
    """Wait until the dialog is closed; the focus must be on the button from which it was opened."""
    page.wait_for_function("() => !document.querySelector('dialog.enlarged')")
    return button.evaluate("x => x === document.activeElement")


def test_a_tap_opens_a_picture_at_its_own_size(phone, base):
    open_lesson(phone, base, "gan_training")
    pictures = phone.locator(REDUCED)
    assert pictures.count() == phone.locator("main .cell_output img:visible").count() > 2
    # A figure and the frame of a slider, in both modes.
    for mode, picture in itertools.product(
        ("light", "dark"), (pictures.nth(1), phone.locator(f".genlib-frames {REDUCED}").first)
    ):
        phone.emulate_media(color_scheme=mode)
        picture.scroll_into_view_if_needed()
        box = picture.bounding_box()
        phone.touchscreen.tap(box["x"] + 0.9 * box["width"], box["y"] + box["height"] / 2)
        said = phone.evaluate(DIALOG)
        assert [said["src"], said["alt"]] == picture.evaluate("x => [x.src, x.alt]")
        assert [said["width"], said["height"]] == said["natural"]
        assert said["inside"]
        assert said["filter"] == "none"
        assert said["right"][0] >= said["width"] > said["right"][1]  # it scrolls to the side
        assert said["left"] > (said["right"][0] - said["right"][1]) / 2  # and starts near what was tapped
        phone.keyboard.press("Escape")
        assert closed(phone, picture.locator("xpath=../button"))

    phone.set_viewport_size({"width": 390, "height": 260})
    pictures.first.tap()
    said = phone.evaluate(DIALOG)
    assert said["inside"]
    assert said["down"][0] >= said["height"] > said["down"][1] > 100  # it scrolls down
    phone.get_by_role("dialog").get_by_role("button", name="Close").tap()
    assert closed(phone, pictures.first.locator("xpath=../button"))


def test_the_keyboard_opens_scrolls_and_closes_a_picture(phone, base):
    open_lesson(phone, base, "gan_training")
    button = phone.get_by_role("button", name="Enlarge the picture").first
    for key in ("Enter", "Space"):
        button.focus()
        phone.keyboard.press(key)
        assert phone.evaluate("() => document.activeElement.textContent") == "Close"
        phone.keyboard.press("Tab")
        phone.keyboard.press("ArrowRight")
        phone.wait_for_function(f"() => ({DIALOG})().left > 0")
        phone.keyboard.press("Escape")
        assert closed(phone, button)


def test_axe_finds_nothing_in_dialogs_and_folds(phone, base):
    open_lesson(phone, base, "gan_training")
    phone.locator("details.fold > summary").first.click()
    phone.evaluate(AXE.read_text(encoding="utf-8"))
    for mode in ("light", "dark"):
        phone.emulate_media(color_scheme=mode)
        phone.locator(REDUCED).first.click()
        assert phone.evaluate(AXE_RUN, ["dialog.enlarged"]) == []
        phone.keyboard.press("Escape")
        phone.wait_for_function("() => !document.querySelector('dialog.enlarged')")
        assert phone.evaluate(AXE_RUN, ["details.fold[open]", ".picture.reduced"]) == []


# Of each picture: whether it is shown smaller than it is, whether the cursor says so, and whether its button is there.
SIZES = """() => [...document.querySelectorAll('.picture > img')].filter(x => x.checkVisibility()).map(x =>
  [x.naturalWidth > x.width + 1, getComputedStyle(x).cursor === 'zoom-in', x.nextSibling.checkVisibility()])"""


def test_only_a_reduced_picture_opens_and_it_follows_the_window(phone, base):
    phone.set_viewport_size(DESKTOP)
    open_lesson(phone, base, "flows")
    for screen, expected in ((DESKTOP, {True, False}), (PHONE, {True}), (DESKTOP, {True, False})):
        phone.set_viewport_size(screen)
        phone.wait_for_timeout(400)  # the theme follows a new size late
        sizes = phone.evaluate(SIZES)
        assert all(reduced == zoom == button for reduced, zoom, button in sizes)
        assert {reduced for reduced, *_ in sizes} == expected
    phone.locator(".picture:not(.reduced):visible > img").first.click()
    assert phone.locator("dialog.enlarged").count() == 0


@pytest.mark.parametrize("lesson", LESSONS)
def test_text_is_legible_at_the_pictures_own_size(lesson):
    cells = stored(lesson)["cells"]
    source = "".join("".join(cell["source"]) for cell in cells)
    source += (ROOT / "genlib" / "plotting.py").read_text(encoding="utf-8")
    points = [
        float(size) for size in re.findall(r"(?:fontsize|labelsize|font\.size\"?)[=:] *([\d.]+)", source)
    ]
    files = [output["data"]["image/png"] for cell in cells for output in cell.get("outputs", [])
             if "image/png" in output.get("data", {})]  # fmt: skip
    dpi = [Image.open(io.BytesIO(base64.b64decode(file))).info.get("dpi", [FRAME_DPI])[0] for file in files]
    assert min(points) / 72 * min(dpi) >= LEGIBLE
