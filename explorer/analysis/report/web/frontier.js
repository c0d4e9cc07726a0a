// The frontier of a group: points, stairs and axes as they are chosen, and the best within a budget.
"use strict";

const FRONTIER = {
  value(i) { return this.points[this.cost.key][i]; },

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
  },

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
  },

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
  },

  source(name) { return this.bokeh.get_model_by_name(name); },

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
  },

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
  },

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
  },

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
  },

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
  },

  mark() {
    const i = this.chosen;
    const there = i !== null && known(this.value(i)) && known(this.points.error[i]);
    this.source("chosen").data = there
      ? { x: [this.value(i) * this.cost.scale], y: [this.points.error[i] * this.data.error.scale] } : { x: [], y: [] };
    this.markRow();
  },

  markRow() {
    this.find(".trials tbody tr.chosen")?.classList.remove("chosen");
    this.find(`.trials tbody tr[data-i="${this.chosen}"]`)?.classList.add("chosen");
  },

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
  },
};
