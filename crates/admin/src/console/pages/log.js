// The last lines of the log.

import { h } from "../lib/dom.js";
import { get } from "../lib/api.js";

const SHOWN = 500;

export class Log {
  next = 0;
  lines = [];
  filter = "";

  async load() {
    const { lines, next } = await get(`/log?from=${this.next}`);
    // A broker that was restarted counts anew.
    this.lines = next < this.next ? lines : [...this.lines, ...lines].slice(-SHOWN);
    this.next = next;
  }

  view(refresh) {
    const wanted = this.lines.filter((line) => line.toLowerCase().includes(this.filter.toLowerCase()));
    const kind = (line) => /\bERROR\b/.test(line) ? "bad" : /\bWARN\b/.test(line) ? "warn" : "";
    return [
      h("h1", {}, "Log"),
      h("form", { class: "line", role: "search", onsubmit: (event) => event.preventDefault() },
        h("label", {}, "Lines with", h("input", { type: "search", oninput: (event) => { this.filter = event.target.value; refresh(); } }))),
      h("section", {}, h("pre", { tabindex: "0", role: "log", "aria-label": "The last lines", style: "max-height: 70vh" },
        wanted.length ? wanted.map((line) => h("span", { class: kind(line) }, `${line}\n`)) : "No such line.")),
    ];
  }
}
