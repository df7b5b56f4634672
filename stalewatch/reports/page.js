"use strict";
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const settings = { displaylogo: false, responsive: true, modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]] };
  const dark = matchMedia("(prefers-color-scheme: dark)");

  // Figures name colours after the style sheet's variables, so that both themes come from one place.
  const painted = (value, styles, isColor) => {
    if (Array.isArray(value)) return value.map((one) => painted(one, styles, isColor));
    if (value !== null && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(
        ([name, one]) => [name, painted(one, styles, name.endsWith("color"))]));
    }
    return isColor && typeof value === "string" && value.startsWith("--") ? styles.getPropertyValue(value).trim() : value;
  };

  const draw = () => {
    const styles = getComputedStyle(document.documentElement);
    for (const place of document.querySelectorAll("[data-figure]")) {
      if (!place.offsetParent) continue; // in a closed run: plotly could not tell how wide it is
      const { data, layout } = painted(figures[place.dataset.figure], styles, false);
      Plotly.react(place, data, layout, settings);
    }
  };

  dark.addEventListener("change", draw);
  document.addEventListener("toggle", draw, true);
  draw();
})();
