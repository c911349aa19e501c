// Users and what they may do.

import { h } from "../lib/dom.js";
import { get, put, q, remove } from "../lib/api.js";
import { danger, form, opener } from "../lib/form.js";
import { table } from "../lib/table.js";

const TAGS = "administrator, monitoring, policymaker, management, impersonator";

export class Users {
  async load() {
    [this.users, this.permissions] = await Promise.all([get("/users"), get("/permissions")]);
  }

  view() {
    const add = form("Add a user", [
      { name: "name", label: "Name", required: true, autocomplete: "off" },
      { name: "password", label: "Password", type: "password", autocomplete: "new-password", required: true },
      { name: "tags", label: "Tags", hint: TAGS },
    ], ({ name, ...rest }) => put(`/users/${q(name)}`, rest));
    const of = (user) => this.permissions.filter((one) => one.user === user.name).map(({ vhost }) => h("span", { class: "tag" }, vhost));
    return [
      h("h1", {}, "Users"),
      h("div", { class: "actions" }, opener("Add a user", add)),
      h("section", {}, table("Users", [
        { name: "Name", wrap: true, cell: (one) => h("a", { href: `#/users/${q(one.name)}` }, one.name) },
        { name: "Tags", cell: (one) => one.tags.map((tag) => h("span", { class: "tag" }, tag)) },
        { name: "May enter", cell: of },
        { name: "Password", cell: (one) => one.password_hash ? one.hashing_algorithm : "none: cannot log in with one" },
      ], this.users)),
    ];
  }
}

export class User {
  constructor(name) {
    Object.assign(this, { name, path: `/users/${q(name)}` });
  }

  async load() {
    [this.one, this.permissions, this.topics, this.vhosts, this.limits] = await Promise.all([
      get(this.path), get(`${this.path}/permissions`), get(`${this.path}/topic-permissions`), get("/vhosts?columns=name"),
      get(`/user-limits/${q(this.name)}`),
    ]);
  }

  view() {
    const { one, name } = this;
    const vhosts = this.vhosts.map((vhost) => vhost.name);
    const change = form("Change", [
      { name: "password", label: "New password", hint: "leave empty to keep it", type: "password", autocomplete: "new-password" },
      { name: "tags", label: "Tags", hint: TAGS, value: one.tags.join(", ") },
    ], ({ password, tags }) => put(this.path, password ? { password, tags }
      : { tags, password_hash: one.password_hash, hashing_algorithm: one.hashing_algorithm }));
    const permit = form("Set permissions", [
      { name: "vhost", label: "Vhost", options: vhosts },
      { name: "configure", label: "May declare and delete", hint: "regular expression", value: ".*" },
      { name: "write", label: "May publish to", hint: "regular expression", value: ".*" },
      { name: "read", label: "May consume from", hint: "regular expression", value: ".*" },
    ], ({ vhost, ...rest }) => put(`/permissions/${q(vhost)}/${q(name)}`, rest));
    const topic = form("Set topic permissions", [
      { name: "vhost", label: "Vhost", options: vhosts },
      { name: "exchange", label: "Exchange", value: "amq.topic", required: true },
      { name: "write", label: "May publish with keys", hint: "regular expression", value: ".*" },
      { name: "read", label: "May bind with keys", hint: "regular expression", value: ".*" },
    ], ({ vhost, ...rest }) => put(`/topic-permissions/${q(vhost)}/${q(name)}`, rest));
    const limit = form("Set a limit", [
      { name: "limit", label: "Limit", options: ["max-connections", "max-channels"] },
      { name: "value", label: "At most", type: "number", required: true },
    ], ({ limit: which, value }) => put(`/user-limits/${q(name)}/${which}`, { value: Number(value) }));
    const pattern = (key) => (row) => h("code", {}, row[key]);
    return [
      h("h1", {}, name),
      h("p", {}, one.tags.map((tag) => h("span", { class: "tag" }, tag))),
      h("div", { class: "actions" }, opener("Change", change), opener("Set permissions", permit), opener("Set topic permissions", topic),
        opener("Set a limit", limit),
        danger("Delete", `Delete user ${name}? Connections of this user end.`, async () => {
          await remove(this.path);
          location.hash = "#/users";
        })),
      h("section", {}, table("Permissions", [
        { name: "Vhost", cell: (row) => row.vhost },
        { name: "Declares", cell: pattern("configure") }, { name: "Publishes", cell: pattern("write") }, { name: "Consumes", cell: pattern("read") },
        { name: "Actions", cell: (row) => danger("Clear", `Take all permissions in ${row.vhost} from ${name}?`,
          () => remove(`/permissions/${q(row.vhost)}/${q(name)}`)) },
      ], this.permissions)),
      h("section", {}, table("Topic permissions", [
        { name: "Vhost", cell: (row) => row.vhost }, { name: "Exchange", cell: (row) => row.exchange },
        { name: "Publishes", cell: pattern("write") }, { name: "Binds", cell: pattern("read") },
        { name: "Actions", cell: (row) => danger("Clear", "Clear these topic permissions? Then every key is allowed.",
          () => remove(`/topic-permissions/${q(row.vhost)}/${q(name)}/${q(row.exchange)}`)) },
      ], this.topics, "None: every key is allowed.")),
      h("section", {}, table("Limits", [
        { name: "Limit", cell: ([which]) => which }, { name: "At most", n: true, cell: ([, value]) => value },
        { name: "Actions", cell: ([which]) => danger("Clear", `Clear ${which}?`, () => remove(`/user-limits/${q(name)}/${which}`)) },
      ], Object.entries(this.limits[0]?.value ?? {}))),
    ];
  }
}
