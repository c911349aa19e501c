// Queues and streams: the list, and everything about one of them.

import { h } from "../lib/dom.js";
import { get, post, put, q, remove } from "../lib/api.js";
import { chart, growth } from "../lib/chart.js";
import { bytes, count, rate, time } from "../lib/format.js";
import { danger, form, json, opener } from "../lib/form.js";
import { map } from "../lib/map.js";
import { Pages, table } from "../lib/table.js";

const PAST = "msg_rates_age=600&msg_rates_incr=5&lengths_age=600&lengths_incr=5";

const features = (one) => [
  one.durable ? "durable" : "transient", one.auto_delete && "auto-delete", one.exclusive && "exclusive",
  one.policy && `policy ${one.policy}`, one.operator_policy && `operator policy ${one.operator_policy}`,
].filter(Boolean).map((feature) => h("span", { class: "tag" }, feature));

export class Queues {
  pages = new Pages("Queues", "/queues", [
    { name: "Queue", sort: "name", wrap: true, cell: (one) => h("a", { href: `#/queues/${q(one.vhost)}/${q(one.name)}` }, one.name) },
    { name: "Vhost", sort: "vhost", cell: (one) => one.vhost },
    { name: "Type", sort: "type", cell: (one) => one.type },
    { name: "Features", cell: features },
    { name: "State", cell: (one) => h("span", { class: one.state === "running" ? "good" : "bad" }, one.state) },
    { name: "Ready", n: true, sort: "messages_ready", cell: (one) => count(one.messages_ready) },
    { name: "Unacknowledged", n: true, sort: "messages_unacknowledged", cell: (one) => count(one.messages_unacknowledged) },
    { name: "Bytes", n: true, sort: "message_bytes", cell: (one) => bytes(one.message_bytes) },
    { name: "Consumers", n: true, sort: "consumers", cell: (one) => count(one.consumers) },
    { name: "In", n: true, sort: "message_stats.publish_details.rate", cell: (one) => rate(one.message_stats?.publish_details.rate) },
    { name: "Out", n: true, sort: "message_stats.deliver_get_details.rate", cell: (one) => rate(one.message_stats?.deliver_get_details.rate) },
    { name: "Acknowledged", n: true, sort: "message_stats.ack_details.rate", cell: (one) => rate(one.message_stats?.ack_details.rate) },
  ]);

  async load() {
    [, this.vhosts] = await Promise.all([this.pages.load(), get("/vhosts?columns=name")]);
  }

  view(refresh) {
    const add = form("Add a queue", [
      { name: "vhost", label: "Vhost", options: this.vhosts.map(({ name }) => name) },
      { name: "name", label: "Name", required: true },
      { name: "type", label: "Type", options: ["classic", "quorum", "stream"] },
      { name: "durable", label: "Survives a restart", type: "checkbox", value: true },
      { name: "auto_delete", label: "Goes with its last consumer", type: "checkbox" },
      { name: "arguments", label: "Further arguments", hint: "JSON", type: "textarea", placeholder: "{\"x-max-length\": 1000}" },
    ], async ({ vhost, name, type, durable, auto_delete, arguments: more }) => {
      await put(`/queues/${q(vhost)}/${q(name)}`, { durable, auto_delete, arguments: { "x-queue-type": type, ...json(more) } });
    });
    return [h("h1", {}, "Queues and streams"), h("div", { class: "actions" }, opener("Add a queue", add)), this.pages.view(refresh)];
  }
}

