// Numbers, sizes and times for people.

const grouped = new Intl.NumberFormat("en");

export const count = (number) => number === undefined || number === null ? "–" : grouped.format(number);

export function rate(number) {
  if (number === undefined || number === null) return "–";
  return `${grouped.format(Math.abs(number) < 10 ? Math.round(number * 10) / 10 : Math.round(number))}/s`;
}

export function bytes(number) {
  if (number === undefined || number === null) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (Math.abs(number) >= 1024 && unit < units.length - 1) {
    number /= 1024;
    unit += 1;
  }
  return `${number >= 100 || unit === 0 ? Math.round(number) : Math.round(number * 10) / 10} ${units[unit]}`;
}

export function duration(ms) {
  const seconds = Math.floor(ms / 1000);
  const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const first = parts.findIndex(([size]) => seconds >= size);
  if (first < 0) return "0 s";
  const [size, unit] = parts[first];
  const next = parts[first + 1];
  const rest = next ? Math.floor((seconds % size) / next[0]) : 0;
  return `${Math.floor(seconds / size)} ${unit}${rest ? ` ${rest} ${next[1]}` : ""}`;
}

export const time = (ms) => new Date(ms).toLocaleString();
export const clock = (ms) => new Date(ms).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
