// The page: every group, every figure of populations, and tables that sort.
"use strict";

// names and reasons come from files of others: they are put into the page as text, never as markup
(async () => {
  const DATA = JSON.parse(document.getElementById("data").textContent);

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
