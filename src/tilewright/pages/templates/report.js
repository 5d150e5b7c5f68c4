"use strict";
(() => {
  const root = document.documentElement;
  const button = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const label = () => { button.textContent = isDark() ? "Light" : "Dark"; button.setAttribute("aria-label", `Switch to ${isDark() ? "light" : "dark"} colours`); };
  button.hidden = false;
  label();
  system.addEventListener("change", label);
  button.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; label(); });

  const keyOf = (cell) => (cell.dataset.key === undefined ? null : Number(cell.dataset.key));
  // Cells without a number go last in either direction.
  const compare = (a, b, way) => {
    const x = keyOf(a), y = keyOf(b);
    if (x !== null && y !== null) return (x - y) * way;
    if (x !== null || y !== null) return x === null ? 1 : -1;
    return a.textContent.localeCompare(b.textContent, undefined, { numeric: true }) * way;
  };
  for (const table of document.querySelectorAll("table[data-sortable]")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const press = document.createElement("button");
      press.type = "button";
      press.textContent = head.textContent;
      head.replaceChildren(press);
      press.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const rows = [...table.tBodies[0].rows];
        rows.sort((a, b) => compare(a.cells[column], b.cells[column], down ? -1 : 1));
        table.tBodies[0].append(...rows);
      });
    });
  }

  for (const canvas of document.querySelectorAll("[data-curves]")) {
    const cursor = canvas.querySelector(".cursor");
    const output = canvas.closest("figure").querySelector("output");
    const lines = [...canvas.querySelectorAll("polyline")].map((line) => ({
      label: line.dataset.label,
      points: JSON.parse(line.dataset.points),
    }));
    canvas.addEventListener("pointermove", (event) => {
      const box = canvas.getBoundingClientRect();
      const at = (100 * (event.clientX - box.left)) / box.width;
      const near = lines.map(({ label, points }) => ({
        label,
        point: points.reduce((best, p) => (Math.abs(p[0] - at) < Math.abs(best[0] - at) ? p : best)),
      }));
      cursor.hidden = false;
      cursor.style.left = `${near[0].point[0]}%`;
      output.textContent = near.map(({ label, point }) => `${label}: ${point[2]} at ${canvas.dataset.x} ${point[1]}`).join(" · ");
    });
    canvas.addEventListener("pointerleave", () => { cursor.hidden = true; output.textContent = ""; });
  }

  for (const copy of document.querySelectorAll(".copy")) {
    const code = copy.parentElement.querySelector("code");
    copy.hidden = false;
    copy.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(code.textContent);
        copy.textContent = "Copied";
      } catch { // a page opened from a file may not write to the clipboard, so select the text instead
        getSelection().selectAllChildren(code);
        copy.textContent = "Selected";
      }
      setTimeout(() => { copy.textContent = "Copy"; }, 1600);
    });
  }

  addEventListener("beforeprint", () => { for (const d of document.querySelectorAll("details")) d.open = true; });
})();
