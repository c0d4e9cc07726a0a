// What one sub-network is made of.
"use strict";

const PANEL = {
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
    }
    if (p.state[i] === "COMPLETE") {
      const command = run.export + p.trial[i];
      const line = make("p", null, "copied");
      line.append(make("code", command, "export"), " ", copyButton(command));
      panel.append(make("h4", "Export"), line);
    }
    this.mark();
  },

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
  },
};
