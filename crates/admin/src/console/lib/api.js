// The management API, in the name of whoever has logged in.

const PLACE = "roadstead-login";

/** Somebody has to log in first. */
export class LoginNeeded extends Error {}

/** The API said no. */
export class Refused extends Error {
  constructor(status, reason) {
    super(reason);
    this.status = status;
  }
}

export const q = encodeURIComponent;

export function isLoggedIn() {
  return sessionStorage.getItem(PLACE) !== null;
}

/** Remembers a login for as long as the tab is open, if it is one. */
export async function logIn(user, password) {
  const text = new TextEncoder().encode(`${user}:${password}`);
  sessionStorage.setItem(PLACE, `Basic ${btoa(String.fromCharCode(...text))}`);
  try {
    return await get("/whoami");
  } catch (error) {
    logOut();
    throw error;
  }
}

export function logOut() {
  sessionStorage.removeItem(PLACE);
}

async function call(method, path, body, headers) {
  const authorization = sessionStorage.getItem(PLACE);
  if (!authorization) throw new LoginNeeded("Log in");
  const text = body === undefined ? undefined : JSON.stringify(body);
  const answer = await fetch(`api${path}`, {
    method, body: text, credentials: "omit", headers: { authorization, ...headers },
  });
  const said = await answer.text();
  let json = null;
  try {
    json = said === "" ? null : JSON.parse(said);
  } catch {
    json = { reason: said };
  }
  if (answer.status === 401 && json?.error === "not_authorized") {
    logOut();
    throw new LoginNeeded("The login is no longer good");
  }
  if (!answer.ok) throw new Refused(answer.status, json?.reason ?? `The broker answered ${answer.status}`);
  return json;
}

export const get = (path) => call("GET", path);
export const put = (path, body = {}) => call("PUT", path, body);
export const post = (path, body = {}) => call("POST", path, body);
export const remove = (path, headers) => call("DELETE", path, undefined, headers);
