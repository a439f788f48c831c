"use strict";
// Every header of a column becomes a button that sorts: upwards, downwards, then as it came.
const NEXT = { none: "ascending", ascending: "descending", descending: "none" };
const said = document.getElementById("said");

function key(row, column) {
  const cell = row.cells[column];
  if (cell.tagName === "TH" || cell.className === "words") return cell.textContent.trim();
  const number = cell.dataset.key ?? cell.firstChild.data; // as it is written, or what stands there
  return number.trim() === "" || Number.isNaN(Number(number)) ? null : Number(number);
}

function order(rows, column, way) {
  const sign = way === "ascending" ? 1 : -1;
  const keyed = rows.map((row) => [key(row, column), row]);
  keyed.sort(([a], [b]) => {
    if (a === null || b === null) return (a === null) - (b === null); // missing comes last
    if (typeof a === "number") return sign * (a - b);
    return sign * a.localeCompare(b, "en", { numeric: true });
  });
  return keyed.map(([, row]) => row);
}

for (const table of document.querySelectorAll("table")) {
  const [body] = table.tBodies;
  const asItCame = [...body.rows];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const way = NEXT[head.getAttribute("aria-sort") || "none"];
      for (const other of heads) other.removeAttribute("aria-sort");
      if (way !== "none") head.setAttribute("aria-sort", way);
      body.append(...(way === "none" ? asItCame : order(asItCame, column, way)));
      const how = way === "none" ? "in its first order" : `${way} by ${button.textContent}`;
      said.textContent = `${table.caption.textContent}: sorted ${how}`;
    });
  });
}
