// Elements, made and kept. All text goes in as text, never as markup.

/** Make an element: `make("td", {class: "number"}, "text", child, …)`. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) set(element, name, value);
  element.append(...children);
  return element;
}

/** Set an attribute, or take it away with null, only where that changes something. */
export function set(element, name, value) {
  if (value === null || value === undefined) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}

/** Set an element's text, only where that changes something: a reader may have it selected. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * Let `parent` show `items`: one child each, kept by its key, so that focus and selection survive an update.
 * `build(item)` returns an element with a method `show(item)`.
 */
export function list(parent, items, keyOf, build) {
  const kept = new Map([...parent.children].map((child) => [child.key, child]));
  let before = null;
  for (const item of items) {
    const key = keyOf(item);
    let child = kept.get(key);
    kept.delete(key);
    if (!child) {
      child = build(item);
      child.key = key;
    }
    child.show(item);
    const place = before ? before.nextSibling : parent.firstChild;
    if (place !== child) parent.insertBefore(child, place);
    before = child;
  }
  for (const child of kept.values()) child.remove();
}

/** A table row of cells: `[[label, class], …]`, and `show(item)` fills them by `read(item)`, one text or node each. */
export function row(columns, read) {
  const cells = columns.map(([label, kind]) => make("td", { role: "cell", "data-label": label, class: kind ?? null }));
  const element = make("tr", { role: "row" }, ...cells);
  element.show = (item) =>
    read(item).forEach((content, index) => {
      const cell = cells[index];
      if (content instanceof Node) {
        if (cell.firstChild !== content) cell.replaceChildren(content);
      } else say(cell, content);
    });
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

/** A small graph of the last values; `show(values)` draws them, the latest at the right. */
export function graph(points) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "graph");
  svg.setAttribute("viewBox", `0 0 ${points - 1} 100`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true"); // the number beside it says the same
  const [area, curve] = ["area", "curve"].map((name) => {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("class", name);
    return svg.appendChild(path);
  });
  svg.show = (values) => {
    const top = Math.max(1, ...values) * 1.1;
    const from = points - values.length;
    const corners = values.map((value, index) => `${from + index},${(98 - (96 * value) / top).toFixed(1)}`);
    curve.setAttribute("d", corners.length > 1 ? `M${corners.join("L")}` : "");
    area.setAttribute("d", corners.length > 1 ? `M${from},100L${corners.join("L")}L${points - 1},100Z` : "");
  };
  return svg;
}

export const text = {
  /** Seconds, as short as they are still worth something. */
  seconds(value) {
    if (value === null || value === undefined) return "–";
    if (value < 0.9995) return `${Math.round(value * 1000)} ms`;
    if (value < 60) return `${value.toFixed(1)} s`;
    const [minutes, hours, days] = [value / 60, value / 3600, value / 86400].map(Math.floor);
    if (minutes < 60) return `${minutes} m ${Math.floor(value % 60)} s`;
    return hours < 48 ? `${hours} h ${minutes % 60} m` : `${days} days`;
  },
  bytes(value) {
    for (const [unit, size] of [["GiB", 2 ** 30], ["MiB", 2 ** 20], ["KiB", 2 ** 10]])
      if (value >= size) return `${(value / size).toFixed(1)} ${unit}`;
    return `${value} B`;
  },
  number: (value) => (value === null || value === undefined ? "–" : value.toLocaleString("en")),
  rate: (value) => (value === null || value === undefined ? "–" : value.toFixed(1)),
  clock: (stamp) => new Date(stamp).toLocaleTimeString([], { hour12: false }),
};
