"use strict";
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const FONT = "12px system-ui, sans-serif";
  let charts = [];

  // Figures name the style sheet's variables as colours, so that both themes are defined in one place.
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  const faded = (name, percent) => `color-mix(in srgb, ${color(name)} ${percent}%, transparent)`;

  const number = (value) => value >= 10000 ? `${+(value / 1000).toPrecision(3)}k` : value >= 1000 ? value.toLocaleString("en-US") : String(+value.toPrecision(3));

  const seconds = (value) => {
    if (value < 0.0001) return "at once";
    return value < 1 ? `${+(value * 1000).toPrecision(3)} ms` : `${+value.toPrecision(3)} s`;
  };

  const axis = (values, more) => ({
    stroke: color("--faint"), font: FONT, values,
    grid: { stroke: color("--line"), width: 1 }, ticks: { stroke: color("--line"), width: 1 }, ...more,
  });

  const add = (element, title, height, options, data) => {
    const frame = document.createElement("div");
    frame.className = "chart";
    if (title) frame.append(Object.assign(document.createElement("h4"), { textContent: title }));
    element.append(frame);
    const chart = new uPlot({ width: element.clientWidth, height, ...options }, data, frame);
    charts.push({ chart, element });
  };

  const clipped = (chart, paint) => {
    const { ctx, bbox } = chart;
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    paint(ctx, bbox);
    ctx.restore();
  };

  const bands = (figure) => (chart) => clipped(chart, (ctx, bbox) => {
    ctx.fillStyle = faded("--red", 12);
    for (const band of figure.bands) {
      const left = chart.valToPos(band.from, "x", true);
      ctx.fillRect(left, bbox.top, Math.max(2, chart.valToPos(band.to, "x", true) - left), bbox.height);
    }
  });

  const ticks = (write) => (_, values) => values.map((value) => value == null ? "" : write(value));

  // uPlot would draw nine lines a decade on a logarithmic axis.
  const only = (values) => ({ splits: (_, __, low, high) => values.filter((value) => low <= value && value <= high), filter: (_, splits) => splits });

  const decades = Array.from({ length: 12 }, (_, place) => +`1e${place - 5}`);

  const logRange = (_, low, high) => [10 ** Math.floor(Math.log10(low || 1)), 10 ** Math.ceil(Math.log10((high || 1) * 1.01))];

  const timeline = (element, figure) => {
    for (const panel of figure.panels) {
      add(element, panel.title, panel.log ? 190 : 150, {
        legend: { markers: { fill: (_, place) => color(panel.lines[place - 1].color), width: 0 } },
        cursor: { sync: { key: element.dataset.figure }, drag: { x: true, y: false }, points: { size: 6 } },
        scales: {
          x: { time: false, range: (_, low, high) => low === figure.x[0] && high === figure.x.at(-1) ? [0, figure.end] : [low, high] },
          y: panel.log ? { distr: 3, range: logRange } : { range: (_, low, high) => [0, Math.max(high * 1.08, 1)] },
        },
        axes: [
          axis(ticks((value) => `${value} s`), { space: 60, size: 30 }),
          axis(ticks(number), { size: 52, ...(panel.log ? only(decades) : {}) }),
        ],
        series: [
          { label: "time", value: (_, value) => value == null ? "" : `${value} s` },
          ...panel.lines.map((line) => ({
            label: line.name, stroke: color(line.color), width: 1.75, dash: line.dash ? [5, 3] : undefined,
            points: { show: figure.x.length < 3 }, value: (_, value) => value == null ? "" : number(value),
          })),
        ],
        hooks: { drawClear: [bands(figure)] },
      }, [figure.x, ...panel.lines.map((line) => line.y)]);
    }
  };

  const nines = (value) => value >= 5 ? "≥ 99.999 %" : `${+((1 - 10 ** -value) * 100).toFixed(4)} %`;

  const marks = (figure) => (chart) => clipped(chart, (ctx, bbox) => {
    ctx.font = `${12 * devicePixelRatio}px system-ui, sans-serif`;
    ctx.lineWidth = devicePixelRatio;
    ctx.setLineDash([4 * devicePixelRatio, 4 * devicePixelRatio]);
    for (const curve of figure.curves) {
      for (const mark of curve.marks) {
        const [x, y] = [chart.valToPos(mark.x, "x", true), chart.valToPos(mark.nines, "y", true)];
        ctx.strokeStyle = color(curve.color);
        ctx.beginPath();
        ctx.moveTo(bbox.left, y);
        ctx.lineTo(x, y);
        ctx.lineTo(x, bbox.top + bbox.height);
        ctx.stroke();
        if (figure.curves.length > 1) continue;
        const onRight = x + ctx.measureText(mark.name).width + 16 * devicePixelRatio > bbox.left + bbox.width;
        ctx.fillStyle = color("--ink");
        ctx.textAlign = onRight ? "right" : "left";
        ctx.fillText(mark.name, x + (onRight ? -8 : 8) * devicePixelRatio, y + 16 * devicePixelRatio);
      }
    }
  });

  // All curves share one axis: every one has a value, or none, at each of all their times.
  const freshness = (element, figure) => {
    const x = [...new Set(figure.curves.flatMap((curve) => curve.x))].sort((a, b) => a - b);
    const at = (curve, name) => x.map((time) => curve[name][curve.x.indexOf(time)] ?? null);
    const many = figure.curves.length > 1;
    const lines = figure.curves.flatMap((curve) => [
      { label: many ? curve.name : "at most", stroke: faded(curve.color, 40), width: 1, points: { show: false }, y: at(curve, "most") },
      { label: many ? curve.name : "at least", stroke: color(curve.color), width: 2.5, points: { show: true, size: 5 }, y: at(curve, "least") },
      { label: many ? curve.name : "seen", stroke: color(curve.color), width: 1, dash: [2, 3], points: { show: false }, y: at(curve, "seen") },
    ].map((line) => ({ ...line, spanGaps: true, value: (_, value) => value == null ? "" : nines(value) })));
    add(element, "", 300, {
      cursor: { drag: { x: false, y: false }, points: { size: 6 } },
      legend: { show: !many, markers: { fill: (_, place) => lines[place - 1].stroke, width: 0 } },
      scales: {
        x: { time: false, distr: 3, range: () => [x[0] / 1.3, Math.max(x.at(-1) * 1.3, x[0] * 10)] },
        y: { range: (_, low, high) => [Math.min(Math.floor(low), 1), Math.max(Math.ceil(high), 3.2)] },
      },
      axes: [
        axis(ticks(seconds), { size: 30, ...only([x[0] < 0.0001 ? x[0] : 0.0001, ...decades.filter((value) => value >= 0.001)]) }),
        axis(ticks(nines), { size: 86, ...only([0, 1, 2, 3, 4, 5]) }),
      ],
      series: [{ label: "after", value: (_, value) => value == null ? "" : seconds(value) }, ...lines],
      bands: figure.curves.map((curve, place) => ({ series: [3 * place + 1, 3 * place + 2], fill: faded(curve.color, 16) })),
      hooks: { draw: [marks(figure)] },
    }, [x, ...lines.map((line) => line.y)]);
  };

  const drawers = { timeline, freshness };

  const draw = () => {
    for (const { chart } of charts) chart.destroy();
    charts = [];
    for (const element of document.querySelectorAll("[data-figure]")) {
      element.replaceChildren();
      if (!element.clientWidth) continue; // inside a folded run, which has no width
      const figure = figures[element.dataset.figure];
      drawers[figure.kind](element, figure);
    }
  };

  const resize = () => {
    for (const { chart, element } of charts) chart.setSize({ width: element.clientWidth, height: chart.height });
  };

  dark.addEventListener("change", draw);
  document.addEventListener("toggle", (event) => event.target.querySelector("[data-figure]:empty") && draw(), true);
  window.addEventListener("resize", resize);
  draw();
})();
