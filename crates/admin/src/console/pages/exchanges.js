// Exchanges.

import { h } from "../lib/dom.js";
import { get, post, put, q, remove } from "../lib/api.js";
import { chart, growth } from "../lib/chart.js";
import { rate } from "../lib/format.js";
import { danger, form, json, opener } from "../lib/form.js";
import { map } from "../lib/map.js";
import { Pages } from "../lib/table.js";
import { bindingTable, publish } from "./queues.js";

const link = (one) => h("a", { href: `#/exchanges/${q(one.vhost)}/${q(one.name || "amq.default")}` }, one.name || "(default exchange)");

const features = (one) => [one.durable ? "durable" : "transient", one.auto_delete && "auto-delete", one.internal && "internal",
  one.policy && `policy ${one.policy}`].filter(Boolean).map((feature) => h("span", { class: "tag" }, feature));

export class Exchanges {
  pages = new Pages("Exchanges", "/exchanges", [
    { name: "Exchange", sort: "name", wrap: true, cell: link },
    { name: "Vhost", sort: "vhost", cell: (one) => one.vhost },
    { name: "Type", sort: "type", cell: (one) => one.type },
    { name: "Features", cell: features },
    { name: "In", n: true, sort: "message_stats.publish_in_details.rate", cell: (one) => rate(one.message_stats?.publish_in_details.rate) },
    { name: "Out", n: true, sort: "message_stats.publish_out_details.rate", cell: (one) => rate(one.message_stats?.publish_out_details.rate) },
  ], "");

  async load() {
    [, this.vhosts, this.kinds] = await Promise.all([
      this.pages.load(), get("/vhosts?columns=name"), get("/overview").then(({ exchange_types }) => exchange_types.map(({ name }) => name)),
    ]);
  }

  view(refresh) {
    const add = form("Add an exchange", [
      { name: "vhost", label: "Vhost", options: this.vhosts.map(({ name }) => name) },
      { name: "name", label: "Name", required: true },
      { name: "type", label: "Type", options: this.kinds },
      { name: "durable", label: "Survives a restart", type: "checkbox", value: true },
      { name: "auto_delete", label: "Goes with its last binding", type: "checkbox" },
      { name: "internal", label: "Only other exchanges may publish to it", type: "checkbox" },
      { name: "arguments", label: "Arguments", hint: "JSON", type: "textarea", placeholder: "{\"alternate-exchange\": \"…\"}" },
    ], ({ vhost, name, arguments: more, ...rest }) => put(`/exchanges/${q(vhost)}/${q(name)}`, { ...rest, arguments: json(more) }));
    return [h("h1", {}, "Exchanges"), h("div", { class: "actions" }, opener("Add an exchange", add)), this.pages.view(refresh)];
  }
}

export class Exchange {
  constructor(vhost, name) {
    Object.assign(this, { vhost, name, path: `/exchanges/${q(vhost)}/${q(name)}` });
  }

  async load() {
    [this.one, this.outgoing, this.incoming] = await Promise.all([
      get(`${this.path}?msg_rates_age=600&msg_rates_incr=5`), get(`${this.path}/bindings/source`), get(`${this.path}/bindings/destination`),
    ]);
  }

  view() {
    const { one, vhost, name } = this;
    const stats = one.message_stats ?? {};
    const isOwn = !name.startsWith("amq.");
    const bind = form("Bind", [
      { name: "kind", label: "To", options: ["queue", "exchange"] },
      { name: "destination", label: "Name", required: true },
      { name: "key", label: "Key" },
      { name: "arguments", label: "Arguments", hint: "JSON", type: "textarea" },
    ], ({ kind, destination, key, arguments: more }) =>
      post(`/bindings/${q(vhost)}/e/${q(name)}/${kind[0]}/${q(destination)}`, { routing_key: key, arguments: json(more) }));
    return [
      h("h1", {}, one.name || "(default exchange)"),
      h("p", {}, `${one.type}, in vhost ${one.vhost} `, features(one)),
      h("div", { class: "actions" }, opener("Publish", publish(vhost, name, "")), one.name !== "" && opener("Bind", bind),
        isOwn && danger("Delete", `Delete exchange ${name} with its bindings?`, async () => {
          await remove(this.path);
          location.hash = "#/exchanges";
        })),
      h("section", {}, chart("Messages each second", [
        { name: "in", samples: growth(stats.publish_in_details?.samples) },
        { name: "out, once for each queue", samples: growth(stats.publish_out_details?.samples) },
      ], rate)),
      h("section", {}, h("h2", {}, "Bindings"), map(one.name, this.incoming, this.outgoing, vhost),
        bindingTable(this.outgoing, vhost, "destination"), this.incoming.length > 0 && bindingTable(this.incoming, vhost, "source")),
      h("section", {}, h("h2", {}, "Arguments"), h("pre", {}, JSON.stringify(one.arguments, null, 2))),
    ];
  }
}
