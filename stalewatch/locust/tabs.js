// Decorates Locust's page, which has no way to color a cell or to add a chart. Locust draws the page with React, which
// may draw it again at any time: so this only sets attributes of what is there, and adds one element to the charts.
"use strict";
(() => {
  const STYLES = `
    td[data-verdict] { color: #fff !important; background: #616161; font-weight: 600; }
    td[data-verdict="violated"], td[data-verdict="invalid"], td[data-verdict="lost"] { background: #c62828; }
    td[data-verdict="holds"], td[data-verdict="valid"], td[data-verdict="done"] { background: #2e7d32; }
    td[data-verdict="running"] { background: #1565c0; }
    td[data-promise]::after { content: attr(data-promise); display: block; max-width: 22em; font-size: 0.75rem;
      opacity: 0.8; white-space: normal; }
    #stale-share { width: 100%; margin: 1em 0; }
    #stale-share h6 { margin: 0 0 0.3em; font-size: 1.1rem; }
    #stale-share svg { width: 100%; height: 300px; font-size: 12px; fill: currentColor; }`;
  const HEIGHT = 300, LEFT = 45, BOTTOM = 25, EVERY_MS = 2000, NAME_ROWS = 4;
  const NS = "http://www.w3.org/2000/svg";

  function decorate() {
    for (const table of document.querySelectorAll("table")) {
      const headings = [...table.querySelectorAll("th")].map((cell) => cell.innerText.trim());
      const verdict = headings.findIndex((name) => name === "Verdict" || name === "State");
      const guarantee = headings.indexOf("Guarantee");
      for (const row of table.querySelectorAll("tbody tr")) {
        if (guarantee >= 0 && row.cells[guarantee]) {
          set(row.cells[guarantee], "promise", verdict >= 0 && PROMISES[row.cells[guarantee].innerText.trim()]);
          if (verdict >= 0) set(row.cells[verdict], "verdict", row.cells[verdict].innerText.trim());
        } else if (headings[0] === "Worker run" && row.cells[verdict]) {
          set(row.cells[verdict], "verdict", row.cells[verdict].innerText.trim());
        }
      }
    }
    addChart();
  }

  function set(cell, name, value) {
    if (!value) delete cell.dataset[name];
    else if (cell.dataset[name] !== value) cell.dataset[name] = value;
  }

  function addChart() {
    const charts = [...document.querySelectorAll("[_echarts_instance_]")];
    if (!charts.length || document.getElementById("stale-share")) return;
    const box = document.createElement("div");
    box.id = "stale-share";
    charts.at(-1).parentElement.append(box);
    refresh();
  }

  async function refresh() {
    const box = document.getElementById("stale-share");
    if (!box || document.hidden) return;
    const answer = await fetch("./stale-share.json").catch(() => null);
    if (answer && answer.ok && !answer.redirected) draw(box, await answer.json());
  }

  function draw(box, { start, end, points, bands }) {
    const known = points.filter(([, share]) => share !== null);
    const heading = document.createElement("h6");
    heading.textContent = "Stale Reads (% of successful reads)";
    const most = Math.max(...known.map(([, share]) => share), 0), top = niceTop(most);
    const width = box.clientWidth || 1000;  // one unit is a pixel, so that text keeps its shape
    const x = (second) => LEFT + ((second - start) / Math.max(1, end - start)) * (width - LEFT - 10);
    const y = (share) => 10 + (1 - share / top) * (HEIGHT - BOTTOM - 10);
    const svg = element("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, role: "img" });
    svg.append(element("title", {}, known.length ? `now ${known.at(-1)[1].toFixed(2)} %, most ${most.toFixed(2)} %` : "no reads"));
    bands.forEach((band, place) => svg.append(...fault(band, place, x, width)));
    for (const part of [0, 0.5, 1]) {
      const at = y(top * part);
      svg.append(element("line", { x1: LEFT, x2: width - 10, y1: at, y2: at, stroke: "currentColor", "stroke-opacity": 0.2 }));
      svg.append(element("text", { x: LEFT - 5, y: at + 4, "text-anchor": "end" }, `${+(top * part).toPrecision(3)} %`));
    }
    if (known.length) {
      for (const [second, anchor] of [[start, "start"], [end, "end"]]) {
        svg.append(element("text", { x: x(second), y: HEIGHT - 6, "text-anchor": anchor }, new Date(second * 1000).toLocaleTimeString()));
      }
      for (const run of unbroken(points)) {
        const path = run.map(([second, share]) => `${x(second).toFixed(1)},${y(share).toFixed(1)}`).join(" ");
        svg.append(element("polyline", { points: path, fill: "none", stroke: "#ff6d6d", "stroke-width": 2 }));
      }
    }
    box.replaceChildren(heading, svg);
  }

  // Returns the time of a fault, with its name beside it if the band is too narrow; names that follow do not overlap.
  function fault(band, place, x, width) {
    const left = x(band.from), right = x(band.to), inside = left < width * 0.7;
    const area = element("rect", { x: left, y: 10, width: Math.max(2, right - left), height: HEIGHT - BOTTOM - 10,
      fill: "#ef6c00", "fill-opacity": 0.18 });
    area.append(element("title", {}, band.name));
    const name = element("text", { x: inside ? left + 4 : right - 4, y: 24 + 15 * (place % NAME_ROWS),
      "text-anchor": inside ? "start" : "end" }, band.name);
    return [area, name];
  }

  // A second without reads is a gap, not zero. A single point is drawn as a short line.
  function unbroken(points) {
    const runs = [[]];
    for (const point of points) {
      if (point[1] !== null) runs.at(-1).push(point);
      else if (runs.at(-1).length) runs.push([]);
    }
    return runs.filter((run) => run.length).map((run) => (run.length > 1 ? run : [run[0], [run[0][0] + 0.5, run[0][1]]]));
  }

  function niceTop(most) {
    return [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100].find((top) => top >= most) ?? 100;
  }

  function element(name, attributes, text) {
    const made = document.createElementNS(NS, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    return made;
  }

  const style = document.createElement("style");
  style.textContent = STYLES;
  document.head.append(style);
  let waiting = false;
  new MutationObserver(() => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; decorate(); });
  }).observe(document.body, { childList: true, subtree: true, characterData: true });
  setInterval(refresh, EVERY_MS);
  decorate();
})();
