// Tables: of rows that are all there, and of pages that the broker sorts and filters.

import { h } from "./dom.js";
import { get } from "./api.js";
import { count } from "./format.js";

/** Columns are `{name, cell(row), n}`; `n` marks numbers. */
export function table(caption, columns, rows, none = "There are none.") {
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h("table", {}, h("caption", {}, caption),
      h("thead", {}, h("tr", {}, columns.map(({ name, n }) => h("th", { scope: "col", class: n && "n" }, name)))),
      h("tbody", {}, rows.length ? rows.map((row) => line(columns, row))
        : h("tr", {}, h("td", { colspan: columns.length }, none)))));
}

function line(columns, row) {
  return h("tr", {}, columns.map(({ cell, n, wrap }) => h("td", { class: n ? "n" : wrap && "wrap" }, cell(row) ?? "–")));
}

/** A list of the broker by pages. `state` keeps page, order and filter between two looks; columns may have `sort`. */
export class Pages {
  constructor(caption, path, columns, sort = "name") {
    Object.assign(this, { caption, path, columns, sort, reverse: false, page: 1, size: 50, filter: "" });
  }

  async load() {
    const wish = new URLSearchParams({ page: this.page, page_size: this.size, pagination: true });
    if (this.sort) wish.set("sort", this.sort);
    if (this.reverse) wish.set("sort_reverse", true);
    if (this.filter) wish.set("name", this.filter);
    try {
      this.data = await get(`${this.path}${this.path.includes("?") ? "&" : "?"}${wish}`);
    } catch (error) {
      // Rows went away, and the last page with them.
      if (error.status !== 400 || this.page === 1) throw error;
      this.page = 1;
      return this.load();
    }
  }

  view(refresh) {
    const { items, page, page_count, filtered_count, total_count } = this.data;
    const by = (sort) => () => {
      this.reverse = this.sort === sort && !this.reverse;
      this.sort = sort;
      this.page = 1;
      refresh();
    };
    const head = this.columns.map(({ name, n, sort }) => h("th", {
      scope: "col", class: n && "n",
      "aria-sort": sort && sort === this.sort ? (this.reverse ? "descending" : "ascending") : null,
    }, sort ? h("button", { onclick: by(sort) }, name, sort === this.sort ? (this.reverse ? " ▾" : " ▴") : "") : name));
    const go = (to) => () => {
      this.page = to;
      refresh();
    };
    return h("section", {},
      h("form", { class: "line", role: "search", onsubmit: (event) => event.preventDefault() },
        h("label", {}, "Name contains", h("input", { type: "search", oninput: (event) => {
          this.filter = event.target.value;
          this.page = 1;
          refresh();
        } })),
        h("span", { "aria-live": "polite" }, `${count(filtered_count)} of ${count(total_count)}`)),
      h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": this.caption },
        h("table", {}, h("caption", {}, this.caption), h("thead", {}, h("tr", {}, head)),
          h("tbody", {}, items.length ? items.map((row) => line(this.columns, row))
            : h("tr", {}, h("td", { colspan: this.columns.length }, "There are none."))))),
      page_count > 1 && h("div", { class: "pages" },
        h("button", { onclick: go(page - 1), disabled: page <= 1 }, "Back"),
        `Page ${page} of ${count(page_count)}`,
        h("button", { onclick: go(page + 1), disabled: page >= page_count }, "Next")));
  }
}
