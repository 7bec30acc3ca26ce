"use strict";
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  // Names of colours, "@run", are replaced by the theme's.
  const themed = (value) => {
    if (typeof value === "string") {
      if (value === "@heat") return [[0, css("--empty")], [0.02, css("--heat-low")], [1, css("--heat-high")]];
      return /^@[a-z]+[0-9]?$/.test(value) ? css("--" + value.slice(1)) : value;
    }
    if (Array.isArray(value)) return value.map(themed);
    if (value !== null && typeof value === "object")
      return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, themed(each)]));
    return value;
  };

  const axis = (own) => ({
    ...own,
    ...(own && own.title ? { title: { ...own.title, font: { size: 13, color: css("--soft") } } } : {}),
    gridcolor: css("--rule"), zerolinecolor: css("--rule"), linecolor: css("--rule"), automargin: true,
  });

  const layout = (own) => ({
    ...own,
    autosize: true,
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: css("--font"), size: 13, color: css("--ink") },
    margin: { l: 20, r: 20, t: 50, b: 48, ...(own.margin || {}) },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: css("--muted"), activecolor: css("--ink") },
    uniformtext: { mode: "hide", minsize: 9 },
    hoverlabel: { font: { family: css("--font"), size: 12 }, align: "left" },
    xaxis: axis(own.xaxis),
    yaxis: axis(own.yaxis),
  });

  const chosen = figures.map(() => 0);
  const draw = (number) => {
    const place = document.getElementById("figure-" + number);
    const { data, layout: own } = figures[number].variants[chosen[number]];
    const config = {
      responsive: true, displaylogo: false, displayModeBar: "hover",
      // Only these: others send the data to a server.
      modeBarButtons: [["toImage"], ["zoom2d", "pan2d"], ["zoomIn2d", "zoomOut2d", "resetScale2d"]],
      showSendToCloud: false, plotlyServerURL: "",
      toImageButtonOptions: { format: "svg", filename: "h5flow-report-" + number },
    };
    return Plotly.react(place, themed(data), layout(themed(own)), config);
  };

  const drawAll = () => Promise.all(figures.map((_, number) => draw(number)));
  document.querySelectorAll("select[data-figure]").forEach((select) => {
    const number = Number(select.dataset.figure);
    select.addEventListener("change", () => { chosen[number] = Number(select.value); draw(number); });
  });
  drawAll().then(() => { document.body.dataset.drawn = "yes"; });
  dark.addEventListener("change", drawAll);
})();
