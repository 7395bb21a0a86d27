// Line numbers beside the source; what is wrong is underlined at its place, and a press on a problem leads there.
"use strict";
(() => {
  const source = document.getElementById("source"), gutter = document.getElementById("gutter");
  const marks = document.getElementById("marks");
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
    underline();
    scrolled();
  }

  // The same text behind the source, unseen, with the words that problems point at marked in it.
  function underline() {
    const places = new Map();
    for (const each of document.querySelectorAll("#problems [data-line]")) {
      const line = Number(each.dataset.line), there = places.get(line) || [];
      there.push([Number(each.dataset.column) - 1, each.className]);
      places.set(line, there);
    }
    const parts = [];
    source.value.split("\n").forEach((text, index) => {
      let end = 0;
      for (const [column, kind] of (places.get(index + 1) || []).sort((one, other) => one[0] - other[0])) {
        const at = Math.min(column, text.length);
        if (at < end) continue;
        const word = /^("[^"]*"|'[^']*'|[^\s,{}[\]()]+)/.exec(text.slice(at));
        const mark = document.createElement("mark");
        mark.className = kind;
        mark.textContent = word ? word[0] : text.slice(at, at + 1) || " ";
        parts.push(document.createTextNode(text.slice(end, at)), mark);
        end = at + mark.textContent.length;
      }
      parts.push(document.createTextNode(`${text.slice(end)}\n`));
    });
    marks.replaceChildren(...parts);
  }

  function scrolled() {
    gutter.scrollTop = marks.scrollTop = source.scrollTop;
    marks.scrollLeft = source.scrollLeft;
  }

  function lead(problem) {
    const lines = source.value.split("\n"), line = Number(problem.dataset.line) - 1;
    const start = lines.slice(0, line).reduce((sum, each) => sum + each.length + 1, 0);
    const at = start + Math.min(Number(problem.dataset.column) - 1, (lines[line] || "").length);
    source.focus();
    source.setSelectionRange(at, start + (lines[line] || "").length);
    source.scrollTop = Math.max(0, (source.scrollHeight / lines.length) * line - source.clientHeight / 2);
  }

  document.addEventListener("change", (event) => {  // before the form asks: one of the two speaks
    const field = document.getElementById("event");
    if (event.target.id === "recent") field.value = event.target.value;
    if (event.target.id === "example") field.value = "";
  }, true);
  source.addEventListener("input", number);
  source.addEventListener("scroll", scrolled);
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
