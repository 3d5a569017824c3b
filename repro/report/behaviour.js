
"use strict";
document.documentElement.classList.add("js");

// Tables: clicking a heading sorts ascending, then descending, then restores the paper's order.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const original = [...body.rows];
  const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
  heads.forEach((head, column) => {
    const button = head.querySelector("button");
    if (button) button.addEventListener("click", () => {
      const next = { none: "ascending", ascending: "descending", descending: "none" }[head.getAttribute("aria-sort")];
      for (const other of heads) if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", next);
      body.append(...(next === "none" ? original : sorted(original, column, next === "descending" ? -1 : 1)));
    });
  });
}

// Missing values stay last in both directions.
function sorted(rows, column, direction) {
  const key = (row) => {
    const cell = row.cells[column];
    if (!("value" in cell.dataset)) return cell.textContent.trim();
    return cell.dataset.value === "" ? null : Number(cell.dataset.value);
  };
  const compare = (a, b) => (typeof a === "number" ? a - b : a.localeCompare(b));
  const present = rows.filter((row) => key(row) !== null);
  const missing = rows.filter((row) => key(row) === null);
  return [...present.sort((a, b) => direction * compare(key(a), key(b))), ...missing];
}

// Charts: the pointer or the arrow keys show the values of the nearest group of points.
for (const plot of document.querySelectorAll(".plot")) {
  const frame = plot.querySelector(".frame");
  const svg = frame.querySelector("svg");
  const reading = frame.querySelector(".reading");
  const panels = JSON.parse(plot.querySelector(".readings").textContent).filter((panel) => panel.groups.length);
  const marks = svg.appendChild(draw("g", { class: "pointed" }));
  let at = null;

  const show = (panel, group) => {
    at = { panel, group };
    const { box, along, traces, groups } = panels[panel];
    const [where, points] = groups[group];
    const [, x, y] = points[0];
    const ends = along === "x" ? { x1: x, x2: x, y1: box[1], y2: box[3] } : { x1: box[0], x2: box[2], y1: y, y2: y };
    marks.replaceChildren(draw("line", { class: "thread", ...ends }));
    reading.replaceChildren(element("b", where));
    for (const [trace, px, py, text] of points) {
      marks.append(draw("circle", { cx: px, cy: py, r: 2.6, fill: "none", stroke: traces[trace].colour }));
      const line = element("div");
      const dot = element("i");
      dot.style.background = traces[trace].colour;
      line.append(dot, `${traces[trace].label} ${text}`);
      reading.append(line);
    }
    reading.classList.add("shown");
    const scale = svg.clientWidth / svg.viewBox.baseVal.width;
    const left = Math.min(Math.max(x * scale + 12, 0), frame.clientWidth - reading.offsetWidth);
    const above = Math.min(...points.map((point) => point[2])) * scale - reading.offsetHeight - 12;
    reading.style.left = `${Math.max(left, 0)}px`;
    reading.style.top = `${above < -40 ? Math.max(...points.map((point) => point[2])) * scale + 14 : above}px`;
  };
  const hide = () => {
    at = null;
    marks.replaceChildren();
    reading.classList.remove("shown");
    reading.replaceChildren();
  };

  const point = (event) => {
    const to = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    const index = panels.findIndex(({ box }) => to.x >= box[0] - 4 && to.x <= box[2] + 4 && to.y >= box[1] - 4 && to.y <= box[3] + 4);
    if (index < 0) return hide();
    const { along, groups } = panels[index];
    const distance = (group) => Math.min(...group[1].map(([, x, y]) => Math.abs(along === "x" ? x - to.x : y - to.y)));
    const nearest = groups.reduce((best, group, i) => (distance(group) < distance(groups[best]) ? i : best), 0);
    show(index, nearest);
  };
  frame.addEventListener("pointermove", point);
  frame.addEventListener("pointerdown", point);
  // On touch screens the values stay when the finger lifts, until another place is touched.
  frame.addEventListener("pointerleave", (event) => event.pointerType === "touch" || hide());
  addEventListener("pointerdown", (event) => frame.contains(event.target) || hide());
  frame.addEventListener("blur", hide);
  frame.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !panels.length) return;
    const { panel, group } = at ?? { panel: 0, group: -1 };
    const last = panels[panel].groups.length - 1;
    const other = (step) => {
      const next = (panel + step + panels.length) % panels.length;
      return [next, Math.min(Math.max(group, 0), panels[next].groups.length - 1)];
    };
    const moves = {
      ArrowRight: () => [panel, Math.min(group + 1, last)],
      ArrowLeft: () => [panel, Math.max(group - 1, 0)],
      ArrowDown: () => other(1),
      ArrowUp: () => other(-1),
      Home: () => [panel, 0],
      End: () => [panel, last],
    };
    if (event.key === "Escape") hide();
    else if (event.key in moves) show(...moves[event.key]());
    else return;
    event.preventDefault();
  });
}

// Copying: where the browser does not allow it, the text is selected.
for (const button of document.querySelectorAll(".copy")) {
  const code = button.parentElement.querySelector("code");
  button.hidden = false;
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code);
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
}

// Open all details for printing.
let opened = [];
addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("details:not([open]):not(.seeds)")];
  for (const details of opened) details.open = true;
});
addEventListener("afterprint", () => {
  for (const details of opened) details.open = false;
});

function element(name, text) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  return made;
}

function draw(name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}
