// Curves over time, drawn as SVG.

import { h } from "./dom.js";
import { clock, count } from "./format.js";


/** From samples of a number that grows, the newest first, its growth each second. */
export function growth(samples) {
  const points = [];
  for (let i = 0; i + 1 < (samples?.length ?? 0); i += 1) {
    const [b, a] = [samples[i], samples[i + 1]];
    const seconds = (b.timestamp - a.timestamp) / 1000;
    if (seconds > 0) points.push({ timestamp: b.timestamp, sample: Math.max(0, (b.sample - a.sample) / seconds) });
  }
  return points;
}

/** A figure of curves: `{name, samples}`, with samples the newest first. Screen readers get the newest numbers. */
export function chart(title, curves, shown = count) {
  const drawn = curves.filter(({ samples }) => samples?.length);
  const all = drawn.flatMap(({ samples }) => samples);
  if (!all.length) {
    return h("figure", {}, h("h2", {}, title), h("p", { class: "soft" }, "Nothing has been counted yet."));
  }
  const [from, to] = [Math.min(...all.map((s) => s.timestamp)), Math.max(...all.map((s) => s.timestamp))];
  const top = nice(Math.max(...all.map((s) => s.sample)));
  // The picture is stretched to the place that there is; what is written beside it is not.
  const x = (at) => (to === from ? 1 : (at - from) / (to - from)) * 100;
  const y = (value) => (1 - value / top) * 100;
  const lines = [0, 0.5, 1].map((part) => h("line", { class: "axis", x1: 0, x2: 100, y1: y(top * part), y2: y(top * part) }));
  const paths = drawn.map(({ samples }, i) => h("polyline", {
    points: samples.map((s) => `${x(s.timestamp).toFixed(2)},${y(s.sample).toFixed(2)}`).join(" "),
    style: `stroke: var(--c${i % 6})`,
  }));
  const newest = drawn.map(({ name, samples }) => `${name} ${shown(samples[0].sample)}`);
  return h("figure", {},
    h("h2", {}, title),
    h("div", { class: "plot" },
      h("div", { class: "y", "aria-hidden": "true" }, [1, 0.5, 0].map((part) => h("span", {}, short(top * part, shown)))),
      h("svg", { class: "chart", viewBox: "0 0 100 100", preserveAspectRatio: "none", role: "img",
        "aria-label": `${title}: ${newest.join(", ")}` }, lines, paths),
      h("div", { class: "x", "aria-hidden": "true" }, [from, (from + to) / 2, to].map((at) => h("span", {}, clock(at))))),
    h("figcaption", {}, drawn.map(({ name, samples }, i) =>
      h("span", {}, h("i", { style: `background: var(--c${i % 6})` }), `${name} `, h("b", {}, shown(samples[0].sample))))));
}

/** A round number that is not below another. */
function nice(max) {
  if (max <= 1) return 1;
  const power = 10 ** Math.floor(Math.log10(max));
  return [1, 2, 5, 10].find((step) => step * power >= max) * power;
}

function short(value, shown) {
  if (shown !== count || value < 10_000) return shown(value);
  return value >= 1_000_000 ? `${+(value / 1_000_000).toFixed(1)} M` : `${+(value / 1000).toFixed(1)} k`;
}
