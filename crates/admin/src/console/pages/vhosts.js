// Vhosts.

import { h } from "../lib/dom.js";
import { get, put, q, remove } from "../lib/api.js";
import { count, rate } from "../lib/format.js";
import { danger, form, opener } from "../lib/form.js";
import { table } from "../lib/table.js";

export class Vhosts {
  async load() {
    [this.vhosts, this.limits] = await Promise.all([get("/vhosts"), get("/vhost-limits")]);
  }

  view() {
    const add = form("Add a vhost", [
      { name: "name", label: "Name", required: true },
      { name: "description", label: "Description" },
      { name: "tags", label: "Tags", hint: "with commas between them" },
      { name: "default_queue_type", label: "Queues without a type are", options: ["classic", "quorum", "stream"] },
    ], ({ name, ...rest }) => put(`/vhosts/${q(name)}`, rest));
    const limit = form("Set a limit", [
      { name: "vhost", label: "Vhost", options: this.vhosts.map(({ name }) => name) },
      { name: "limit", label: "Limit", options: ["max-connections", "max-queues"] },
      { name: "value", label: "At most", type: "number", required: true },
    ], ({ vhost, limit: which, value }) => put(`/vhost-limits/${q(vhost)}/${which}`, { value: Number(value) }));
    const limits = (one) => Object.entries(this.limits.find(({ vhost }) => vhost === one.name)?.value ?? {})
      .map(([which, value]) => h("span", { class: "tag" }, `${which} ${value}`));
    return [
      h("h1", {}, "Vhosts"),
      h("div", { class: "actions" }, opener("Add a vhost", add), opener("Set a limit", limit)),
      h("section", {}, table("Vhosts", [
        { name: "Name", wrap: true, cell: (one) => [h("b", {}, one.name), h("br"), one.description] },
        { name: "Tags", cell: (one) => one.tags.map((tag) => h("span", { class: "tag" }, tag)) },
        { name: "Limits", cell: limits },
        { name: "Ready", n: true, cell: (one) => count(one.messages_ready) },
        { name: "Unacknowledged", n: true, cell: (one) => count(one.messages_unacknowledged) },
        { name: "Published", n: true, cell: (one) => rate(one.message_stats?.publish_details.rate) },
        { name: "Delivered", n: true, cell: (one) => rate(one.message_stats?.deliver_get_details.rate) },
        { name: "Actions", cell: (one) => one.name !== "/" && danger("Delete",
          `Delete vhost ${one.name} with all its queues and messages? Its connections end.`, () => remove(`/vhosts/${q(one.name)}`)) },
      ], this.vhosts)),
    ];
  }
}
