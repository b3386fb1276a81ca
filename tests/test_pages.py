"""The built pages in a real browser: on a phone and a desktop, in light and dark.

Each page is opened once. Its screen and its mode change while it is open, as a reader changes them, and one report
collects what is wrong, with where it was seen.

The site and Chromium come from conftest.py.
"""

import functools
import importlib
import inspect
import json
import pkgutil
import re
import urllib.request
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import pytest
import yaml
from playwright.sync_api import Error

import genlib

ROOT = Path(__file__).resolve().parents[1]
AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"

SCREENS = {"phone": (390, 844), "desktop": (1300, 900)}
MODES = ("light", "dark")


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


@pytest.fixture(scope="session")
def tab(browser):
    """The one page that every test of a worker uses in turn: a new one costs more than most tests."""
    context = browser.new_context(reduced_motion="reduce")
    context.set_default_timeout(15_000)
    return context.new_page()


class Report:
    """What is wrong with one page: each complaint once, with the places where it was seen."""

    def __init__(self):
        self.place, self.complaints = "", {}

    def add(self, *complaints):
        for complaint in complaints:
            self.complaints.setdefault(complaint, dict.fromkeys([self.place]))[self.place] = None

    def ask(self, inspection, *given):
        """Add what an inspection says. One that breaks off is a complaint too, and the next ones follow."""
        try:
            self.add(*inspection(*given))
        except Error as error:
            self.add(f"{inspection.__name__} broke off: {error.message.splitlines()[0]}")

    def __str__(self):
        return "".join(f"\n{said} [{'; '.join(seen)}]" for said, seen in self.complaints.items())


@pytest.fixture
def report():
    return Report()


def lost(request):
    """Whether a request failed, but for the browser's own one for the icon, which the next page may cut off."""
    return not (request.url.endswith("/favicon.svg") and request.failure == "net::ERR_ABORTED")


@pytest.fixture
def visit(tab, base, report):
    """A function that opens a page in light mode and returns it; the report hears of errors."""
    watch = {
        "pageerror": lambda error: report.add(f"script error: {error}"),
        "console": lambda line: report.add(*[f"console: {line.text}"] * (line.type == "error")),
        "request": lambda request: report.add(*outside(request.url, base)),
        "requestfailed": lambda request: report.add(*[f"failed request: {request.url}"] * lost(request)),
        "response": lambda got: report.add(*[f"{got.status}: {got.url}"] * (got.status >= 400)),
    }
    for event, listener in watch.items():
        tab.on(event, listener)

    def visit(address, screen):
        report.place = f"{screen}, while it loads"
        show(tab, screen, "light")
        tab.goto(f"{base}/{address}", wait_until="load")
        return tab

    yield visit
    for event, listener in watch.items():
        tab.remove_listener(event, listener)
    tab.goto("about:blank")


def show(page, screen, mode):
    """Turn to a screen and a mode; the book follows what the reader's system prefers."""
    width, height = SCREENS[screen]
    page.set_viewport_size({"width": width, "height": height})
    page.emulate_media(color_scheme=mode)


def outside(url, base):
    """A complaint if the address belongs to another host."""
    inside = url.startswith((base + "/", "data:", "blob:", "about:"))
    return [] if inside else [f"request to another host: {url}"]


