// Text, numbers and small parts of the page.
"use strict";

const make = (tag, text, kind) => {
  const made = document.createElement(tag);
  if (text !== undefined && text !== null) made.textContent = String(text);
  if (kind) made.className = kind;
  return made;
};

const known = (value) => value !== null && value !== undefined && Number.isFinite(value);
const short = (value) => (known(value) ? String(Number(value.toPrecision(4))) : "");
const share = (value) => (known(value) ? value.toFixed(3) : "");

const SYMBOLS = {
  circle: "M11 5m-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0", square: "M7 1h8v8h-8z", diamond: "M11 0l4 5l-4 5l-4 -5z",
  triangle: "M11 0l5 9h-10z", inverted_triangle: "M11 10l-5 -9h10z", hex: "M8.5 1h5l2.5 4l-2.5 4h-5l-2.5 -4z",
  plus: "M11 0v10M6 5h10", x: "M7 1l8 8M15 1l-8 8", star: "M11 0l1.5 3.4l3.5 .4l-2.6 2.4l.7 3.6l-3.1 -1.8l-3.1 1.8l.7 -3.6l-2.6 -2.4l3.5 -.4z",
};

function symbol(one, line = true) {
  const ns = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(ns, "svg");
  svg.setAttribute("width", "22");
  svg.setAttribute("height", "10");
  svg.setAttribute("aria-hidden", "true");
  for (const [d, fill] of [[line ? "M0 5h22" : "", "none"], [SYMBOLS[one.marker] ?? SYMBOLS.circle, one.colour]]) {
    const path = document.createElementNS(ns, "path");
    path.setAttribute("d", d);
    path.setAttribute("stroke", one.colour);
    path.setAttribute("stroke-width", "1.5");
    path.setAttribute("fill", fill);
    svg.append(path);
  }
  return svg;
}

function copyButton(text) {
  const button = make("button", "copy", "copy");
  button.type = "button";
  button.addEventListener("click", () => copy(text, button));
  return button;
}

async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // a page from disk may not have the clipboard
    const area = make("textarea", text);
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  button.textContent = "copied";
  setTimeout(() => { button.textContent = "copy"; }, 1500);
}

// what is not known stands last either way
function compare(a, b, down) {
  const missing = (value) => value === null || value === undefined || value === "";
  if (missing(a) || missing(b)) return missing(a) - missing(b);
  const order = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
  return down ? -order : order;
}

function heading(title, down, kind, sort) {
  const cell = make("th", null, kind === "reason" ? "text" : kind), button = make("button", title);
  cell.scope = "col";
  button.type = "button";
  if (down !== null) cell.setAttribute("aria-sort", down ? "descending" : "ascending");
  button.addEventListener("click", sort);
  cell.append(button);
  return cell;
}
