// A group: runs whose errors compare. Its parts are in files of their own.
"use strict";

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
}

Object.assign(Group.prototype, FRONTIER, PANEL, TRIALS);
