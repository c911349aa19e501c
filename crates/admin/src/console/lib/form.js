// Forms, and questions before something cannot be undone.

import { h, toast } from "./dom.js";

/** A form whose fields are `{name, label, type, value, options, required, hint}`; `send` gets their values. */
export function form(title, fields, send, { button = title, kind = "grid", done = "Done" } = {}) {
  const submit = async (event) => {
    event.preventDefault();
    const target = event.currentTarget;
    const values = {};
    for (const { name, type } of fields) {
      const input = target.elements[name];
      values[name] = type === "checkbox" ? input.checked : input.value;
    }
    try {
      const said = await send(values);
      toast(typeof said === "string" ? said : done);
      target.closest("dialog")?.close();
      window.dispatchEvent(new Event("changed"));
    } catch (error) {
      toast(error.message, "bad");
    }
  };
  return h("form", { class: kind, onsubmit: submit, "aria-label": title }, fields.map(field),
    h("div", {}, h("button", { class: "main", type: "submit" }, button)));
}

function field({ name, label, type = "text", value, options, required, hint, ...more }) {
  const common = { name, required, ...more };
  let input;
  if (options) {
    input = h("select", common, options.map((option) => h("option", { value: option, selected: option === value }, option)));
  } else if (type === "textarea") {
    input = h("textarea", common, value ?? "");
  } else {
    input = h("input", { type, value, checked: type === "checkbox" && value, ...common });
  }
  const text = hint ? `${label} (${hint})` : label;
  return type === "checkbox" ? h("label", { class: "check" }, input, text) : h("label", {}, text, input);
}

/** A button that opens a dialog with something in it. */
export function opener(label, content, attributes = {}) {
  const open = (event) => event.currentTarget.nextElementSibling.showModal();
  const close = (event) => event.currentTarget.closest("dialog").close();
  return h("span", { "data-key": `opener ${label}` }, h("button", { ...attributes, onclick: open }, label),
    h("dialog", { "aria-label": label }, h("h2", {}, label), content,
      h("p", {}, h("button", { onclick: close }, "Close"))));
}

/** A button for what cannot be undone: it asks first. */
export function danger(label, question, act, done = "Done") {
  return h("button", { class: "danger", onclick: async () => {
    if (!window.confirm(question)) return;
    try {
      await act();
      toast(done);
      window.dispatchEvent(new Event("changed"));
    } catch (error) {
      toast(error.message, "bad");
    }
  } }, label);
}

/** JSON that somebody typed; nothing is an empty object. */
export function json(text) {
  if (text.trim() === "") return {};
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Error(`This is not JSON: ${error.message}`);
  }
}
