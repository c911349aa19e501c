// The frame of the console: login, navigation, and the page that the address names, brought up to date now and then.

import { h, patch, toast } from "./lib/dom.js";
import { LoginNeeded, get, isLoggedIn, logIn, logOut } from "./lib/api.js";
import * as overview from "./pages/overview.js";
import * as connections from "./pages/connections.js";
import * as exchanges from "./pages/exchanges.js";
import * as queues from "./pages/queues.js";
import * as policies from "./pages/policies.js";
import * as users from "./pages/users.js";
import * as vhosts from "./pages/vhosts.js";
import * as definitions from "./pages/definitions.js";
import * as mqtt from "./pages/mqtt.js";
import * as log from "./pages/log.js";

const EVERY_MS = 5000;

/** Address, name in the navigation, page. A page is made of what follows in the address, and has `load()` and `view()`. */
const PAGES = [
  ["overview", "Overview", () => new overview.Overview()],
  ["connections", "Connections", (name) => name ? new connections.Connection(name) : new connections.Connections()],
  ["channels", "Channels", (name) => name ? new connections.Channel(name) : new connections.Channels()],
  ["exchanges", "Exchanges", (vhost, name) => name ? new exchanges.Exchange(vhost, name) : new exchanges.Exchanges()],
  ["queues", "Queues", (vhost, name) => name ? new queues.Queue(vhost, name) : new queues.Queues()],
  ["policies", "Policies", () => new policies.Policies()],
  ["users", "Users", (name) => name ? new users.User(name) : new users.Users()],
  ["vhosts", "Vhosts", () => new vhosts.Vhosts()],
  ["definitions", "Definitions", () => new definitions.Definitions()],
  ["mqtt", "MQTT", () => new mqtt.Mqtt()],
  ["log", "Log", () => new log.Log()],
];

const root = document.getElementById("app");
let page = null;
let address = null;
let who = null;
let turn = 0;

function parts() {
  return location.hash.replace(/^#\//, "").split("/").filter((part) => part !== "").map(decodeURIComponent);
}

function choose() {
  const [first, ...rest] = parts();
  const found = PAGES.find(([path]) => path === first) ?? PAGES[0];
  if (address !== location.hash) {
    address = location.hash;
    page = found[2](...rest);
  }
  return found;
}

async function refresh() {
  if (!isLoggedIn()) return showLogin();
  const mine = ++turn;
  const [path] = choose();
  const shown = page;
  try {
    who ??= await get("/whoami");
    await shown.load();
    // Somebody may have gone on while this was loading.
    if (mine !== turn || shown !== page) return undefined;
    show(path, shown.view(refresh));
  } catch (error) {
    if (error instanceof LoginNeeded) return showLogin(error.message);
    if (mine !== turn) return undefined;
    const text = error instanceof TypeError ? "The broker does not answer." : error.message;
    show(path, [h("h1", {}, "This cannot be shown"), h("ul", { class: "notes" }, h("li", { class: "bad", role: "alert" }, text))]);
  }
  return undefined;
}

function show(path, content) {
  const title = PAGES.find(([each]) => each === path)[1];
  document.title = `${title} · Roadstead`;
  patch(root, [
    h("header", {},
      h("strong", {}, "Roadstead"),
      h("nav", { "aria-label": "Pages" }, PAGES.map(([each, label]) =>
        h("a", { href: `#/${each}`, "aria-current": each === path ? "page" : null }, label))),
      h("span", { class: "who" }, who?.name,
        h("button", { onclick: changeTheme, "aria-label": "Light or dark" }, "◐"),
        h("button", { onclick: () => { logOut(); who = null; refresh(); } }, "Log out"))),
    h("main", { id: "main", tabindex: "-1", "data-key": location.hash }, content),
  ]);
}

function showLogin(reason) {
  page = address = null;
  document.title = "Log in · Roadstead";
  const send = async (event) => {
    event.preventDefault();
    const { user, password } = event.currentTarget.elements;
    try {
      who = await logIn(user.value, password.value);
      refresh();
    } catch (error) {
      toast(error instanceof TypeError ? "The broker does not answer." : "User name or password is wrong, or this user has no tag that lets him in.",
        "bad");
    }
  };
  patch(root, [h("main", { id: "main", "data-key": "login" },
    h("section", { class: "login" },
      h("h1", {}, "Roadstead"),
      reason && h("p", { class: "warn", role: "status" }, reason),
      h("form", { class: "grid", onsubmit: send },
        h("label", {}, "User name", h("input", { name: "user", autocomplete: "username", required: true, autofocus: true })),
        h("label", {}, "Password",
          h("input", { name: "password", type: "password", autocomplete: "current-password", required: true })),
        h("div", {}, h("button", { class: "main" }, "Log in")))))]);
}

const THEME = "roadstead-theme";

function changeTheme() {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const now = document.documentElement.dataset.theme ?? (dark ? "dark" : "light");
  document.documentElement.dataset.theme = now === "dark" ? "light" : "dark";
  localStorage.setItem(THEME, document.documentElement.dataset.theme);
}

const theme = localStorage.getItem(THEME);
if (theme) document.documentElement.dataset.theme = theme;

window.addEventListener("hashchange", () => {
  refresh();
  document.getElementById("main")?.focus({ preventScroll: true });
  scrollTo(0, 0);
});
window.addEventListener("changed", refresh);
// Nobody looks at a page that is hidden, and a dialog is somebody's work.
setInterval(() => { if (!document.hidden && !document.querySelector("dialog[open]")) refresh(); }, EVERY_MS);
refresh();
