// MQTT: sessions and retained messages.

import { h } from "../lib/dom.js";
import { get, q } from "../lib/api.js";
import { bytes, count, duration, time } from "../lib/format.js";
import { table } from "../lib/table.js";

const SHOWN = 200;

export class Mqtt {
  vhost = "/";
  filter = "";

  async load() {
    const wish = new URLSearchParams({ prefix: this.filter });
    [this.sessions, this.vhosts, this.retained] = await Promise.all([
      get("/mqtt/sessions"), get("/vhosts?columns=name"),
      get(`/mqtt/retained/${q(this.vhost)}?${wish}`).catch(() => ({ total: 0, messages: [] })),
    ]);
  }

  view(refresh) {
    const { sessions, retained } = this;
    const connected = sessions.filter((one) => one.connected).length;
    return [
      h("h1", {}, "MQTT"),
      h("div", { class: "cards" },
        h("div", { class: "card" }, h("b", {}, count(connected)), h("span", {}, "sessions with a connection")),
        h("div", { class: "card" }, h("b", {}, count(sessions.length - connected)), h("span", {}, "sessions without")),
        h("div", { class: "card" }, h("b", {}, count(retained.total)), h("span", {}, `retained topics in ${this.vhost}`))),
      h("section", {}, table(sessions.length > SHOWN ? `Sessions, the first ${SHOWN} of ${count(sessions.length)}` : "Sessions", [
        { name: "Client", wrap: true, cell: (one) => one.client_id },
        { name: "User", cell: (one) => one.user },
        { name: "Vhost", cell: (one) => one.vhost },
        { name: "Version", cell: (one) => one.protocol.replace("MQTT ", "").replaceAll("-", ".") },
        { name: "Connected", cell: (one) => h("span", { class: one.connected ? "good" : "" }, one.connected ? "yes" : "no") },
        { name: "Ends", cell: (one) => one.ends ? time(one.ends) : one.expiry_s === 0 ? "with its connection"
          : one.expiry_s === 4294967295 ? "never" : `${duration(one.expiry_s * 1000)} after its connection` },
        { name: "In flight", n: true, cell: (one) => count(one.in_flight) },
        { name: "Subscriptions", wrap: true, cell: (one) => one.subscriptions.map(({ filter, qos }) =>
          h("span", { class: "tag" }, `${filter} (QoS ${qos})`)) },
      ], sessions.slice(0, SHOWN))),
      h("section", {},
        h("form", { class: "line", onsubmit: (event) => event.preventDefault() },
          h("label", {}, "Vhost", h("select", { onchange: (event) => { this.vhost = event.target.value; refresh(); } },
            this.vhosts.map(({ name }) => h("option", { selected: name === this.vhost }, name)))),
          h("label", {}, "Topics that begin with", h("input", { type: "search", oninput: (event) => { this.filter = event.target.value; refresh(); } }))),
        table("Retained messages", [
          { name: "Topic", wrap: true, cell: (one) => one.topic },
          { name: "Bytes", n: true, cell: (one) => bytes(one.payload_bytes) },
          { name: "Message", wrap: true, cell: (one) => h("code", {}, one.payload) },
        ], retained.messages),
        retained.more && h("p", {}, "There are more: say how their topics begin.")),
    ];
  }
}