# Resolves when formulas are typeset, widgets stand, pictures and fonts are there.
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
  return [];
}"""
# Resolves when the page is laid out and all that moves has come to rest; the theme follows a new size 300 ms late.
SETTLED = """async resized => {
  if (resized) await new Promise(go => setTimeout(go, 350));
  // The theme lets what scrolls be reached by keyboard a while after the last change; how long depends on the machine.
  const unreached = () => [...document.querySelectorAll('pre')].some(
    x => x.scrollWidth > x.clientWidth && x.tabIndex < 0);
  for (let i = 0; unreached() && i < 60; i++) await new Promise(go => setTimeout(go, 50));
  await new Promise(go => requestAnimationFrame(() => requestAnimationFrame(go)));
  document.getAnimations().forEach(change => { try { change.finish(); } catch { change.cancel(); } });
  return document.documentElement.dataset.theme;
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

# A claim ends in its verdict, which nobody should have to scroll to.
VERDICTS = """() => [...document.querySelectorAll('.cell_output .stream pre')]
  .filter(x => x.textContent.trim().split('\\n').every(line => /: (yes|no)$/.test(line)))
  .filter(x => x.scrollWidth > x.clientWidth)
  .map(x => 'a verdict is off the screen: ' + x.textContent.slice(0, 60))"""


def complete(page):
    """Wait until the page is complete."""
    return page.evaluate(COMPLETE)


def turn(page, screen, mode):
    """Turn to a screen and a mode, and wait until the page has followed."""
    resized = page.viewport_size["width"] != SCREENS[screen][0]
    show(page, screen, mode)
    return [] if page.evaluate(SETTLED, resized) == mode else [f"the page is not in {mode} mode"]


def look(page):
    """What is wrong to the eye."""
    return [
        said
        for script in (FORMULAS, RAW_TEXT, PICTURES, OVERFLOW, VERDICTS)
        for said in page.evaluate(script)
    ]


# Sliders ----------------------------------------------------------------------------------------------------


VIEWS = 'script[type="application/vnd.jupyter.widget-view+json"]'
# What a slider says, and the picture that shows.
FRAME = """handle => {
  const box = handle.closest('.widget-vbox, .cell_output');
  const shown = [...box.querySelectorAll('img')].filter(x => x.checkVisibility());
  return { count: shown.length, src: shown.map(x => x.src).join(), alt: shown.map(x => x.alt).join(),
           said: handle.getAttribute('aria-valuetext'), now: handle.getAttribute('aria-valuenow') };
}"""
# The same, as soon as the slider has moved and the page has been laid out.
NEXT_FRAME = """async ([handle, before]) => {
  const drawn = () => new Promise(go => requestAnimationFrame(go));
  for (let i = 0; handle.getAttribute('aria-valuenow') === before; i++) {
    if (i > 600) throw new Error('the slider does not move');
    await drawn();
  }
  await drawn(); await drawn();
  return (FRAME)(handle);
}""".replace("FRAME", FRAME)
# The stacks of pictures in the stored state of a page's widgets: how many each one holds.
STACKS = """() => [...document.querySelectorAll('script[type="application/vnd.jupyter.widget-state+json"]')]
  .flatMap(x => Object.values(JSON.parse(x.textContent).state))
  .filter(x => x.model_name === 'StackModel').map(x => x.state.children.length)"""


def walk(page, handle):
    """The frames of a slider, from its first position to its last by key; then one step back, and the start again."""
    least, most = (round(float(handle.get_attribute(f"aria-value{end}"))) for end in ("min", "max"))
    frames = [handle.evaluate(FRAME)]
    handle.focus()

    def press(key):
        page.keyboard.press(key)
        frames.append(page.evaluate(NEXT_FRAME, [handle, frames[-1]["now"]]))

    if round(float(frames[0]["now"])) != least:
        press("Home")
    del frames[:-1]
    for key in ["ArrowRight"] * (most - least) + ["ArrowLeft", "Home"]:
        press(key)
    return frames[:-2], frames[-2], frames[-1]


def slider_faults(name, frames, back, home):
    """What is wrong with a slider's frames: each shows one picture of its own and says a text of its own."""
    wrong = [] if name else ["a slider has no name"]
    for what in ("src", "alt", "said"):
        if len({frame[what] for frame in frames}) != len(frames):
            wrong.append(f"slider {name}: two of {len(frames)} positions have the same {what}")
    if counts := {frame["count"] for frame in frames} - {1}:
        wrong.append(f"slider {name}: one picture should show at a time, not {counts}")
    if back != frames[-2]:
        wrong.append(f"slider {name}: the way back shows another picture")
    if home != frames[0]:
        wrong.append(f"slider {name}: the key Home does not lead to the start")
    return wrong


def sliders(page):
    """What is wrong with the sliders of a lesson, which has one at least, when keys move them."""
    wrong, positions, stacks = [], [], page.evaluate(STACKS)
    for handle in page.locator(".noUi-handle").element_handles():
        frames, back, home = walk(page, handle)
        wrong += slider_faults((handle.get_attribute("aria-label") or "").strip(), frames, back, home)
        positions.append(len(frames))
    if not len(stacks) == page.locator(VIEWS).count() > 0:
        wrong.append("a lesson has a slider, and each one is on the page")
    if sorted(positions) != sorted(stacks):
        wrong.append(f"the sliders reach {positions} pictures, and there are {stacks}")
    return wrong


def mouse(page):
    """Drag the first slider from one end to the other: its picture follows."""
    handle = page.locator(".noUi-handle").first.element_handle()
    handle.scroll_into_view_if_needed()
    before = handle.evaluate(FRAME)
    track, knob = page.locator(".noUi-base").first.bounding_box(), handle.bounding_box()
    near_end = knob["x"] > track["x"] + track["width"] / 2
    page.mouse.move(knob["x"] + knob["width"] / 2, knob["y"] + knob["height"] / 2)
    page.mouse.down()
    page.mouse.move(track["x"] + (0 if near_end else track["width"]), knob["y"] + knob["height"] / 2, steps=4)
    page.mouse.up()
    after = page.evaluate(NEXT_FRAME, [handle, before["now"]])
    return ["the picture does not follow the mouse"] * (after["src"] == before["src"])


# What a lesson offers ---------------------------------------------------------------------------------------


def copy_button(page):
    """Press the first copy button: it says that it has copied, beside the widgets' scripts too."""
    code = page.locator(".cell_input .highlight").first
    code.hover()
    code.locator("button.copybtn").click()
    code.locator("button.copybtn.success").wait_for()
    return []


def checks(page):
    """What is wrong with the lines of checks: there are some, all are marked, and each leads to its equation."""
    printed = page.locator(".cell_output pre", has_text=re.compile(r"^eq:\S+ holds: ")).count()
    marked = page.locator(".output.check pre")
    links = marked.locator("a[href^='#equation-eq-']")
    lost = links.evaluate_all("links => links.filter(x => !document.querySelector(x.hash)).map(x => x.hash)")
    wrong = [f"no equation: {address}" for address in lost]
    if not printed == marked.count() == links.count() > 0:
        wrong.append(f"{printed} checks are printed, {marked.count()} are marked, {links.count()} are linked")
    return wrong


# Access -----------------------------------------------------------------------------------------------------


# axe-core looks at every element by itself, and a page of code has thousands that are styled alike. So the page is
# thinned: a formula becomes a word, and of the tokens of code with the same classes in the same place one stays.
THIN = """() => {
  document.querySelectorAll('mjx-container').forEach(formula => formula.replaceChildren('formula'));
  const seen = new Set();
  for (const token of [...document.querySelectorAll('main pre span, main .sig span, main .sig em')].reverse()) {
    if (token.firstElementChild || token.id) continue;
    let style = '';
    for (let up = token; up.tagName !== 'MAIN'; up = up.parentElement) style += up.tagName + '.' + up.className + ' ';
    if (seen.has(style)) token.replaceWith(token.textContent);
    seen.add(style);
  }
}"""

# Contrast is the slowest rule by far, and equal for texts of one kind: the same tags and classes all the way up, and
# the same colours, sizes and shades on them. Of each kind that shows, one text is asked.
KINDS = """() => {
  const kinds = new Map([[document, '']]), one = new Map();
  const shades = ['color', 'backgroundColor', 'backgroundImage', 'opacity', 'fontSize', 'fontWeight', 'textShadow'];
  for (const x of document.querySelectorAll('html, body, body *')) {
    const style = getComputedStyle(x);
    const own = [x.tagName, x.getAttribute('class'), ...shades.map(name => style[name])].join();
    const kind = kinds.get(x.parentNode) + ' ' + own;
    kinds.set(x, kind);
    const says = [...x.childNodes].some(part => part.nodeType === Node.TEXT_NODE && part.data.trim());
    if ((says || x.matches('input, select, textarea')) && x.checkVisibility() && !one.has(kind)) one.set(kind, x);
  }
  return [...one.values()];
}"""

AXE_RUN = """async ([where, options]) => {
  const result = await axe.run(where ?? document, { preload: false, resultTypes: ['violations'], ...options });
  return result.violations.filter(x => ['serious', 'critical'].includes(x.impact)).flatMap(x =>
    x.nodes.slice(0, 4).map(node =>
      `${x.id} (${node.any[0]?.message ?? x.help}): ${node.target.join(' ')} ${node.html.slice(0, 120)}`));
}"""


def thin_for_axe(page):
    """Put axe-core on the page, and take away what it need not see. Nothing else can be inspected afterwards."""
    page.evaluate(AXE.read_text(encoding="utf-8"))
    page.evaluate(THIN)
    return []


def access(page):
    """What axe-core finds of serious or critical impact, by all of its rules but that of contrast."""
    return page.evaluate(AXE_RUN, [None, {"rules": {"color-contrast": {"enabled": False}}}])


def colours(page):
    """What axe-core finds by the rules that ask for colours."""
    one_of_each = page.evaluate_handle(KINDS)
    return page.evaluate(AXE_RUN, [one_of_each, {"runOnly": ["color-contrast", "link-in-text-block"]}])


# The round through every page -------------------------------------------------------------------------------


# The inspections of a page in their order. axe-core comes last; colours are the same on both screens.
ROUND = [
    ("phone", "light", [look, sliders]),
    ("phone", "dark", [look]),
    ("desktop", "dark", [look]),
    ("desktop", "light", [look, checks, copy_button, sliders, mouse, thin_for_axe, access, colours]),
    ("desktop", "dark", [colours]),
    ("phone", "dark", [access]),
]
OF_LESSONS = (checks, copy_button, sliders, mouse)


@pytest.mark.browser
@pytest.mark.parametrize("name", [*PAGES, "genindex", "search"])
def test_page_is_right(visit, report, name):
    if not AXE.is_file():
        pytest.fail(f"{AXE} is missing: npm ci puts it there")
    page = visit(f"{name}.html", "phone")
    report.ask(complete, page)
    for screen, mode, inspections in ROUND:
        report.place = f"{screen}, {mode}"
        report.ask(turn, page, screen, mode)
        for inspection in inspections:
            if name in LESSONS or inspection not in OF_LESSONS:
                report.ask(inspection, page)
    assert not report.complaints, str(report)


@pytest.mark.browser
def test_the_top_leads_to_the_front_page(visit):
    page = visit("", "desktop")
    page.wait_for_url(f"**/{PAGES[0]}.html")
    page.locator("article h1").wait_for()


@pytest.mark.browser
@pytest.mark.parametrize("width", [1300, 390])
def test_the_sidebar_shows_the_page_that_is_open(visit, report, width):
    page = visit(f"{LESSONS[-1]}.html", "desktop")
    report.ask(complete, page)  # a request that is cut off would count as failed
    page.set_viewport_size({"width": width, "height": 400})
    page.reload(wait_until="load")  # the theme remembers that the sidebar stood at its top
    if width < 960:
        page.locator("button.primary-toggle").click()
    page.wait_for_function(
        """() => { const line = document.querySelector('nav.bd-links .current > a').getBoundingClientRect();
                   return line.height > 0 && line.top >= 0 && line.bottom <= innerHeight; }"""
    )
    assert not report.complaints, str(report)


@pytest.mark.browser
def test_search_finds_the_lesson(visit, report):
    page = visit(f"{PAGES[0]}.html", "desktop")
    page.keyboard.press("Control+k")
    page.locator("dialog[open] input[type=search]").fill("cross-entropy")
    page.keyboard.press("Enter")
    page.wait_for_url("**/search.html?q=cross-entropy*")
    page.locator("#search-results a[href*='notebooks/kl_cross_entropy.html']").first.wait_for()
    assert not report.complaints, str(report)


# Links, without a browser's help: every page that was built -------------------------------------------------


class Links(HTMLParser):
    """Collects the addresses that a page names, the anchors it has, and its links."""

    def __init__(self):
        super().__init__()
        self.named, self.anchors, self.links, self.downloads = [], set(), [], []

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.anchors.update(filter(None, (found.get("id"), found.get("name"))))
        if tag == "a" and "href" in found:
            self.links.append(found["href"] or "")
            if "btn-download-source-button" in (found.get("class") or "").split():
                self.downloads.append(found["href"])
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
@pytest.mark.parametrize("lesson", LESSONS)
def test_the_notebook_can_be_downloaded(site, base, lesson):
    (address,) = parsed(site / f"{lesson}.html").downloads
    with urllib.request.urlopen(urljoin(f"{base}/{lesson}.html", address)) as got:
        assert json.load(got) == json.loads((ROOT / f"{lesson}.ipynb").read_text(encoding="utf-8"))


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


def public_names(package):
    """The full names of the functions and classes that a package offers, each by the module that defines it."""
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if "._" in found.name or ".graders" in found.name:
            continue
        for name, item in vars(importlib.import_module(found.name)).items():
            own = getattr(item, "__module__", None) == found.name
            if own and not name.startswith("_") and (inspect.isclass(item) or inspect.isfunction(item)):
                yield f"{found.name}.{name}"


@pytest.mark.browser
def test_the_index_lists_every_public_name(site):
    listed = {urlsplit(link).fragment for link in parsed(site / "genindex.html").links}
    names = set(public_names(genlib))
    assert {"genlib.data.plane.ring", "genlib.checks.verify"} <= names
    assert names - listed == set()