/** A table of consumers. */
export function consumers(list, withQueue) {
  return table("Consumers", [
    withQueue && { name: "Queue", wrap: true, cell: ({ queue }) => h("a", { href: `#/queues/${q(queue.vhost)}/${q(queue.name)}` }, queue.name) },
    !withQueue && { name: "Channel", wrap: true, cell: ({ channel_details: { name } }) => name && h("a", { href: `#/channels/${q(name)}` }, name) },
    { name: "Tag", wrap: true, cell: (one) => one.consumer_tag },
    { name: "Acknowledges", cell: (one) => one.ack_required ? "yes" : "no" },
    { name: "Prefetch", n: true, cell: (one) => count(one.prefetch_count) },
    { name: "Holds", n: true, cell: (one) => count(one.messages_unacknowledged) },
    { name: "Gets messages", cell: (one) => one.active ? "yes" : "waits for its turn" },
    { name: "Keeps up", cell: (one) => one.keeps_up ? "yes" : h("span", { class: "warn" }, "its connection is slow") },
  ].filter(Boolean), list, "Nobody consumes.");
}

export class Queue {
  constructor(vhost, name) {
    Object.assign(this, { vhost, name, path: `/queues/${q(vhost)}/${q(name)}`, messages: null });
  }

  async load() {
    [this.one, this.bindings] = await Promise.all([get(`${this.path}?${PAST}`), get(`${this.path}/bindings`)]);
  }

  view(refresh) {
    const { one, bindings } = this;
    const stats = one.message_stats ?? {};
    const item = (name, value) => [h("dt", {}, name), h("dd", {}, value ?? "–")];
    return [
      h("h1", {}, one.name),
      one.problem && h("ul", { class: "notes" }, h("li", { class: "bad", role: "alert" }, one.problem)),
      this.actions(),
      h("div", { class: "two" },
        h("section", {}, chart("Messages", [
          { name: "ready", samples: one.messages_ready_details?.samples },
          { name: "unacknowledged", samples: one.messages_unacknowledged_details?.samples },
        ])),
        h("section", {}, chart("Messages each second", [
          { name: "in", samples: growth(stats.publish_details?.samples) },
          { name: "out", samples: growth(stats.deliver_get_details?.samples) },
          { name: "acknowledged", samples: growth(stats.ack_details?.samples) },
          { name: "redelivered", samples: growth(stats.redeliver_details?.samples) },
        ], rate)),
        h("section", {}, h("h2", {}, "Queue"), h("dl", {},
          item("Vhost", one.vhost), item("Type", one.type), item("Features", features(one)), item("State", one.state),
          item("Ready", count(one.messages_ready)), item("Unacknowledged", count(one.messages_unacknowledged)),
          item("Bytes", bytes(one.message_bytes)), item("In memory", bytes(one.memory)),
          item("Last used", one.idle_since_ms && time(one.idle_since_ms)),
          one.next_offset !== undefined && item("Offsets", `${count(one.first_offset)} to ${count(one.next_offset)}, ${one.segments} segments`),
          one.single_active_consumer_tag && item("Single active consumer", one.single_active_consumer_tag))),
        h("section", {}, h("h2", {}, "Arguments and what policies make of them"),
          h("pre", {}, JSON.stringify({ arguments: one.arguments, policies: one.effective_policy_definition }, null, 2)))),
      h("section", {}, consumers(one.consumer_details ?? [], false)),
      h("section", {}, h("h2", {}, "Bindings"), map(one.name, bindings.filter(({ source }) => source !== ""), [], one.vhost),
        bindingTable(bindings, one.vhost, "source")),
      h("section", {}, h("h2", {}, "Messages that wait"), this.peek(refresh)),
    ];
  }

  actions() {
    const { vhost, name, path } = this;
    const bind = form("Bind", [
      { name: "source", label: "From exchange", required: true },
      { name: "key", label: "Key" },
      { name: "arguments", label: "Arguments", hint: "JSON", type: "textarea" },
    ], ({ source, key, arguments: more }) =>
      post(`/bindings/${q(vhost)}/e/${q(source)}/q/${q(name)}`, { routing_key: key, arguments: json(more) }));
    const move = form("Move messages", [
      { name: "destination", label: "To queue", required: true },
      { name: "count", label: "How many", hint: "all if left empty", type: "number", min: 1 },
    ], async ({ destination, count: many }) => {
      const { moved } = await post(`${path}/move`, { destination, count: many ? Number(many) : undefined });
      return `${moved} messages were moved`;
    });
    return h("div", { class: "actions" },
      opener("Publish", publish(vhost, "amq.default", name)), opener("Bind", bind), opener("Move messages", move),
      danger("Purge", `Remove all messages that wait in ${name}? They are gone for good.`, () => remove(`${path}/contents`)),
      danger("Delete", `Delete ${name} with all that is in it?`, async () => {
        await remove(path);
        location.hash = "#/queues";
      }));
  }

