// Elements from calls, and a page brought up to date without losing what somebody is doing there.

const SVG = "http://www.w3.org/2000/svg";
const IN_SVG = new Set(["svg", "g", "path", "polyline", "line", "rect", "text", "title", "circle"]);

/** An element: `h("a", {href: "#"}, "text", …)`. What begins with `on` is a listener; `null` and `false` are left out. */
export function h(tag, attributes, ...children) {
  const element = IN_SVG.has(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) (element.listeners ??= {})[name.slice(2)] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  for (const name of Object.keys(element.listeners ?? {})) listen(element, name);
  append(element, children);
  return element;
}

/** Listeners are looked up when something happens, so that a patched element has the newest. */
function listen(element, name) {
  element.heard ??= new Set();
  if (element.heard.has(name)) return;
  element.heard.add(name);
  element.addEventListener(name, (event) => element.listeners?.[name]?.(event));
}

function append(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false) element.append(child);
  }
}

/** Makes an element's children those of a list, changing as little as possible: focus, selections and open dialogs stay. */
export function patch(parent, children) {
  const wanted = children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false)
    .map((child) => child instanceof Node ? child : document.createTextNode(String(child)));
  let old = parent.firstChild;
  for (const next of wanted) {
    if (!old) {
      parent.append(next);
      continue;
    }
    const following = old.nextSibling;
    if (isSame(old, next)) update(old, next);
    else old.replaceWith(next);
    old = following;
  }
  while (old) {
    const following = old.nextSibling;
    old.remove();
    old = following;
  }
}

function isSame(old, next) {
  const key = (node) => node.nodeType === 1 ? node.getAttribute("data-key") : null;
  return old.nodeType === next.nodeType && old.nodeName === next.nodeName && key(old) === key(next);
}

function update(old, next) {
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== next.data) old.data = next.data;
    return;
  }
  for (const { name, value } of [...next.attributes]) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  for (const { name } of [...old.attributes]) {
    // A dialog opens and closes itself.
    if (!next.hasAttribute(name) && !(name === "open" && ["DIALOG", "DETAILS"].includes(old.nodeName))) old.removeAttribute(name);
  }
  old.listeners = next.listeners;
  for (const name of Object.keys(next.listeners ?? {})) listen(old, name);
  // What somebody has typed is his.
  if (!["TEXTAREA", "SELECT"].includes(old.nodeName)) patch(old, [...next.childNodes]);
}

/** Says something in a corner for a while; screen readers say it aloud. */
export function toast(text, kind = "good") {
  document.querySelectorAll(".toast").forEach((old) => old.remove());
  const shown = h("div", { class: `toast ${kind}`, role: kind === "bad" ? "alert" : "status" }, text);
  document.body.append(shown);
  setTimeout(() => shown.remove(), kind === "bad" ? 9000 : 4000);
}
