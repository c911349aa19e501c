// Connections and channels.

import { h } from "../lib/dom.js";
import { get, q, remove } from "../lib/api.js";
import { chart, growth } from "../lib/chart.js";
import { bytes, count, rate, time } from "../lib/format.js";
import { form, opener } from "../lib/form.js";
import { Pages, table } from "../lib/table.js";
import { consumers } from "./queues.js";

const PAST = "msg_rates_age=600&msg_rates_incr=5&data_rates_age=600&data_rates_incr=5";

export const connection = (name) => h("a", { href: `#/connections/${q(name)}` }, name);

const state = (one) => h("span", { class: one.state === "running" ? "good" : "warn" }, one.state);

export class Connections {
  pages = new Pages("Connections", "/connections", [
    { name: "Connection", sort: "name", wrap: true, cell: (one) => [connection(one.name), h("br"), one.user_provided_name ?? one.client_id ?? ""] },
    { name: "User", sort: "user", cell: (one) => one.user },
    { name: "Vhost", sort: "vhost", cell: (one) => one.vhost },
    { name: "Protocol", sort: "protocol", cell: (one) => [one.protocol, one.ssl ? " TLS" : ""] },
    { name: "State", cell: state },
    { name: "Channels", n: true, sort: "channels", cell: (one) => count(one.channels) },
    { name: "From client", n: true, sort: "recv_oct_details.rate", cell: (one) => `${bytes(one.recv_oct_details.rate)}/s` },
    { name: "To client", n: true, sort: "send_oct_details.rate", cell: (one) => `${bytes(one.send_oct_details.rate)}/s` },
    { name: "Since", sort: "connected_at", cell: (one) => time(one.connected_at) },
  ]);

  load() {
    return this.pages.load();
  }

  view(refresh) {
    return [h("h1", {}, "Connections"), this.pages.view(refresh)];
  }
}

export class Connection {
  constructor(name) {
    this.name = name;
  }

  async load() {
    const path = `/connections/${q(this.name)}`;
    [this.one, this.channels] = await Promise.all([get(`${path}?${PAST}`), get(`${path}/channels`)]);
  }

  view() {
    const { one } = this;
    const item = (name, value) => [h("dt", {}, name), h("dd", {}, value ?? "–")];
    const stats = one.message_stats ?? {};
    return [
      h("h1", {}, one.name),
      h("div", { class: "actions" }, opener("Close this connection", form("Close this connection",
        [{ name: "reason", label: "Reason", hint: "the client is told", value: "Closed via management plugin" }],
        async ({ reason }) => {
          await remove(`/connections/${q(this.name)}`, { "X-Reason": reason });
          location.hash = "#/connections";
        }), { class: "danger" })),
      h("div", { class: "two" },
        h("section", {}, h("h2", {}, "Client"), h("dl", {},
          item("State", state(one)), item("User", one.user), item("Vhost", one.vhost), item("Protocol", one.protocol),
          item("Login by", one.auth_mechanism), item("TLS", one.ssl ? "yes" : "no"), item("Certificate of", one.peer_cert_subject),
          item("Connected", time(one.connected_at)), item("Heartbeat", one.timeout ? `${one.timeout} s` : "none"),
          item("Frames up to", bytes(one.frame_max)), item("Channels up to", count(one.channel_max)))),
        h("section", {}, h("h2", {}, "What it says of itself"), h("pre", {}, JSON.stringify(one.client_properties, null, 2))),
        h("section", {}, chart("Bytes each second", [
          { name: "from the client", samples: growth(one.recv_oct_details.samples) },
          { name: "to the client", samples: growth(one.send_oct_details.samples) },
        ], (number) => `${bytes(number)}/s`)),
        h("section", {}, chart("Messages each second", [
          { name: "published", samples: growth(stats.publish_details?.samples) },
          { name: "delivered", samples: growth(stats.deliver_get_details?.samples) },
          { name: "acknowledged", samples: growth(stats.ack_details?.samples) },
        ], rate))),
      h("section", {}, table("Channels", columns(false), this.channels)),
    ];
  }
}

function columns(withConnection) {
  return [
    { name: "Channel", sort: "name", wrap: true, cell: (one) => h("a", { href: `#/channels/${q(one.name)}` }, withConnection ? one.name : one.number) },
    withConnection && { name: "User", sort: "user", cell: (one) => one.user },
    { name: "Mode", cell: (one) => one.confirm ? "confirms" : one.transactional ? "transactions" : "" },
    { name: "Prefetch", n: true, cell: (one) => count(one.prefetch_count) },
    { name: "Consumers", n: true, sort: "consumer_count", cell: (one) => count(one.consumer_count) },
    { name: "Unacknowledged", n: true, sort: "messages_unacknowledged", cell: (one) => count(one.messages_unacknowledged) },
    { name: "Unconfirmed", n: true, cell: (one) => count(one.messages_unconfirmed) },
    { name: "Published", n: true, cell: (one) => rate(one.message_stats?.publish_details.rate) },
    { name: "Delivered", n: true, cell: (one) => rate(one.message_stats?.deliver_get_details.rate) },
    { name: "Acknowledged", n: true, cell: (one) => rate(one.message_stats?.ack_details.rate) },
  ].filter(Boolean);
}

export class Channels {
  pages = new Pages("Channels", "/channels", columns(true));

  load() {
    return this.pages.load();
  }

  view(refresh) {
    return [h("h1", {}, "Channels"), this.pages.view(refresh)];
  }
}

export class Channel {
  constructor(name) {
    this.name = name;
  }

  async load() {
    this.one = await get(`/channels/${q(this.name)}?${PAST}`);
  }

  view() {
    const { one } = this;
    const stats = one.message_stats ?? {};
    return [
      h("h1", {}, one.name),
      h("p", {}, "Connection ", connection(one.connection_details.name)),
      h("section", {}, table("Channel", columns(false), [one])),
      h("section", {}, chart("Messages each second", [
        { name: "published", samples: growth(stats.publish_details?.samples) },
        { name: "confirmed", samples: growth(stats.confirm_details?.samples) },
        { name: "delivered", samples: growth(stats.deliver_get_details?.samples) },
        { name: "acknowledged", samples: growth(stats.ack_details?.samples) },
      ], rate)),
      h("section", {}, consumers(one.consumer_details, true)),
    ];
  }
}

