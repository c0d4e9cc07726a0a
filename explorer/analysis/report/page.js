"use strict";
// names and reasons come from files of others: they are put into the page as text, never as markup
(async () => {
  const DATA = JSON.parse(document.getElementById("data").textContent);
  const darkness = matchMedia("(prefers-color-scheme: dark)");
  const documents = [];
  const SHOWN = 30;

  const make = (tag, text, kind) => {
    const made = document.createElement(tag);
    if (text !== undefined && text !== null) made.textContent = String(text);
    if (kind) made.className = kind;
    return made;
  };

  // ---- figures

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

  // ---- numbers

  const known = (value) => value !== null && value !== undefined && Number.isFinite(value);
  const short = (value) => (known(value) ? String(Number(value.toPrecision(4))) : "");
  const share = (value) => (known(value) ? value.toFixed(3) : "");

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

  // ---- a group of runs that compare

  class Group {
    constructor(section, data) {
      this.section = section;
      this.data = data;
      this.points = data.points;
      this.count = this.points.trial.length;
      this.cost = data.costs[0];
      this.logX = false;
      this.logY = false;
      this.hidden = new Set();
      this.chosen = null;
      this.sorted = { key: "trial", down: false };
      this.all = false;
      this.onlyFailed = false;
      // points by series and run whose errors compare
      this.members = data.series.map(() => []);
      data.runs.forEach((run, r) => this.members[run.series].push({ run: r, points: [] }));
      const home = new Map(this.members.flat().map((member) => [member.run, member]));
      for (let i = 0; i < this.count; i++) {
        if (this.points.top[i] && known(this.points.error[i])) home.get(this.points.run[i]).points.push(i);
      }
    }

    find(selector) { return this.section.querySelector(selector); }

    error(value) {
      const scaled = value * this.data.error.scale;
      return this.data.error.scale === 100 ? scaled.toFixed(2) : short(scaled);
    }

    // "12.34 ± 1.00", both in the unit of the axis
    errorOf(error, se) {
      return known(error) ? this.error(error) + (known(se) ? ` ± ${this.error(se)}` : "") : "";
    }

    costOf(cost, value) { return known(value) ? short(value * cost.scale) : ""; }

    // "0.837 M"
    amount(cost, value) { return known(value) ? `${this.costOf(cost, value)} ${cost.unit}` : ""; }

    nameOf(run) {
      const { series, seed } = this.data.runs[run];
      const several = this.data.runs.length > 1;
      return several ? `${this.data.series[series].name}, seed ${seed}` : this.data.series[series].name;
    }

    async begin() {
      this.fillLegends();
      this.find(".cost").addEventListener("change", (event) => {
        this.cost = this.data.costs.find((cost) => cost.key === event.target.value);
        this.redraw();
      });
      this.find(".log-x").addEventListener("change", (event) => { this.logX = event.target.checked; this.redraw(); });
      this.find(".log-y").addEventListener("change", (event) => { this.logY = event.target.checked; this.redraw(); });
      this.find(".slider").addEventListener("input", () => this.budget(true));
      this.find(".only-failed").addEventListener("change", (event) => {
        this.onlyFailed = event.target.checked;
        this.fillTrials();
      });
      this.find(".more").addEventListener("click", () => { this.all = true; this.fillTrials(); });
      this.fillTrials();
      for (const place of this.section.querySelectorAll(".pair:not(.detail .pair) > .card > .figure")) {
        later(place, this.data.figures[place.dataset.figure]);
      }
      this.details();
      this.bokeh = await draw(this.find('[data-figure="frontier"]'), this.data.figures.frontier);
      this.figure = this.bokeh.get_model_by_name("frontier");
      this.figure.height = innerWidth < 600 ? 360 : 540;
      this.listen();
      this.redraw();
      this.budget(true);
    }

    fillLegends() {
      for (const list of this.section.querySelectorAll("ul.legend")) {
        const toggles = list.classList.contains("toggles");
        this.data.series.forEach((one, s) => {
          const item = make("li");
          if (toggles && this.data.series.length > 1) {
            const button = make("button");
            button.type = "button";
            button.setAttribute("aria-pressed", "true");
            button.append(symbol(one), one.name);
            button.addEventListener("click", () => {
              this.hidden.has(s) ? this.hidden.delete(s) : this.hidden.add(s);
              button.setAttribute("aria-pressed", String(!this.hidden.has(s)));
              this.redraw();
            });
            item.append(button);
          } else {
            item.append(symbol(one), one.name);
          }
          list.append(item);
        });
        if (toggles) {
          const star = { marker: "star", colour: "#888888" };
          const item = make("li");
          item.append(symbol(star, false), "dense network");
          list.append(item);
          if (this.data.baselines.length) {
            const other = make("li");
            other.append(symbol({ marker: "diamond", colour: "#CC79A7" }, false), "baselines");
            list.append(other);
          }
        }
      }
    }

    details() {
      const parts = [...this.section.querySelectorAll(".detail")];
      const show = (which) => {
        parts.forEach((part, d) => {
          part.hidden = d !== which;
          if (d !== which || part.dataset.drawn) return;
          part.dataset.drawn = "1";
          for (const place of part.querySelectorAll(".figure")) {
            later(place, this.data.details[d][place.dataset.figure]);
          }
        });
      };
      this.find(".which")?.addEventListener("change", (event) => show(Number(event.target.value)));
      show(0);
    }

    // ---- the frontier

    value(i) { return this.points[this.cost.key][i]; }

    // points of which no other has both less cost and less error, by cost
    stair(members) {
      const ordered = members.filter((i) => known(this.value(i))).sort(
        (a, b) => this.value(a) - this.value(b) || this.points.error[a] - this.points.error[b]);
      const best = [];
      let least = Infinity;
      for (const i of ordered) {
        if (this.points.error[i] < least) { least = this.points.error[i]; best.push(i); }
      }
      return best;
    }

    columns(members) {
      const scale = this.data.error.scale;
      const shown = members.filter((i) => known(this.value(i)) && (!this.logY || this.points.error[i] > 0)
        && (!this.logX || this.value(i) > 0));
      const p = this.points;
      return {
        x: shown.map((i) => this.value(i) * this.cost.scale),
        y: shown.map((i) => p.error[i] * scale),
        low: shown.map((i) => Math.max((p.error[i] - (p.error_se[i] ?? 0)) * scale, this.logY ? p.error[i] * scale * 0.02 : -Infinity)),
        high: shown.map((i) => (p.error[i] + (p.error_se[i] ?? 0)) * scale),
        i: shown,
        name: shown.map((i) => `trial ${p.trial[i]}, ${this.nameOf(p.run[i])}`),
        error: shown.map((i) => this.errorOf(p.error[i], p.error_se[i])),
        ...this.costColumns(shown.map((i) => (key) => p[key]?.[i])),
      };
    }

    costColumns(rows) {
      const text = (key) => rows.map((of) => {
        const cost = this.data.costs.find((one) => one.key === key);
        const ratio = of(`${key}_ratio`);
        return this.amount(cost, of(key)) + (known(ratio) ? ` (${share(ratio)} of dense)` : "");
      });
      const latency = this.data.costs.find((one) => one.key === "latency_ms");
      return {
        flops: text("flops"), params: text("params"),
        latency: rows.map((of) => (latency && known(of("latency_ms")) ? `${short(of("latency_ms"))} ms` : "not measured")),
      };
    }

    source(name) { return this.bokeh.get_model_by_name(name); }

    redraw() {
      const scale = this.data.error.scale;
      this.setAxes();
      this.members.forEach((members, s) => {
        const line = { x: [], y: [] };
        let front = [], cloud = [];
        for (const member of this.hidden.has(s) ? [] : members) {
          const best = this.stair(member.points);
          const on = new Set(best);
          front.push(...best);
          cloud.push(...member.points.filter((i) => !on.has(i)));
          best.filter((i) => !this.logY || this.points.error[i] > 0).forEach((i, n, all) => {
            const x = this.value(i) * this.cost.scale, y = this.points.error[i] * scale;
            if (n) { line.x.push(x); line.y.push(this.points.error[all[n - 1]] * scale); }
            line.x.push(x);
            line.y.push(y);
          });
          line.x.push(NaN);
          line.y.push(NaN);
        }
        this.source(`front-${s}`).data = this.columns(front);
        this.source(`cloud-${s}`).data = this.columns(cloud);
        const blank = line.x.map(() => "");
        this.source(`line-${s}`).data = {
          ...line, low: line.y, high: line.y, i: line.x.map(() => -1),
          name: blank, error: blank, flops: blank, params: blank, latency: blank,
        };
      });
      this.fixedPoints("dense", this.data.runs.map((run, r) => ({ ...run.dense, run: r, name: "dense network", flops_ratio: 1, params_ratio: 1 })));
      this.fixedPoints("baselines", this.data.baselines);
      this.frame();
      this.mark();
      this.budget(false);
    }

    // ranges around what is shown; axes without logarithms begin at 0 where nothing is below
    frame() {
      const parts = ["dense", "baselines", ...this.members.flatMap((_, s) => [`front-${s}`, `cloud-${s}`])];
      for (const [axis, log] of [["x", this.logX], ["y", this.logY]]) {
        let low = Infinity, high = -Infinity;
        for (const part of parts) {
          for (const value of this.source(part).data[axis]) { low = Math.min(low, value); high = Math.max(high, value); }
        }
        if (!Number.isFinite(low)) continue;
        if (low === high) { low -= Math.abs(low) / 2 || 1; high += Math.abs(high) / 2 || 1; }
        let start, end;
        if (log && low > 0) {
          const pad = (high / low) ** 0.05;
          [start, end] = [low / pad, high * pad];
          this.bokeh.get_model_by_name(`${axis}-log`).ticker.ticks = logTicks(start, end);
        } else {
          if (low > 0) low = 0;
          [start, end] = [low - 0.03 * (high - low), high + 0.05 * (high - low)];
        }
        this.figure[`${axis}_range`].setv({ start, end, reset_start: start, reset_end: end });
      }
    }

    fixedPoints(name, rows) {
      const scale = this.data.error.scale;
      const shown = rows.filter((row) => known(row[this.cost.key]) && known(row.error) && (!this.logY || row.error > 0)
        && !this.hidden.has(this.data.runs[row.run].series));
      this.source(name).data = {
        x: shown.map((row) => row[this.cost.key] * this.cost.scale),
        y: shown.map((row) => row.error * scale), low: shown.map(() => NaN), high: shown.map(() => NaN),
        i: shown.map(() => -1), name: shown.map((row) => row.name),
        error: shown.map((row) => this.errorOf(row.error, row.error_se)),
        ...this.costColumns(shown.map((row) => (key) => row[key])),
      };
    }

    setAxes() {
      const named = (name) => this.bokeh.get_model_by_name(name);
      const Scale = (log) => new (Bokeh.Models.get(log ? "LogScale" : "LinearScale"))();
      for (const [axis, log, label] of [["x", this.logX, this.cost.label], ["y", this.logY, this.data.error.label]]) {
        const [linear, logarithmic] = [named(`${axis}-linear`), named(`${axis}-log`)];
        linear.setv({ visible: !log, axis_label: label });
        logarithmic.setv({ visible: log, axis_label: label });
        named(`${axis}-grid`).axis = log ? logarithmic : linear;
        if ((this.figure[`${axis}_scale`].type === "LogScale") !== log) this.figure[`${axis}_scale`] = Scale(log);
      }
    }

    listen() {
      for (const [kind, list] of [["front", this.members], ["cloud", this.members]]) {
        list.forEach((_, s) => {
          const source = this.source(`${kind}-${s}`);
          source.selected.properties.indices.change.connect(() => {
            const [index] = source.selected.indices;
            if (index === undefined) return;
            this.choose(source.data.i[index]);
          });
        });
      }
    }

    mark() {
      const i = this.chosen;
      const there = i !== null && known(this.value(i)) && known(this.points.error[i]);
      this.source("chosen").data = there
        ? { x: [this.value(i) * this.cost.scale], y: [this.points.error[i] * this.data.error.scale] } : { x: [], y: [] };
      this.markRow();
    }

    markRow() {
      this.find(".trials tbody tr.chosen")?.classList.remove("chosen");
      this.find(`.trials tbody tr[data-i="${this.chosen}"]`)?.classList.add("chosen");
    }

    // ---- the budget

    budget(moved) {
      const shown = this.members.flatMap((members, s) => (this.hidden.has(s) ? [] : members.flatMap((m) => m.points)));
      const values = shown.map((i) => this.value(i)).filter(known);
      const [best, table] = [this.find(".best"), this.find(".best-table")];
      table.replaceChildren();
      if (!values.length) {
        best.textContent = "No sub-network has this cost measured.";
        return;
      }
      let least = Infinity, most = this.cost.dense ?? 0;
      for (const value of values) { least = Math.min(least, value); most = Math.max(most, value); }
      const t = Number(this.find(".slider").value) / 1000;
      const limit = this.logX && least > 0 ? least * (most / least) ** t : least + (most - least) * t;
      const relative = this.cost.dense ? ` (${share(limit / this.cost.dense)} of dense)` : "";
      const text = `${this.cost.name} ${this.amount(this.cost, limit)}${relative}`;
      this.find(".budget-value").textContent = text;
      this.find(".slider").setAttribute("aria-valuetext", text);
      this.source("budget").setv({ location: limit * this.cost.scale, visible: true });
      // a hair wider, for rounding in both
      const inside = (members) => this.stair(members).filter((i) => this.value(i) <= limit * (1 + 1e-9)).at(-1);
      const winner = inside(shown);
      const ratio = this.points[`${this.cost.key}_ratio`];
      best.textContent = winner === undefined ? "No sub-network is within it." : `Best within it: trial ${this.points.trial[winner]} of ${
        this.nameOf(this.points.run[winner])}, error ${this.errorOf(this.points.error[winner], this.points.error_se[winner])}`
        + ` at ${this.amount(this.cost, this.value(winner))}${ratio ? ` (${share(ratio[winner])} of dense)` : ""}`;
      if (this.data.series.length > 1) {
        const head = make("tr");
        for (const name of ["series", "trial", this.data.error.label, this.cost.label]) head.append(make("th", name));
        table.append(head);
        this.members.forEach((members, s) => {
          if (this.hidden.has(s)) return;
          const mine = inside(members.flatMap((m) => m.points));
          const row = make("tr");
          const cells = mine === undefined ? ["none within it", "", ""]
            : [this.points.trial[mine], this.errorOf(this.points.error[mine], this.points.error_se[mine]), this.costOf(this.cost, this.value(mine))];
          row.append(make("td", this.data.series[s].name, "text"), ...cells.map((cell) => make("td", cell)));
          table.append(row);
        });
      }
      if (moved && winner !== undefined) this.choose(winner);
    }

    // ---- one sub-network

    choose(i) {
      this.chosen = i;
      const [p, run] = [this.points, this.data.runs[this.points.run[i]]];
      const panel = this.find(".panel");
      const facts = make("table", null, "facts"), body = make("tbody");
      const fact = (name, value, ...beside) => {
        if (value === "" || value === null || value === undefined) return;
        const row = make("tr"), head = make("th", name), cell = make("td", value);
        head.scope = "row";
        for (const text of beside.filter(Boolean)) cell.append(" ", make("span", text, "muted"));
        row.append(head, cell);
        body.append(row);
      };
      const dense = known(run.dense.error) ? `(dense ${this.errorOf(run.dense.error, run.dense.error_se)})` : "";
      fact(this.data.error.label, this.errorOf(p.error[i], p.error_se[i]), dense);
      if (known(p.error_se[i]) && known(p.error[i])) {
        const [low, high] = [p.error[i] - 1.96 * p.error_se[i], p.error[i] + 1.96 * p.error_se[i]];
        fact("95 % interval", `${this.error(this.data.error.scale === 100 ? Math.max(0, low) : low)} to ${this.error(high)}`);
      }
      for (const cost of this.data.costs) {
        const value = p[cost.key][i], ratio = known(value) && known(run.dense[cost.key]) ? value / run.dense[cost.key] : null;
        const [q1, q3] = [p[`${cost.key}_q1`]?.[i], p[`${cost.key}_q3`]?.[i]];
        const spread = known(value) && known(q1) && known(q3) ? `quartiles ${short(q1)} to ${short(q3)}` : "";
        fact(cost.name, this.amount(cost, value), known(ratio) ? `(${share(ratio)} of dense)` : "", spread);
      }
      fact("granularity", p.granularity[i]);
      fact("state", p.state[i] === "COMPLETE" ? "" : p.state[i]);
      fact("reason", p.reason[i]);
      facts.append(body);
      panel.replaceChildren(make("p", `Trial ${p.trial[i]}, ${this.nameOf(p.run[i])}`, "title"), facts);
      this.layers(panel, run, p.row[i]);
      const recipe = run.recipes[p.row[i]];
      if (recipe) {
        const head = make("h4", "Recipe ");
        head.append(copyButton(recipe));
        panel.append(head, make("pre", recipe, "recipe"));
        const file = run.files[p.trial[i]];
        const command = run.export + (file ?? "FILE");
        const line = make("p", null, "copied");
        line.append(make("code", command, "export"), " ", copyButton(command));
        panel.append(make("h4", "Export"));
        if (!file) panel.append(make("p", "It is not on the frontier of its run: save the recipe as FILE first.", "muted"));
        panel.append(line);
      }
      this.mark();
    }

    layers(panel, run, row) {
      const kept = run.kept[row];
      if (!kept) return;
      const list = make("div", null, "layers");
      run.layers.forEach((layer, n) => {
        const pattern = run.patterns[layer.name];
        const choice = pattern ? pattern.chosen[row] : 0;
        const named = pattern && kept[n] > 0 ? pattern.names[choice] : "";
        const line = make("div", null, "layer"), bar = make("div", null, "bar"), fill = make("div", null, named ? "fill pattern" : "fill");
        fill.style.width = `${(100 * kept[n]) / layer.dense}%`;
        bar.append(fill);
        const note = kept[n] === 0 ? "dropped" : `${kept[n]} of ${layer.dense}${named ? `, ${named}` : ""}`;
        line.append(make("span", layer.name), bar, make("span", note, "note"));
        list.append(line);
      });
      panel.append(make("h4", "Outputs kept, layer by layer"), list);
    }

    // ---- the table of trials

    tableColumns() {
      const p = this.points, several = this.data.runs.length > 1;
      const number = (key, title, show) => ({ key, title, of: (i) => p[key]?.[i] ?? null, show: (i) => (known(p[key]?.[i]) ? show(p[key][i]) : "") });
      const text = (key, title, of = (i) => p[key][i]) => ({ key, title, of, show: of, kind: "text" });
      const costs = this.data.costs.flatMap((cost) => [
        number(cost.key, cost.label, (value) => this.costOf(cost, value)),
        ...(p[`${cost.key}_ratio`] ? [number(`${cost.key}_ratio`, "of dense", share)] : []),
      ]);
      const rungs = p.rung.some((rung) => rung > 0) ? [number("rung", "rung", String)] : [];
      return [
        ...(several ? [text("run", "run", (i) => this.nameOf(p.run[i]))] : []),
        number("trial", "trial", String), text("state", "state", (i) => p.state[i].toLowerCase()), text("source", "source"), ...rungs,
        number("error", this.data.error.label, (value) => this.error(value)),
        number("error_se", "± s.e.", (value) => this.error(value)),
        ...costs, text("granularity", "granularity"), number("seconds", "seconds", (value) => value.toFixed(2)),
        { ...text("reason", "reason"), kind: "reason" },
      ];
    }

    fillTrials() {
      const columns = this.tableColumns(), { key, down } = this.sorted;
      const column = columns.find((one) => one.key === key) ?? columns[0];
      const rows = [...Array(this.count).keys()].filter((i) => !this.onlyFailed || this.points.state[i] !== "COMPLETE");
      rows.sort((a, b) => compare(column.of(a), column.of(b), down) || a - b);
      const head = make("tr");
      for (const one of columns) head.append(heading(one.title, one.key === key ? down : null, one.kind, () => {
        this.sorted = { key: one.key, down: one.key === key ? !down : false };
        this.fillTrials();
        this.find(".trials thead th[aria-sort] button")?.focus();
      }));
      this.find(".trials thead").replaceChildren(head);
      const shown = this.all ? rows : rows.slice(0, SHOWN);
      this.find(".trials tbody").replaceChildren(...shown.map((i) => {
        const row = make("tr", null, this.points.state[i] === "COMPLETE" ? "" : "failed");
        row.dataset.i = i;
        row.append(...columns.map((one) => make("td", one.show(i), one.kind)));
        row.addEventListener("click", () => this.choose(i));
        return row;
      }));
      const more = this.find(".more");
      more.hidden = shown.length === rows.length;
      more.textContent = `show all ${rows.length}`;
      this.markRow();
    }
  }

  // ---- tables

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

  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
    const number = (text) => (/^[-+]?[\d.,]+/.test(text) ? parseFloat(text.replace(/,/g, "")) : text);
    heads.forEach((head, place) => head.querySelector("button").addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...body.rows];
      rows.sort((a, b) => compare(number(a.cells[place].textContent.trim()), number(b.cells[place].textContent.trim()), down));
      body.append(...rows);
    }));
  }

  for (const button of document.querySelectorAll("#made .copy")) {
    button.addEventListener("click", () => copy(button.parentElement.querySelector("code").textContent, button));
  }

  for (const section of document.querySelectorAll(".population")) {
    const figures = DATA.populations[Number(section.dataset.population)];
    for (const place of section.querySelectorAll(".figure")) later(place, figures[place.dataset.figure]);
  }
  for (const section of document.querySelectorAll(".group")) {
    await new Group(section, DATA.groups[Number(section.dataset.group)]).begin();
  }
  document.body.dataset.ready = "1";
})();
