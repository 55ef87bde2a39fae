"use strict";
(() => {
  const { data, color, config, phone, axis, layout, points, line, front, start } = pages;
  const hidden = new Set();

  function overlay() {
    const held = data.overlay, node = document.getElementById("overlay");
    if (!held || !node) return;
    const traces = held.curves.flatMap((curve, number) => hidden.has(number) ? [] : [
      { ...line(curve.steps, { color: color(curve.color), width: 1.8 }), opacity: 0.7 },
      points(curve.points, { color: color(curve.color), symbol: curve.symbol, size: phone() ? 8 : 10 }),
    ]);
    const one = {
      type: "line", x0: 1, x1: 1, yref: "paper", y0: 0, y1: 1,
      line: { color: color("soft"), width: 1.2, dash: "dot" },
    };
    const words = {
      x: 0, yref: "paper", y: 0.01, text: "uncompressed", xanchor: "left", yanchor: "bottom", xshift: 4,
      showarrow: false, font: { size: 11.5, color: color("soft") },
    };
    Plotly.react(node, traces, layout({
      xaxis: axis(held.x_range, true, held.x_ticks, "speed-up", node.clientWidth - 72),
      yaxis: axis(held.y_range, false, held.y_ticks), shapes: [one], annotations: [words],
    }), config);
  }

  document.querySelectorAll("[data-curve]").forEach((button) => {
    button.addEventListener("click", () => {
      const number = Number(button.dataset.curve), shown = hidden.delete(number);
      if (!shown) hidden.add(number);
      button.setAttribute("aria-pressed", String(shown));
      overlay();
    });
  });

  start(() => {
    overlay();
    for (const [kind, panels] of Object.entries(data.panels)) {
      panels.forEach((panel, index) => front(panel, document.getElementById(`${kind}-${index}`)));
    }
  });
})();
