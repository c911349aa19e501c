// All definitions as one document, out and in.

import { h, toast } from "../lib/dom.js";
import { get, post, q } from "../lib/api.js";

export class Definitions {
  vhost = "";

  async load() {
    this.vhosts = (await get("/vhosts?columns=name")).map(({ name }) => name);
  }

  get path() {
    return this.vhost === "" ? "/definitions" : `/definitions/${q(this.vhost)}`;
  }

  async download() {
    const text = JSON.stringify(await get(this.path), null, 2);
    const url = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    const name = this.vhost === "" ? "definitions" : `definitions-${this.vhost.replace(/\W+/g, "_")}`;
    h("a", { href: url, download: `${name}.json` }).click();
    URL.revokeObjectURL(url);
  }

  async upload(event) {
    event.preventDefault();
    const [file] = event.currentTarget.elements.file.files;
    try {
      await post(this.path, JSON.parse(await file.text()));
      toast(`${file.name} was imported`);
    } catch (error) {
      toast(error.message, "bad");
    }
  }

  view(refresh) {
    const choose = (event) => {
      this.vhost = event.target.value;
      refresh();
    };
    return [
      h("h1", {}, "Definitions"),
      h("p", {}, "Users, vhosts, permissions, parameters, policies, queues, exchanges and bindings, in the form of RabbitMQ: ",
        "what one has exported, the other imports."),
      h("form", { class: "line", onsubmit: (event) => event.preventDefault() },
        h("label", {}, "Of", h("select", { onchange: choose }, h("option", { value: "" }, "everything"),
          this.vhosts.map((name) => h("option", { value: name, selected: name === this.vhost }, `vhost ${name}`))))),
      h("div", { class: "two" },
        h("section", {}, h("h2", {}, "Export"), h("p", {}, "With the hashes of passwords, so keep it where nobody finds it."),
          h("button", { class: "main", onclick: () => this.download().catch((error) => toast(error.message, "bad")) }, "Download")),
        h("section", {}, h("h2", {}, "Import"), h("p", {}, "What is there stays; what the file has too is brought up to date."),
          h("form", { class: "grid", onsubmit: (event) => this.upload(event) },
            h("label", {}, "File", h("input", { type: "file", name: "file", accept: "application/json,.json", required: true })),
            h("div", {}, h("button", { class: "main" }, "Import"))))),
    ];
  }
}
