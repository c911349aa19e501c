// The first screen: whether anything is wrong, and how much goes through.

import { h } from "../lib/dom.js";
import { get, q } from "../lib/api.js";
import { chart, growth } from "../lib/chart.js";
import { bytes, count, duration, rate } from "../lib/format.js";
import { table } from "../lib/table.js";

/** Seconds back, and between two points. */
const SPANS = { "10 minutes": [600, 5], "1 hour": [3600, 60], "8 hours": [28800, 600], "1 day": [86400, 1800] };

const DAY_MS = 86_400_000;

export class Overview {
  span = "10 minutes";

  async load() {
    const [age, step] = SPANS[this.span];
    const past = (kind) => `${kind}_age=${age}&${kind}_incr=${step}`;
    const deepest = "/queues?page=1&page_size=5&sort=messages_ready&sort_reverse=true";
    this.before = this.protocols && { at: this.at, protocols: this.protocols };
    [this.all, this.nodes, this.deepest, this.protocols] = await Promise.all([
      get(`/overview?${past("msg_rates")}&${past("lengths")}`),
      get(`/nodes?${past("node_stats")}`).catch(() => []),
      get(deepest),
      get("/protocols").catch(() => []),
    ]);
    this.at = Date.now();
  }

  view(refresh) {
    const { all, nodes, deepest } = this;
    const [node] = nodes;
    const objects = all.object_totals ?? {};
    const stats = all.message_stats ?? {};
    const totals = all.queue_totals ?? {};
    const card = (name, value, href) => h("a", { class: "card", href, style: "text-decoration: none; color: inherit" },
      h("b", {}, value), h("span", {}, name));
    return [
      h("h1", {}, all.cluster_name),
      problems(all, node, deepest.items),
      h("div", { class: "cards" },
        card("messages ready", count(totals.messages_ready), "#/queues"),
        card("unacknowledged", count(totals.messages_unacknowledged), "#/queues"),
        card("published", rate(stats.publish_details?.rate)),
        card("delivered", rate(stats.deliver_get_details?.rate)),
        card("connections", count(objects.connections), "#/connections"),
        card("channels", count(objects.channels), "#/channels"),
        card("queues", count(objects.queues), "#/queues"),
        card("consumers", count(objects.consumers))),
      h("form", { class: "line", onsubmit: (event) => event.preventDefault() },
        h("label", {}, "Time shown", h("select", { onchange: (event) => { this.span = event.target.value; refresh(); } },
          Object.keys(SPANS).map((span) => h("option", { selected: span === this.span }, span))))),
      h("div", { class: "two" },
        h("section", {}, chart("Messages in queues", [
          { name: "ready", samples: totals.messages_ready_details?.samples },
          { name: "unacknowledged", samples: totals.messages_unacknowledged_details?.samples },
        ])),
        h("section", {}, chart("Messages each second", [
          { name: "published", samples: growth(stats.publish_details?.samples) },
          { name: "confirmed", samples: growth(stats.confirm_details?.samples) },
          { name: "delivered", samples: growth(stats.deliver_get_details?.samples) },
          { name: "acknowledged", samples: growth(stats.ack_details?.samples) },
          { name: "redelivered", samples: growth(stats.redeliver_details?.samples) },
        ], rate)),
        node && h("section", {}, chart("Memory of the process", [{ name: "resident", samples: node.mem_used_details?.samples }], bytes)),
        h("section", {}, chart("Connections each second", [
          { name: "opened", samples: growth(all.churn_rates?.connection_created_details?.samples) },
          { name: "closed", samples: growth(all.churn_rates?.connection_closed_details?.samples) },
        ], rate))),
      node && h("section", {}, h("h2", {}, "Node"), resources(node)),
      h("section", {}, table("Deepest queues", [
        { name: "Queue", wrap: true, cell: (one) => h("a", { href: `#/queues/${q(one.vhost)}/${q(one.name)}` }, one.name) },
        { name: "Vhost", cell: (one) => one.vhost },
        { name: "Ready", n: true, cell: (one) => count(one.messages_ready) },
        { name: "Growing", n: true, cell: (one) => rate(one.messages_ready_details?.rate) },
        { name: "Consumers", n: true, cell: (one) => count(one.consumers) },
      ], deepest.items.filter((one) => one.messages_ready > 0), "Nothing waits.")),
      h("section", {}, table("Protocols", [
        { name: "Protocol", cell: (one) => one.name },
        { name: "Connections", n: true, cell: (one) => count(one.connections) },
        { name: "Received", n: true, cell: (one) => this.growing(one, "received") },
        { name: "Delivered", n: true, cell: (one) => this.growing(one, "delivered") },
        { name: "Led nowhere", n: true, cell: (one) => count(one.unroutable) },
        { name: "Bytes in", n: true, cell: (one) => bytes(one.recv_oct) },
        { name: "Bytes out", n: true, cell: (one) => bytes(one.send_oct) },
      ], this.protocols)),
      h("section", {}, table("Ports", [
        { name: "Protocol", cell: (one) => one.protocol },
        { name: "Address", cell: (one) => one.ip_address },
        { name: "Port", n: true, cell: (one) => one.port },
        { name: "TLS", cell: (one) => one.tls ? "yes" : "no" },
      ], all.listeners ?? [])),
    ];
  }

