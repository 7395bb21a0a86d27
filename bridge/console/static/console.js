// Line numbers beside the source, marked where something is wrong; a press on a problem leads to its place.
"use strict";
(() => {
  const source = document.getElementById("source"), gutter = document.getElementById("gutter");
  if (!source || !gutter) return;

  function number() {
    const wrong = new Map();
    for (const each of document.querySelectorAll("#problems [data-line]")) {
      const line = Number(each.dataset.line);
      if (wrong.get(line) !== "error") wrong.set(line, each.className);
    }
    const rows = source.value.split("\n").map((_, index) => {
      const row = document.createElement("span");
      row.textContent = `${index + 1}\n`;
      row.className = wrong.get(index + 1) || "";
      return row;
    });
    gutter.replaceChildren(...rows);
    gutter.scrollTop = source.scrollTop;
  }

  function lead(problem) {
    const lines = source.value.split("\n"), line = Number(problem.dataset.line) - 1;
    const start = lines.slice(0, line).reduce((sum, each) => sum + each.length + 1, 0);
    const at = start + Math.min(Number(problem.dataset.column) - 1, (lines[line] || "").length);
    source.focus();
    source.setSelectionRange(at, start + (lines[line] || "").length);
    source.scrollTop = Math.max(0, (source.scrollHeight / lines.length) * line - source.clientHeight / 2);
  }

  source.addEventListener("input", number);
  source.addEventListener("scroll", () => { gutter.scrollTop = source.scrollTop; });
  document.addEventListener("htmx:oobAfterSwap", number);
  document.addEventListener("htmx:afterSettle", number);
  for (const kind of ["click", "keydown"]) {
    document.addEventListener(kind, (event) => {
      const problem = event.target.closest("#problems [data-line]");
      if (problem && (kind === "click" || event.key === "Enter")) { event.preventDefault(); lead(problem); }
    });
  }
  number();
})();
