"""The built pages in a real browser: on a desktop and a phone, in light and dark.

The site is taken from the environment variable SITE, or else from _build/html. Chromium comes from the system. Where
there is none these tests are skipped; under CI that is a failure.
"""

import contextlib
import functools
import http.server
import json
import os
import re
import shutil
import threading
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
SITE = Path(os.environ.get("SITE") or ROOT / "_build" / "html").resolve()
AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
SCREENS = {"desktop": (1300, 900), "phone": (390, 844)}
MODES = ("light", "dark")

# Every rule of axe-core is asked for. Colours are the same on both screens, and their rule is the slowest by far: the
# desktop answers for the phone.
ON_PHONE = {"color-contrast": {"enabled": False}}


def pages_of_toc(entry):
    """The pages that a table of contents lists, without suffix, in its order."""
    if isinstance(entry, list):
        return [page for item in entry for page in pages_of_toc(item)]
    if not isinstance(entry, dict):
        return []
    own = [re.sub(r"\.(md|ipynb)$", "", entry[key]) for key in ("root", "file") if key in entry]
    return own + [page for value in entry.values() for page in pages_of_toc(value)]


PAGES = pages_of_toc(yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8")))
LESSONS = [page for page in PAGES if (ROOT / f"{page}.ipynb").is_file()]
REPOSITORY = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["repository"]["url"]


# What the tests stand on ------------------------------------------------------------------------------------


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Serves files and says nothing; a browser that hangs up early is no error."""

    def log_message(self, *args):
        pass

    def handle(self):
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            super().handle()


@pytest.fixture(scope="session")
def site():
    if not (SITE / "index.html").is_file():
        pytest.fail(f"there is no site in {SITE}: build it first (make book)")
    return SITE


@pytest.fixture(scope="session")
def base(site):
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(QuietHandler, directory=str(site))
    )
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="session")
def browser():
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        tell = pytest.fail if os.environ.get("CI", "false") not in ("", "false") else pytest.skip
        tell("no Chromium is installed, so the built pages are not tested")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        started = play.chromium.launch(executable_path=path, args=FLAGS)
        yield started
        started.close()


@pytest.fixture(scope="session")
def tab(browser):
    """The one page that every test of a worker uses in turn: a new one costs more than most tests."""
    context = browser.new_context(reduced_motion="reduce")
    context.set_default_timeout(15_000)
    return context.new_page()


@pytest.fixture
def visit(tab, base):
    """A function that opens a page, waits until it is complete, and returns it with the list of what went wrong."""
    wrong = []
    watch = {
        "pageerror": lambda error: wrong.append(f"script error: {error}"),
        "console": lambda line: wrong.extend([f"console: {line.text}"] if line.type == "error" else []),
        "request": lambda request: wrong.extend(outside(request.url, base)),
        "requestfailed": lambda request: wrong.append(f"failed request: {request.url}"),
        "response": lambda got: wrong.extend([f"{got.status}: {got.url}"] if got.status >= 400 else []),
    }
    for event, listener in watch.items():
        tab.on(event, listener)

    def visit(address, screen="desktop", mode="light", complete=True):
        width, height = SCREENS[screen]
        tab.set_viewport_size({"width": width, "height": height})
        tab.emulate_media(color_scheme=mode)  # the book follows what the reader's system prefers
        tab.goto(f"{base}/{address}", wait_until="load")
        if complete:
            tab.evaluate(COMPLETE)
        return tab, wrong

    yield visit
    for event, listener in watch.items():
        tab.remove_listener(event, listener)
    tab.goto("about:blank")


def listed(complaints):
    """The complaints, each on a line of its own and once."""
    return "\n" + "\n".join(dict.fromkeys(complaints))


def outside(url, base):
    """A complaint if the address belongs to another host."""
    inside = url.startswith((base + "/", "data:", "blob:", "about:"))
    return [] if inside else [f"request to another host: {url}"]


# Resolves when formulas are typeset, widgets stand, pictures and fonts are there, and the page has been laid out.
COMPLETE = """async () => {
  const until = async (what, done) => {
    for (let i = 0; i < 500; i++) { if (done()) return; await new Promise(go => setTimeout(go, 20)); }
    throw new Error('the page never got ready: ' + what);
  };
  if (document.querySelector('script[src*="mathjax"]')) {
    await until('MathJax', () => window.MathJax?.startup?.promise);
    await MathJax.startup.promise;
  }
  const views = [...document.querySelectorAll('script[type="application/vnd.jupyter.widget-view+json"]')];
  await until('widgets', () => views.every(view => view.parentElement.querySelector('.jupyter-widgets')));
  await until('pictures', () => [...document.images].every(x => x.complete || x.loading === 'lazy'));
  await document.fonts.ready;
  await new Promise(go => requestAnimationFrame(() => requestAnimationFrame(go)));
  document.getAnimations().forEach(change => { try { change.finish(); } catch { change.cancel(); } });
}"""


# What can be wrong on a page --------------------------------------------------------------------------------


FORMULAS = """() => {
  const wrong = [];
  for (const x of document.querySelectorAll('mjx-merror, [data-mjx-error]'))
    wrong.push('TeX error: ' + (x.dataset.mjxError || x.textContent || 'unknown command'));
  // MathJax shows a command that it does not know as red text; the MathML for screen readers says so.
  for (const x of document.querySelectorAll('mjx-assistive-mml [mathcolor="red"]'))
    wrong.push('unknown TeX command: ' + x.textContent);
  for (const x of document.querySelectorAll('.math')) {
    const box = x.querySelector('mjx-container');
    const hidden = x.closest('details:not([open]), .toggle-hidden, .sd-tab-content');
    if (!box) wrong.push('not typeset: ' + x.textContent.slice(0, 60));
    else if (!hidden && !(box.getBoundingClientRect().width > 1)) wrong.push('typeset to nothing');
  }
  return wrong;
}"""

# Marks of MyST or TeX that a reader should never see, in the text outside code and formulas.
RAW_TEXT = """() => {
  const walker = document.createTreeWalker(document.querySelector('main'), NodeFilter.SHOW_TEXT);
  const wrong = [], raw = /\\{[a-z][\\w:.-]*\\}|:{3,}|`{1,}|\\$\\$|\\\\[a-zA-Z]{2,}|\\\\\\(|\\]\\(|^%%|\\*\\*/;
  while (walker.nextNode()) {
    const node = walker.currentNode;
    if (node.parentElement.closest('pre, code, script, style, mjx-container, svg, .sig')) continue;
    if (raw.test(node.data)) wrong.push('raw markup: ' + node.data.trim().slice(0, 80));
  }
  return wrong;
}"""

PICTURES = """() => {
  const wrong = [];
  for (const image of document.images) {
    const alt = (image.getAttribute('alt') ?? '').trim(), name = image.src.slice(0, 80);
    if (image.complete && !image.naturalWidth) wrong.push('broken picture: ' + name);
    if (!/\\S\\s+\\S/.test(alt) || /\\.(png|svg|jpe?g)$|^_|^\\.\\.?\\//.test(alt))
      wrong.push(`alt text "${alt}": ` + name);
  }
  return wrong;
}"""

OVERFLOW = """() => {
  const wrong = [], root = document.documentElement, width = root.clientWidth;
  if (root.scrollWidth > width) wrong.push(`the page is ${root.scrollWidth - width} px wider than the screen`);
  const boxed = x => {
    for (let up = x.parentElement; up && up.tagName !== 'MAIN'; up = up.parentElement)
      if (getComputedStyle(up).overflowX !== 'visible') return true;
    return false;
  };
  for (const x of document.querySelectorAll('main article *')) {
    const box = x.getBoundingClientRect();
    if (box.width > 1 && box.height > 1 && box.right > width + 1 && !boxed(x)) {
      wrong.push(`<${x.tagName.toLowerCase()} class="${x.getAttribute('class') ?? ''}"> ends at ${box.right} px`);
      if (wrong.length > 5) break;
    }
  }
  return wrong;
}"""

# axe-core looks at every element by itself, and a page of code has thousands that are styled alike. So the page is
# thinned: a formula becomes a word, and of the tokens of code with the same classes in the same place one stays.
AXE_RUN = """async rules => {
  document.querySelectorAll('mjx-container').forEach(formula => formula.replaceChildren('formula'));
  const seen = new Set();
  for (const token of [...document.querySelectorAll('main pre span, main .sig span, main .sig em')].reverse()) {
    if (token.firstElementChild || token.id) continue;
    let style = '';
    for (let up = token; up.tagName !== 'MAIN'; up = up.parentElement) style += up.tagName + '.' + up.className + ' ';
    if (seen.has(style)) token.replaceWith(token.textContent);
    seen.add(style);
  }
  const result = await axe.run({ preload: false, resultTypes: ['violations'], rules });
  return result.violations.filter(x => ['serious', 'critical'].includes(x.impact)).flatMap(x =>
    x.nodes.slice(0, 4).map(node =>
      `${x.id} (${node.any[0]?.message ?? x.help}): ${node.target.join(' ')} ${node.html.slice(0, 120)}`));
}"""


def access_faults(page, screen):
    """What axe-core finds of serious or critical impact."""
    if not AXE.is_file():
        pytest.fail(f"{AXE} is missing: npm ci puts it there")
    page.evaluate(AXE.read_text(encoding="utf-8"))
    return page.evaluate(AXE_RUN, ON_PHONE if screen == "phone" else {})


@pytest.mark.browser
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("name", [*PAGES, "genindex", "search"])
def test_page_is_right(visit, name, screen, mode):
    page, wrong = visit(f"{name}.html", screen, mode)
    if page.get_attribute("html", "data-theme") != mode:
        wrong.append(f"the page is not in {mode} mode")
    for script in (FORMULAS, RAW_TEXT, PICTURES, OVERFLOW):
        wrong += page.evaluate(script)
    wrong += access_faults(page, screen)
    assert not wrong, listed(wrong)


@pytest.mark.browser
def test_the_top_leads_to_the_front_page(visit):
    page, _ = visit("", complete=False)
    page.wait_for_url(f"**/{PAGES[0]}.html")
    page.locator("article h1").wait_for()


# Sliders ----------------------------------------------------------------------------------------------------


VIEWS = 'script[type="application/vnd.jupyter.widget-view+json"]'
FRAME = """handle => {
  const box = handle.closest('.widget-vbox, .cell_output');
  const shown = [...box.querySelectorAll('img')].filter(x => x.checkVisibility());
  return { count: shown.length, src: shown.map(x => x.src).join(), alt: shown.map(x => x.alt).join(),
           said: handle.getAttribute('aria-valuetext') };
}"""
# The stacks of pictures in the stored state of a page's widgets: how many each one holds.
STACKS = """() => [...document.querySelectorAll('script[type="application/vnd.jupyter.widget-state+json"]')]
  .flatMap(x => Object.values(JSON.parse(x.textContent).state))
  .filter(x => x.model_name === 'StackModel').map(x => x.state.children.length)"""


def press(page, handle, key):
    """Press a key on a slider, wait until it has answered, and return the frame that shows."""
    before = handle.get_attribute("aria-valuenow")
    handle.press(key)
    page.wait_for_function(
        "([x, before]) => x.getAttribute('aria-valuenow') !== before", arg=[handle.element_handle(), before]
    )
    page.evaluate("() => new Promise(go => requestAnimationFrame(() => requestAnimationFrame(go)))")
    return handle.evaluate(FRAME)


def slider_faults(page, handle):
    """How many positions a slider has, and what is wrong with them: each shows a picture and says a text of its own."""
    name = (handle.get_attribute("aria-label") or "").strip()
    wrong = [] if name else ["the slider has no name"]
    least, most = (round(float(handle.get_attribute(f"aria-value{end}"))) for end in ("min", "max"))
    if round(float(handle.get_attribute("aria-valuenow"))) != least:
        press(page, handle, "Home")
    seen = [handle.evaluate(FRAME)]
    for _ in range(most - least):
        seen.append(press(page, handle, "ArrowRight"))
    for what in ("src", "alt", "said"):
        if len({frame[what] for frame in seen}) != len(seen):
            wrong.append(f"{name}: two of {len(seen)} positions have the same {what}")
    if any(frame["count"] != 1 for frame in seen):
        wrong.append(f"{name}: one picture should show at a time")
    if press(page, handle, "ArrowLeft") != seen[-2]:
        wrong.append(f"{name}: the way back shows another picture")
    if press(page, handle, "Home") != seen[0]:
        wrong.append(f"{name}: the key Home does not lead to the start")
    return len(seen), wrong


@pytest.mark.browser
@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("lesson", LESSONS)
def test_every_slider_moves_its_picture(visit, lesson, screen):
    page, wrong = visit(f"{lesson}.html", screen)
    handles, positions = page.locator(".noUi-handle"), []
    for i in range(handles.count()):
        count, faults = slider_faults(page, handles.nth(i))
        positions.append(count)
        wrong += faults
    assert not wrong, listed(wrong)
    stacks = page.evaluate(STACKS)
    assert len(stacks) == page.locator(VIEWS).count() > 0, (
        "a lesson has a slider, and each one is on the page"
    )
    assert sorted(positions) == sorted(stacks), "every picture can be reached"


@pytest.mark.browser
@pytest.mark.parametrize("lesson", LESSONS)
def test_a_slider_follows_the_mouse(visit, lesson):
    page, wrong = visit(f"{lesson}.html")
    handle = page.locator(".noUi-handle").first
    handle.scroll_into_view_if_needed()
    before = handle.evaluate(FRAME)
    track, knob = page.locator(".noUi-base").first.bounding_box(), handle.bounding_box()
    near_end = knob["x"] > track["x"] + track["width"] / 2
    page.mouse.move(knob["x"] + knob["width"] / 2, knob["y"] + knob["height"] / 2)
    page.mouse.down()
    page.mouse.move(track["x"] + (0 if near_end else track["width"]), knob["y"] + knob["height"] / 2, steps=4)
    page.mouse.up()
    page.wait_for_function(
        f"([x, before]) => ({FRAME})(x).src !== before", arg=[handle.element_handle(), before["src"]]
    )
    assert not wrong, listed(wrong)


# What a page offers -----------------------------------------------------------------------------------------


@pytest.mark.browser
def test_search_finds_the_lesson(visit):
    page, wrong = visit(f"{PAGES[0]}.html")
    page.keyboard.press("Control+k")
    page.locator("dialog[open] input[type=search]").fill("cross-entropy")
    page.keyboard.press("Enter")
    page.wait_for_url("**/search.html?q=cross-entropy*")
    page.locator("#search-results a[href*='notebooks/kl_cross_entropy.html']").first.wait_for()
    assert not wrong, listed(wrong)


@pytest.mark.browser
@pytest.mark.parametrize("lesson", LESSONS)
def test_the_notebook_can_be_downloaded(visit, lesson):
    page, wrong = visit(f"{lesson}.html", complete=False)
    link = page.locator(".dropdown-download-buttons a[href$='.ipynb']")
    assert link.count() == 1
    got = page.request.get(link.evaluate("x => x.href"))
    assert got.ok
    assert got.json() == json.loads((ROOT / f"{lesson}.ipynb").read_text(encoding="utf-8"))
    assert not wrong, listed(wrong)


@pytest.mark.browser
@pytest.mark.parametrize("lesson", LESSONS)
def test_the_copy_button_works_beside_the_widgets(visit, lesson):
    page, wrong = visit(f"{lesson}.html", complete=False)
    code = page.locator(".cell_input .highlight").first
    code.hover()
    code.locator("button.copybtn").click()
    code.locator("button.copybtn.success").wait_for()
    assert not wrong, listed(wrong)


@pytest.mark.browser
@pytest.mark.parametrize("lesson", LESSONS)
def test_each_check_leads_to_its_equation(visit, lesson):
    page, wrong = visit(f"{lesson}.html", complete=False)
    lines = page.locator(".output.check pre")
    assert (
        lines.count() == page.locator(".cell_output pre", has_text=re.compile(r"^eq:\S+ holds: ")).count() > 0
    )
    assert lines.locator("a[href^='#equation-eq-']").count() == lines.count()
    targets = lines.locator("a").evaluate_all(
        "links => links.filter(x => !document.querySelector(x.hash)).length"
    )
    assert targets == 0
    assert not wrong, listed(wrong)


# Links, without a browser's help: every page that was built -------------------------------------------------


class Links(HTMLParser):
    """Collects the addresses that a page names, the anchors it has, and its scripts' and launch links."""

    def __init__(self):
        super().__init__()
        self.named, self.anchors, self.links = [], set(), []

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.anchors.update(filter(None, (found.get("id"), found.get("name"))))
        if tag == "a" and "href" in found:
            self.links.append(found["href"] or "")
        self.named += [found[key] for key in ("href", "src") if found.get(key)]


@functools.cache
def parsed(path):
    page = Links()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def link_faults(path, root):
    """What a page names and the site does not hold."""
    wrong = []
    for address in parsed(path).named:
        parts = urlsplit(address)
        if parts.scheme or parts.netloc:
            continue
        target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        target = target / "index.html" if target.is_dir() else target
        if not target.is_file() or root not in target.parents:
            wrong.append(f"no file: {address}")
        elif (
            parts.fragment
            and target.suffix == ".html"
            and unquote(parts.fragment) not in parsed(target).anchors
        ):
            wrong.append(f"no anchor: {address}")
    return wrong


@pytest.mark.browser
@pytest.mark.parametrize("name", PAGES)
def test_page_was_built(site, name):
    assert (site / f"{name}.html").is_file()


@pytest.mark.browser
def test_internal_links_lead_somewhere(site):
    pages = sorted(path for path in site.rglob("*.html") if "_static" not in path.parts)
    assert len(pages) > len(PAGES)
    wrong = {str(path.relative_to(site)): link_faults(path, site) for path in pages}
    assert {page: faults for page, faults in wrong.items() if faults} == {}


@pytest.mark.browser
@pytest.mark.parametrize("name", PAGES)
def test_no_button_is_dead(site, name):
    links = parsed(site / f"{name}.html").links
    assert [link for link in links if not link.strip() or "None" in link] == []
    launch = [link for link in links if re.search(r"mybinder\.org|colab\.research|/edit/|/issues/new", link)]
    if REPOSITORY:
        path = urlsplit(REPOSITORY).path
        assert launch
        assert all(path in link for link in launch)
    else:
        assert launch == []


@pytest.mark.browser
def test_the_ledger_lists_every_lesson(site):
    links = parsed(site / "book" / "ledger.html").links
    assert LESSONS
    for lesson in LESSONS:
        assert any(f"{lesson}.html#equation-eq-" in link for link in links), lesson
