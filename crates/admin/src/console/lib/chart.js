// Curves over time, drawn as SVG.

import { h } from "./dom.js";
import { clock, count } from "./format.js";

const WIDTH = 600;
const HEIGHT = 190;
const LEFT = 52;
const BOTTOM = 20;

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
  const x = (at) => LEFT + (to === from ? 1 : (at - from) / (to - from)) * (WIDTH - LEFT - 6);
  const y = (value) => 8 + (1 - value / top) * (HEIGHT - BOTTOM - 8);
  const lines = [0, 0.5, 1].map((part) => [
    h("line", { class: "axis", x1: LEFT, x2: WIDTH - 6, y1: y(top * part), y2: y(top * part) }),
    h("text", { x: LEFT - 6, y: y(top * part) + 4, "text-anchor": "end" }, short(top * part, shown)),
  ]);
  const times = [from, (from + to) / 2, to].map((at, i) =>
    h("text", { x: x(at), y: HEIGHT - 4, "text-anchor": ["start", "middle", "end"][i] }, clock(at)));
  const paths = drawn.map(({ samples }, i) => h("polyline", {
    points: samples.map((s) => `${x(s.timestamp).toFixed(1)},${y(s.sample).toFixed(1)}`).join(" "),
    style: `stroke: var(--c${i % 6})`,
  }));
  const newest = drawn.map(({ name, samples }) => `${name} ${shown(samples[0].sample)}`);
  return h("figure", {},
    h("h2", {}, title),
    h("svg", { class: "chart", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img",
      "aria-label": `${title}: ${newest.join(", ")}` }, lines, times, paths),
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
