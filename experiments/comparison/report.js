"use strict";

// A cell with a number begins with it; what follows, such as an interval, does not count.
function valueOf(row, column) {
  const text = row.cells[column].textContent.trim();
  const number = parseFloat(text.replaceAll(",", ""));
  return Number.isNaN(number) ? text : number;
}

// Numbers come first, then words, and empty cells last in either order.
function compare(a, b, sign) {
  if (a === "" || b === "") return (a === "") - (b === "");
  if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
  return sign * (typeof a === "number" ? a - b : a.localeCompare(b));
}

function sortBy(heading) {
  const table = heading.closest("table");
  const body = table.tBodies[0];
  const order = heading.ariaSort === "ascending" ? "descending" : "ascending";
  for (const other of table.tHead.rows[0].cells) other.ariaSort = null;
  heading.ariaSort = order;
  const sign = order === "ascending" ? 1 : -1;
  const column = heading.cellIndex;
  const rows = [...body.rows];
  rows.sort((one, other) => compare(valueOf(one, column), valueOf(other, column), sign));
  body.append(...rows);
}

function filter(word) {
  let count = 0;
  for (const details of document.querySelectorAll("details.design")) {
    let found = 0;
    for (const row of details.querySelectorAll(".examples tbody tr")) {
      row.hidden = !row.textContent.toLowerCase().includes(word);
      found += !row.hidden;
    }
    details.hidden = word !== "" && found === 0;
    details.open = word !== "" && found > 0;
    count += found;
  }
  document.querySelector("output").textContent = word === "" ? "" : `${count} found`;
}

// A link to a folded part opens it.
function openTarget() {
  const target = document.getElementById(location.hash.slice(1));
  const details = target?.closest("details");
  if (!details) return;
  details.open = true;
  details.scrollIntoView();
  details.querySelector("summary").focus({ preventScroll: true });
}

for (const button of document.querySelectorAll(".sortable thead button")) {
  button.addEventListener("click", () => sortBy(button.closest("th")));
}
document.querySelector("#search")?.addEventListener("input", (event) => {
  filter(event.target.value.trim().toLowerCase());
});
addEventListener("hashchange", openTarget);
openTarget();
