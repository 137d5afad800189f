"use strict";
// Draws the curves from the figure beside this script, and makes the trade table sortable.

(function drawCurves() {
  const figure = JSON.parse(document.getElementById("figure").textContent);
  const layout = figure.layout;
  if (window.matchMedia("(pointer: coarse), (max-width: 640px)").matches) {
    layout.dragmode = false; // a finger scrolls the page
    layout.showlegend = false; // the caption says it all
    layout.height = 520;
  }
  const options = {
    responsive: true,
    displaylogo: false,
    displayModeBar: false,
    doubleClick: "reset",
  };
  Plotly.newPlot("curves", figure.data, layout, options);
})();

(function makeSortable() {
  const table = document.getElementById("trade-table");
  if (!table) return;
  const body = table.tBodies[0];
  const headings = Array.from(table.tHead.rows[0].cells);
  const comparisons = {
    number: (a, b) => Number(a) - Number(b),
    text: (a, b) => (a < b ? -1 : a > b ? 1 : 0),
  };
  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = heading.textContent;
    heading.replaceChildren(button);
    button.addEventListener("click", () => {
      const isRising = heading.getAttribute("aria-sort") !== "ascending";
      const compare = comparisons[heading.dataset.kind];
      const key = (row) => row.cells[column].dataset.key;
      const rows = Array.from(body.rows);
      rows.sort((a, b) => (isRising ? 1 : -1) * compare(key(a), key(b)));
      headings.forEach((each) => each.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", isRising ? "ascending" : "descending");
      body.replaceChildren(...rows);
    });
  });
})();
