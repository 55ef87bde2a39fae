"use strict";
(() => {
  const { data, color, config, axis, layout, points, line, front, start } = pages;

  function history() {
    const node = document.getElementById("history");
    if (!node) return;
    const steps = data.history;
    const curve = {
      type: "scatter", mode: "lines", x: steps.map((s) => s[0]), y: steps.map((s) => s[1]),
      line: { color: color("front"), width: 2, shape: "hv" }, fill: "tozeroy",
      fillcolor: color("tint"), hovertemplate: "%{y:.1%} after %{x} trials<extra></extra>",
    };
    const low = Math.max(0, Math.min(...steps.map((s) => s[1])) - 0.05);
    const marks = points(
      data.failed.map((f) => ({ x: f[0], y: low, hover: f[1] })),
      { color: color("warn"), size: 8, symbol: "x-thin", line: { color: color("warn"), width: 1.6 } },
    );
    marks.cliponaxis = false;
    const high = Math.max(...steps.map((s) => s[1]));
    Plotly.react(node, [curve, marks], layout({
      xaxis: { gridcolor: "rgba(0,0,0,0)", zeroline: false, title: { text: "trials finished", font: { size: 12.5 } }, rangemode: "tozero", fixedrange: true, nticks: 8, tickformat: "d" },
      yaxis: { gridcolor: color("line"), zeroline: false, tickformat: ".0%", range: [low, high + 0.08 * (high - low) + 0.01], nticks: 5, fixedrange: true },
      hovermode: "x",
    }), config);
  }

  /* The search's latency against the file's: the line of equals, and how far it says it may lie. */
  function prediction() {
    const held = data.prediction, node = document.getElementById("prediction");
    if (!held || !node) return;
    const [low, high] = held.range, soft = color("soft");
    const edge = (factor) => [[low, low * factor], [high, high * factor]];
    const band = [line(edge(1 + held.band), { width: 0 }), line(edge(1 - held.band), { width: 0 })];
    Object.assign(band[1], { fill: "tonexty", fillcolor: color("tint") });
    const bars = (key) => ({ type: "data", array: held.points.map((p) => p[key]), color: color("front"), thickness: 1, width: 0 });
    const members = points(held.points, {
      color: held.points.map((p) => color(p.noisy ? "raised" : "front")), size: 9,
      line: { color: held.points.map((p) => color(p.noisy ? "warn" : "front")), width: 1.6 },
    });
    Object.assign(members, { error_x: bars("dx"), error_y: bars("dy") });
    const reference = points([held.reference], { color: color("ink"), size: 10, symbol: "diamond" });
    const equal = line(edge(1), { color: soft, width: 1.2, dash: "dot" });
    Plotly.react(node, [...band, equal, members, reference], layout({
      margin: { l: 68, r: 14, t: 12, b: 46 },
      xaxis: axis(held.range, true, held.ticks, "measured", node.clientWidth - 82),
      yaxis: axis(held.range, true, held.ticks, held.how === "predicted" ? "predicted" : "as searched"),
    }), config);
  }

  start(() => {
    data.panels.forEach((panel, index) => front(panel, document.getElementById(`panel-${index}`)));
    history();
    prediction();
  });
})();
