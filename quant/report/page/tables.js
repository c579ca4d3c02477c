// Tables sort by their headings; what to type names the folder where this page lies.
for (const head of document.querySelectorAll("th button")) head.addEventListener("click", () => {
  const th = head.parentElement, row = th.parentElement, body = th.closest("table").tBodies[0];
  const column = [...row.children].indexOf(th), up = th.getAttribute("aria-sort") === "descending";
  for (const other of row.children) other.removeAttribute("aria-sort");
  th.setAttribute("aria-sort", up ? "ascending" : "descending");
  const text = tr => tr.cells[column].textContent;
  const number = tr => parseFloat(text(tr).replace(/,/g, "").replace("−", "-").replace("exact", "200"));
  const rows = [...body.rows], numeric = rows.every(tr => !text(tr).trim() || !isNaN(number(tr)));
  rows.sort((a, b) => numeric ? (number(a) || 0) - (number(b) || 0) : text(a).localeCompare(text(b)));
  if (!up) rows.reverse();
  body.append(...rows);
});
if (location.protocol === "file:" && location.pathname.endsWith("/report.html")) {
  const folder = decodeURIComponent(location.pathname).slice(0, -"/report.html".length) || "/";
  const typed = /^[\w@%+=:,./-]+$/.test(folder) ? folder : "'" + folder.replace(/'/g, "'\\''") + "'";
  for (const place of document.querySelectorAll(".folder")) place.textContent = typed;
}
