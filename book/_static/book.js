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

// Widgets appear after the page has loaded, whenever html-manager is ready.
function nameSliders() {
  const name = () => document.querySelectorAll(".noUi-handle").forEach(nameSlider);
  if (!document.querySelector('script[type="application/vnd.jupyter.widget-view+json"]')) return;
  new MutationObserver(name).observe(document.querySelector("main") ?? document.body, { childList: true, subtree: true });
  name();
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

document.addEventListener("DOMContentLoaded", () => {
  answerMathJax2();
  nameSliders();
  markChecks();
  repairRoles();
});
window.addEventListener("load", () => (window.MathJax?.startup?.promise ?? Promise.resolve()).then(reachScrollers));
