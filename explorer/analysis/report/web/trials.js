// The table of trials of a group.
"use strict";

const SHOWN = 30;

const TRIALS = {
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
  },

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
  },
};