  /** A number of a protocol, and by how much it grows, once that was seen. */
  growing(one, name) {
    const before = this.before?.protocols.find((other) => other.name === one.name);
    if (!before) return count(one[name]);
    return `${count(one[name])} (${rate((one[name] - before[name]) / ((this.at - this.before.at) / 1000))})`;
  }
}

/** What is wrong, the worst first; or that nothing is. */
function problems(all, node, queues) {
  const found = [];
  const say = (kind, ...text) => found.push(h("li", { class: kind, role: kind === "bad" ? "alert" : null }, text));
  if (node) {
    if (node.mem_alarm) {
      say("bad", h("b", {}, "Publishers wait for memory. "),
        `Messages take ${bytes(node.mem_messages)} of ${bytes(node.mem_limit)}: see which queues are deep, and why nobody consumes.`);
    }
    if (node.disk_free_alarm) {
      say("bad", h("b", {}, "Publishers wait for disk space. "),
        `${bytes(node.disk_free)} are free; ${bytes(node.disk_free_limit)} must be. Free some, or consume what waits.`);
    } else if (node.disk_free < node.disk_free_limit * 3) {
      say("warn", `The disk has only ${bytes(node.disk_free)} left; below ${bytes(node.disk_free_limit)} publishers wait.`);
    }
    if (node.fd_used > node.fd_total * 0.8) {
      say("warn", `${count(node.fd_used)} of ${count(node.fd_total)} files are open: soon nobody can connect.`);
    }
    const expires = node.certificate_expires * 1000;
    if (expires && expires < Date.now()) say("bad", h("b", {}, "The certificate of the listeners has expired."));
    else if (expires && expires < Date.now() + 30 * DAY_MS) {
      say("warn", `The certificate of the listeners expires in ${duration(expires - Date.now())}.`);
    }
  }
  for (const one of queues) {
    const link = h("a", { href: `#/queues/${q(one.vhost)}/${q(one.name)}` }, one.name);
    if (one.problem) say("bad", "Queue ", link, ` cannot be read: ${one.problem}`);
    else if (one.messages_ready > 0 && one.consumers === 0) {
      say("warn", "Queue ", link, ` has ${count(one.messages_ready)} messages and no consumer.`);
    } else if (one.messages_ready > 1000 && (one.messages_ready_details?.rate ?? 0) > 1) {
      say("warn", "Queue ", link, ` grows by ${rate(one.messages_ready_details.rate)}: its consumers do not keep up.`);
    }
  }
  if (!found.length) say("good", "Nothing is wrong: no alarms, and no queue that nobody consumes.");
  return h("ul", { class: "notes", "aria-label": "Problems" }, found);
}

function resources(node) {
  const bar = (part) => h("div", { class: `bar ${part > 0.9 ? "bad" : part > 0.7 ? "warn" : ""}`, "aria-hidden": "true" },
    h("i", { style: `width: ${Math.min(100, part * 100).toFixed(1)}%` }));
  const item = (name, ...value) => [h("dt", {}, name), h("dd", {}, value)];
  return h("dl", {},
    item("Version", node.applications?.[0]?.version),
    item("Running for", duration(node.uptime)),
    item("Memory", `${bytes(node.mem_used)} resident`),
    item("Memory of messages", `${bytes(node.mem_messages)} of ${bytes(node.mem_limit)}`, bar(node.mem_messages / node.mem_limit)),
    item("Disk", `${bytes(node.disk_used)} used by the log, ${bytes(node.disk_free)} free`),
    item("Files", `${count(node.fd_used)} of ${count(node.fd_total)}`, bar(node.fd_used / node.fd_total)),
    item("Log", `${count(node.log_segments)} segments, ${count(node.messages_on_disk)} messages, `,
      `${rate(node.io_sync_count_details?.rate)} syncs, ${bytes(node.io_write_bytes_details?.rate ?? 0)}/s written`),
    item("Data", node.db_dir));
}
