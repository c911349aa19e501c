// Bindings as a picture: what leads here on the left, where it leads on the right.

import { h } from "./dom.js";

const ROW = 44;
const BOX = 230;
const SHOWN = 12;

const cut = (text, length) => text.length > length ? `${text.slice(0, length - 1)}…` : text;
const name = (exchange) => exchange === "" ? "(default exchange)" : exchange;

/** `own` stands in the middle; `incoming` and `outgoing` are bindings. */
export function map(own, incoming, outgoing, vhost) {
  const rows = Math.max(1, Math.min(SHOWN, incoming.length), Math.min(SHOWN, outgoing.length));
  const height = rows * ROW + 20;
  const middle = height / 2;
  const place = (i, length) => middle + (i - (Math.min(length, SHOWN) - 1) / 2) * ROW;
  const box = (x, y, text, href, isOwn) => {
    const drawn = [
      h("rect", { x, y: y - 15, width: BOX, height: 30, rx: 6, class: isOwn && "own" }),
      h("text", { x: x + 10, y: y + 5 }, cut(text, 28)), h("title", {}, text),
    ];
    return h("g", { onclick: href && (() => { location.hash = href; }), style: href && "cursor: pointer" }, drawn);
  };
  // A key stands at the end that no other line has.
  const line = (x1, y1, x2, y2, key, isLeft) => [
    h("path", { d: `M${x1},${y1} C${(x1 + x2) / 2},${y1} ${(x1 + x2) / 2},${y2} ${x2},${y2}` }),
    h("text", { class: "key", x: isLeft ? x1 + 6 : x2 - 6, y: (isLeft ? y1 : y2) - 6, "text-anchor": isLeft ? "start" : "end" }, cut(key, 20)),
  ];
  const e = encodeURIComponent;
  const to = (binding) => `#/${binding.destination_type}s/${e(vhost)}/${e(binding.destination)}`;
  const from = (binding) => `#/exchanges/${e(vhost)}/${e(binding.source || "amq.default")}`;
  const left = incoming.slice(0, SHOWN).map((binding, i) => {
    const y = place(i, incoming.length);
    return [line(BOX + 10, y, 405, middle, binding.routing_key, true), box(10, y, name(binding.source), from(binding))];
  });
  const right = outgoing.slice(0, SHOWN).map((binding, i) => {
    const y = place(i, outgoing.length);
    return [line(635, middle, 790, y, binding.routing_key, false), box(790, y, binding.destination, to(binding))];
  });
  const rest = [incoming, outgoing].map((list) => Math.max(0, list.length - SHOWN)).reduce((a, b) => a + b);
  return h("figure", {},
    h("svg", { class: "map", viewBox: `0 0 1030 ${height}`, role: "img",
      "aria-label": `${incoming.length} bindings lead to ${own}, ${outgoing.length} from it` },
      left, right, box(405, middle, name(own), null, true)),
    rest > 0 && h("figcaption", {}, `and ${rest} more, in the table`));
}
