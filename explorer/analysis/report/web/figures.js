// Figures: drawn when they come near, in the colours of the page's theme.
"use strict";

const darkness = matchMedia("(prefers-color-scheme: dark)");
const documents = [];

function paint(bokeh) {
  const text = darkness.matches ? "#c9d1d9" : "#3d444d";
  const line = darkness.matches ? "#4a525c" : "#b4bcc5";
  for (const model of bokeh.all_models ?? bokeh._all_models.values()) {
    if (model.type === "LinearAxis" || model.type === "LogAxis" || model.type === "CategoricalAxis") {
      model.setv({
        axis_label_text_color: text, major_label_text_color: text, axis_line_color: line,
        major_tick_line_color: line, minor_tick_line_color: null,
      });
    } else if (model.type === "Grid") {
      model.setv({ grid_line_color: line });
    } else if (model.type === "ColorBar") {
      model.setv({ title_text_color: text, major_label_text_color: text, major_tick_line_color: text });
    }
  }
}

async function draw(place, item) {
  const views = await Bokeh.embed.embed_item(item, place.id);
  const bokeh = views.roots[0].model.document;
  documents.push(bokeh);
  paint(bokeh);
  return bokeh;
}

darkness.addEventListener("change", () => documents.forEach(paint));

// far figures are drawn when they come near
const waiting = new Map();
const near = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const item = waiting.get(entry.target);
    if (!entry.isIntersecting || item === undefined) continue;
    waiting.delete(entry.target);
    near.unobserve(entry.target);
    draw(entry.target, item);
  }
}, { rootMargin: "600px" });

function later(place, item) {
  waiting.set(place, item);
  near.observe(place);
}

// as many round numbers as there is room for
function logTicks(start, end) {
  for (const mantissas of [[1], [1, 2, 5], [1, 1.5, 2, 3, 4, 5, 7], [1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9]]) {
    const ticks = [];
    for (let power = Math.floor(Math.log10(start)); power <= Math.ceil(Math.log10(end)); power++) {
      ticks.push(...mantissas.map((m) => Number(`${m}e${power}`)).filter((tick) => tick >= start && tick <= end));
    }
    if (ticks.length >= 4) return ticks;
  }
  return [start, end];
}
