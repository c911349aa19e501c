// Policies, and those of operators.

import { h } from "../lib/dom.js";
import { get, put, q, remove } from "../lib/api.js";
import { danger, form, json, opener } from "../lib/form.js";
import { table } from "../lib/table.js";

const KINDS = { policy: "/policies", "operator policy": "/operator-policies" };

export class Policies {
  async load() {
    const [user, operator, vhosts] = await Promise.all([get("/policies"), get("/operator-policies"), get("/vhosts?columns=name")]);
    const of = (kind, list) => list.map((one) => ({ ...one, kind }));
    this.all = [...of("policy", user), ...of("operator policy", operator)];
    this.vhosts = vhosts.map(({ name }) => name);
  }

  view() {
    const set = form("Set a policy", [
      { name: "kind", label: "Kind", options: Object.keys(KINDS) },
      { name: "vhost", label: "Vhost", options: this.vhosts },
      { name: "name", label: "Name", required: true },
      { name: "pattern", label: "Names that it applies to", hint: "regular expression", required: true },
      { name: "apply-to", label: "Applies to", options: ["all", "queues", "classic_queues", "quorum_queues", "streams", "exchanges"] },
      { name: "priority", label: "Priority", type: "number", value: 0 },
      { name: "definition", label: "What it says", hint: "JSON", type: "textarea", required: true, value: "{\"max-length\": 100000}" },
    ], ({ kind, vhost, name, definition, priority, ...rest }) =>
      put(`${KINDS[kind]}/${q(vhost)}/${q(name)}`, { ...rest, priority: Number(priority), definition: json(definition) }));
    return [
      h("h1", {}, "Policies"),
      h("p", {}, "Of the policies that match a queue or exchange, the one with the highest priority applies; an operator's sets bounds."),
      h("div", { class: "actions" }, opener("Set a policy", set)),
      h("section", {}, table("Policies", [
        { name: "Name", wrap: true, cell: (one) => one.name },
        { name: "Kind", cell: (one) => one.kind },
        { name: "Vhost", cell: (one) => one.vhost },
        { name: "Pattern", cell: (one) => h("code", {}, one.pattern) },
        { name: "Applies to", cell: (one) => one["apply-to"] },
        { name: "Priority", n: true, cell: (one) => one.priority },
        { name: "Says", wrap: true, cell: (one) => h("code", {}, JSON.stringify(one.definition)) },
        { name: "Actions", cell: (one) => danger("Remove", `Remove policy ${one.name}? It no longer applies from that moment on.`,
          () => remove(`${KINDS[one.kind]}/${q(one.vhost)}/${q(one.name)}`)) },
      ], this.all)),
    ];
  }
}
