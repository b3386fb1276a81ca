// What the theme and the widgets leave undone on a built page. Each function stands alone; nothing is fetched.
"use strict";

// html-manager calls MathJax 2 when it shows a label, which is an error with MathJax 3: pass the call on.
function answerMathJax2() {
  if (window.MathJax && !MathJax.Hub) {
    MathJax.Hub = { Queue: ([, , element]) => MathJax.typesetPromise?.([element]) };
  }
}

// A slider's handle bears no name, and says its position as a bare index: take both from the texts beside it.
function nameSlider(handle) {
  const box = handle.closest(".widget-slider");
  const label = box?.querySelector(".widget-label");
  const readout = box?.querySelector(".widget-readout");
  if (!label || !readout || handle.hasAttribute("aria-label")) return;
  handle.setAttribute("aria-label", label.textContent.trim());
  const say = () => handle.setAttribute("aria-valuetext", readout.textContent.trim());
  new MutationObserver(say).observe(readout, { childList: true, characterData: true, subtree: true });
  say();
}

// Until a slider shows its picture, a still keeps its place.
function dropStill(still) {
  const frames = still.parentElement.querySelectorAll(".genlib-frames img");
  if ([...frames].some((frame) => frame.clientWidth)) still.remove();
}

// A picture that the page shows smaller than it is opens at its own size, by a click on it or on the button in its
// corner, which the keyboard reaches.
function framePicture(picture) {
  if (picture.closest("a, .picture") || picture.matches(".still")) return;
  const frame = document.createElement("span");
  frame.className = "picture";
  picture.replaceWith(frame);
  frame.innerHTML = `<button type="button" class="enlarge" aria-label="Enlarge the picture" aria-haspopup="dialog">
    <svg viewBox="0 0 16 16" aria-hidden="true"><path d="M9.5 2H14v4.5M14 2 9 7M6.5 14H2V9.5M2 14l5-5"/></svg></button>`;
  frame.prepend(picture);
  const measure = () => {
    const reduced = picture.clientWidth > 0 && picture.naturalWidth > picture.clientWidth + 1;
    frame.classList.toggle("reduced", reduced);
  };
  new ResizeObserver(measure).observe(picture);
  picture.addEventListener("load", measure);
  frame.addEventListener("click", (event) => {
    if (frame.classList.contains("reduced")) enlarge(picture, frame.lastElementChild, event);
  });
}

function enlarge(picture, button, event) {
  const dialog = document.createElement("dialog");
  dialog.className = "enlarged";
  dialog.setAttribute("aria-label", "The picture at its own size");
  dialog.innerHTML = `<button type="button" class="close" autofocus>Close</button>
    <div class="sheet" role="region" aria-label="Picture, scrolls" tabindex="0"></div>`;
  const [close, sheet] = dialog.children;
  const copy = new Image(picture.naturalWidth, picture.naturalHeight);
  Object.assign(copy, { src: picture.src, alt: picture.alt });
  sheet.append(copy);
  close.addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (click) => click.target === dialog && dialog.close());
  dialog.addEventListener("close", () => dialog.remove());
  dialog.addEventListener("keydown", (key) => key.stopPropagation()); // the page has uses of its own for Escape
  document.body.append(dialog);
  button.focus({ preventScroll: true }); // here the focus returns when the dialog closes
  dialog.showModal();
  if (event.target === picture) {
    // What was tapped comes to the middle.
    const box = picture.getBoundingClientRect();
    const x = (event.clientX - box.left) / box.width, y = (event.clientY - box.top) / box.height;
    sheet.scrollTo(x * sheet.scrollWidth - sheet.clientWidth / 2, y * sheet.scrollHeight - sheet.clientHeight / 2);
  }
}

// Widgets, and their pictures, appear after the page has loaded, whenever html-manager is ready.
function tendFigures() {
  const tend = () => {
    document.querySelectorAll(".noUi-handle").forEach(nameSlider);
    document.querySelectorAll("img.still").forEach(dropStill);
    document.querySelectorAll(".bd-article :is(figure, .cell_output) img").forEach(framePicture);
  };
  tend();
  if (!document.querySelector('script[type="application/vnd.jupyter.widget-view+json"]')) return;
  new MutationObserver(tend).observe(document.querySelector("main") ?? document.body, { childList: true, subtree: true });
}

// A link to a fold, or to something in it, opens it. Browsers see to the second alone, and not all of them.
function openFold() {
  const target = document.querySelector(":target");
  let fold = target?.closest("details:not([open])");
  if (!fold) return;
  for (; fold; fold = target.closest("details:not([open])")) fold.open = true;
  target.scrollIntoView();
}

// "eq:name holds: …" is the line of a check: set it apart, and lead from it to the equation.
function markChecks() {
  for (const line of document.querySelectorAll(".cell_output .output.text_plain pre")) {
    const found = line.textContent.match(/^(eq:[^\s]+) holds: /);
    if (!found) continue;
    line.closest(".output").classList.add("check");
    const target = "equation-" + found[1].replace(/[^A-Za-z0-9]+/g, "-").toLowerCase();
    if (!document.getElementById(target)) continue;
    const link = document.createElement("a");
    link.href = "#" + target;
    link.textContent = found[1];
    line.textContent = line.textContent.slice(found[1].length);
    line.prepend(link);
  }
}

// Printed sentences are broken where the screen ends, so that a verdict at a line's end shows. A table is not: it is
// known by the room between its columns.
function breakSentences() {
  for (const text of document.querySelectorAll(".cell_output .output.stream pre")) {
    if (!/\S {2,}\S/.test(text.textContent)) text.closest(".output").classList.add("sentences");
  }
}

// Two roles that Sphinx and docutils write and that do not fit: a signature over several lines is no list of
// definitions, and an entry of a list is a list's item.
function repairRoles() {
  document.querySelectorAll(".sig dl, .sig dd").forEach((part) => part.setAttribute("role", "none"));
  document.querySelectorAll(".citation-list > .citation").forEach((entry) => entry.setAttribute("role", "listitem"));
}

// What scrolls sideways must be within reach of the keyboard.
function reachScrollers() {
  for (const box of document.querySelectorAll("main pre, main div.math, .pst-scrollable-table-container")) {
    if (box.scrollWidth > box.clientWidth && !box.querySelector("a, button")) box.tabIndex = 0;
  }
}

// The theme restores where the sidebar stood, even if the page that is open now lies outside it. On a phone the sidebar
// is a dialog that starts at its top.
function showPlace() {
  const place = document.querySelector("nav.bd-links .current > a");
  const box = place?.closest("dialog, .bd-sidebar-primary");
  if (!place?.offsetParent) return;
  const [outer, line] = [box.getBoundingClientRect(), place.getBoundingClientRect()];
  if (line.top < Math.max(outer.top, 0) || line.bottom > Math.min(outer.bottom, window.innerHeight)) {
    box.scrollTop += line.top - outer.top - box.clientHeight / 3;
  }
}

document.addEventListener("DOMContentLoaded", () => {
  answerMathJax2();
  tendFigures();
  markChecks();
  breakSentences();
  repairRoles();
});
window.addEventListener("load", () => (window.MathJax?.startup?.promise ?? Promise.resolve()).then(reachScrollers));
window.addEventListener("load", openFold);
window.addEventListener("load", showPlace);
document.addEventListener("click", ({ target }) => target.closest(".primary-toggle") && setTimeout(showPlace), true);
window.addEventListener("hashchange", openFold);
document.addEventListener("toggle", reachScrollers, true);
