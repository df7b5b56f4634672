"use strict";
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const settings = { displaylogo: false, responsive: true, modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]] };
  const dark = matchMedia("(prefers-color-scheme: dark)");

  // Figures name the style sheet's variables as colours, so that both themes are defined in one place.
  const withColors = (value, styles, isColor) => {
    if (Array.isArray(value)) return value.map((one) => withColors(one, styles, isColor));
    if (value !== null && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(
        ([name, one]) => [name, withColors(one, styles, name.endsWith("color"))]));
    }
    return isColor && typeof value === "string" && value.startsWith("--") ? styles.getPropertyValue(value).trim() : value;
  };

  const draw = () => {
    const styles = getComputedStyle(document.documentElement);
    for (const element of document.querySelectorAll("[data-figure]")) {
      if (!element.offsetParent) continue; // inside a folded run, where plotly cannot measure its width
      const { data, layout } = withColors(figures[element.dataset.figure], styles, false);
      Plotly.react(element, data, layout, settings);
    }
  };

  dark.addEventListener("change", draw);
  document.addEventListener("toggle", draw, true);
  draw();
})();