  peek(refresh) {
    if (this.one.type === "stream") return h("p", {}, "A stream is read by consumers, from any offset; nothing in it waits.");
    const fetch = form("Look at messages", [
      { name: "count", label: "How many", type: "number", value: 5, min: 1, max: 100 },
      { name: "ackmode", label: "And then", options: ["put them back", "remove them"] },
    ], async ({ count: many, ackmode }) => {
      const mode = ackmode === "remove them" ? "ack_requeue_false" : "ack_requeue_true";
      if (mode === "ack_requeue_false" && !window.confirm("Remove these messages for good?")) return "Nothing was done";
      this.messages = await post(`${this.path}/get`, { count: Number(many), ackmode: mode, encoding: "auto", truncate: 50_000 });
      refresh();
      return `${this.messages.length} messages`;
    }, { kind: "line", button: "Look" });
    return [fetch, this.messages?.map((one, i) => h("details", { open: i === 0 },
      h("summary", {}, `${one.exchange || "(default exchange)"} · ${one.routing_key} · ${bytes(one.payload_bytes)}${one.redelivered ? " · redelivered" : ""}`),
      h("pre", {}, JSON.stringify(one.properties, null, 2)),
      h("pre", {}, one.payload_encoding === "base64" ? `base64: ${one.payload}` : one.payload)))];
  }
}

/** A form that publishes a message. */
export function publish(vhost, exchange, key) {
  return form("Publish", [
    { name: "key", label: "Routing key", value: key },
    { name: "persistent", label: "Survives a restart", type: "checkbox", value: true },
    { name: "properties", label: "Properties", hint: "JSON", type: "textarea", placeholder: "{\"headers\": {}, \"content_type\": \"text/plain\"}" },
    { name: "payload", label: "Message", type: "textarea" },
  ], async ({ key: routing_key, persistent, properties, payload }) => {
    const { routed } = await post(`/exchanges/${q(vhost)}/${q(exchange)}/publish`, {
      routing_key, payload, payload_encoding: "string", properties: { delivery_mode: persistent ? 2 : 1, ...json(properties) },
    });
    return routed ? "Published" : "Published, but it led to no queue";
  });
}

/** Bindings with a button that removes each; `side` is what stands at the other end. */
export function bindingTable(bindings, vhost, side) {
  return table("Bindings", [
    side === "source"
      ? { name: "From exchange", wrap: true, cell: ({ source }) => source === "" ? "(default exchange)"
        : h("a", { href: `#/exchanges/${q(vhost)}/${q(source)}` }, source) }
      : { name: "To", wrap: true, cell: (one) => [`${one.destination_type} `,
        h("a", { href: `#/${one.destination_type}s/${q(vhost)}/${q(one.destination)}` }, one.destination)] },
    { name: "Key", wrap: true, cell: (one) => h("code", {}, one.routing_key) },
    { name: "Arguments", cell: (one) => Object.keys(one.arguments).length ? h("code", {}, JSON.stringify(one.arguments)) : "" },
    { name: "Actions", cell: (one) => one.source !== "" && danger("Unbind", "Remove this binding?", () =>
      remove(`/bindings/${q(vhost)}/e/${q(one.source)}/${one.destination_type[0]}/${q(one.destination)}/${q(one.properties_key)}`)) },
  ], bindings);
}
