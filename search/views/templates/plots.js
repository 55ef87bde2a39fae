"use strict";
/* What the pages' scripts share: axes, marks, labels, a front, tables that sort. */
const pages = (() => {
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const config = { displaylogo: false, responsive: true, displayModeBar: false, doubleClick: "reset+autosize" };
  const phone = () => window.innerWidth < 640;

  /* Every second tick goes, or more of them, where they would touch. */
  const thin = (ticks, width) => {
    const step = Math.ceil((ticks.length * 58) / (width || Infinity));
    return step > 1 ? ticks.filter((_, k) => k % step === 0) : ticks;
  };

  const axis = (range, log, ticks, title, width) => ({
    title: title ? { text: title, font: { size: 12.5 } } : undefined,
    type: log ? "log" : "linear",
    range: log ? range.map(Math.log10) : range,
    tickvals: thin(ticks, width).map((tick) => tick[0]),
    ticktext: thin(ticks, width).map((tick) => tick[1]),
    tickangle: 0, gridcolor: color("line"), zeroline: false, fixedrange: phone(),
  });

  const layout = (more) => ({
    margin: { l: 58, r: 14, t: 12, b: 46 },
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false,
    hovermode: "closest", dragmode: phone() ? false : "zoom",
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: color("soft") },
    hoverlabel: { bgcolor: color("raised"), bordercolor: color("line"), font: { color: color("ink"), size: 13 } },
    ...more,
  });

  const points = (marks, marker, hover = true) => ({
    type: "scatter", mode: "markers", x: marks.map((m) => m.x), y: marks.map((m) => m.y),
    text: marks.map((m) => m.hover), hoverinfo: hover ? "text" : "skip", marker, cliponaxis: true,
  });

  const line = (pairs, more) => ({
    type: "scatter", mode: "lines", x: pairs.map((p) => p[0]), y: pairs.map((p) => p[1]),
    hoverinfo: "skip", line: { color: color("front"), width: 1.6, ...more },
  });

  const overlap = (a, b) => a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3];
  const around = [[1, -0.6], [1, 0.6], [-1, -0.6], [-1, 0.6], [0, -1], [0, 1], [1, -1.7], [-1, -1.7], [1, 1.7], [-1, 1.7]];

  /* Labels beside their points, where they cover neither points nor each other. */
  function labels(panel, node) {
    const { l, r, t, b } = layout({}).margin;
    const width = node.clientWidth - l - r, height = node.clientHeight - t - b;
    const scale = panel.log ? Math.log10 : (v) => v;
    const at = (v, range, f) => (f(v) - f(range[0])) / (f(range[1]) - f(range[0]));
    const pixel = (m) => [at(m.x, panel.x_range, scale) * width, (1 - at(m.y, panel.y_range, (v) => v)) * height];
    const taken = panel.all.map((m) => { const [x, y] = pixel(m); return [x - 5, y - 5, x + 5, y + 5]; });
    return panel.labels.flatMap((mark) => {
      const [x, y] = pixel(mark), w = mark.label.length * 6.6 + 4, h = 15;
      for (const [dx, dy] of around) {
        const cx = x + dx * (w / 2 + 7), cy = y + dy * (h / 2 + 6);
        const box = [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2];
        const inside = box[0] >= 0 && box[1] >= 0 && box[2] <= width && box[3] <= height;
        if (!inside || taken.some((other) => overlap(box, other))) continue;
        taken.push(box);
        return [{
          x: scale(mark.x), y: mark.y, text: mark.knee ? `<b>${mark.label}</b>` : mark.label,
          showarrow: false, xshift: cx - x, yshift: y - cy, xanchor: "center", yanchor: "middle",
          font: { size: 12, color: mark.baseline ? color("uniform") : color("ink") },
        }];
      }
      return [];
    });
  }

  /* The dispatch floor: a dashed line, with its words along it. */
  const floorShape = (floor) => floor ? [{
    type: "line", x0: floor.x, x1: floor.x, yref: "paper", y0: 0, y1: 1,
    line: { color: color("soft"), width: 1.5, dash: "dash" },
  }] : [];
  const floorText = (floor, log) => floor ? [{
    x: log ? Math.log10(floor.x) : floor.x, yref: "paper", y: 1, xanchor: "left", yanchor: "top",
    text: floor.label, textangle: 90, showarrow: false, font: { size: 11, color: color("soft") },
  }] : [];

  function front(panel, node) {
    const front = color(panel.color || "front"), paper = color("raised");
    const moved = panel.moved.map((pair) => line(pair, { width: 1, color: front }));
    const traces = [
      points(panel.others, { color: color("other"), size: 6 }),
      line(panel.steps, { width: 1.6, color: front }), ...moved,
      points(panel.searched, { color: paper, size: 8, line: { color: front, width: 1.6 } }),
      points(panel.exported, { color: front, size: 10 }),
      points(panel.baselines, { color: color("uniform"), size: 9, symbol: "square" }),
      points(panel.reference, { color: color("ink"), size: 10, symbol: "diamond" }),
    ];
    traces[1].opacity = 0.55;
    const x = axis(panel.x_range, panel.log, panel.x_ticks, panel.x_title, node.clientWidth - 72);
    const y = axis(panel.y_range, false, panel.y_ticks);
    Plotly.react(node, traces, layout({ xaxis: x, yaxis: y, shapes: floorShape(panel.floor), annotations: [...labels(panel, node), ...floorText(panel.floor, panel.log)] }), config);
  }

  function sort(table, column) {
    const head = table.tHead.rows[0].cells, body = table.tBodies[0];
    const down = head[column].getAttribute("aria-sort") === "ascending";
    [...head].forEach((cell) => cell.removeAttribute("aria-sort"));
    head[column].setAttribute("aria-sort", down ? "descending" : "ascending");
    const value = (row) => {
      const cell = row.cells[column], text = cell.dataset.sort ?? cell.textContent;
      return text !== "" && Number.isFinite(Number(text)) ? Number(text) : text;
    };
    const order = (a, b) => (value(a) < value(b) ? -1 : value(a) > value(b) ? 1 : 0) * (down ? -1 : 1);
    body.append(...[...body.rows].sort(order));
  }

  document.querySelectorAll("table.sortable").forEach((table) => {
    [...table.tHead.rows[0].cells].forEach((cell, column) => {
      cell.tabIndex = 0;
      cell.addEventListener("click", () => sort(table, column));
      cell.addEventListener("keydown", (event) => { if (event.key === "Enter") sort(table, column); });
    });
  });

  document.querySelectorAll(".command button").forEach((button) => {
    button.addEventListener("click", async () => {
      const code = button.parentElement.querySelector("code");
      try { await navigator.clipboard.writeText(code.textContent); button.textContent = "copied"; }
      catch { getSelection().selectAllChildren(code); button.textContent = "selected"; }
      setTimeout(() => { button.textContent = "copy"; }, 1500);
    });
  });

  /* Draw now, and again when the reader's window or light changes. */
  function start(draw) {
    draw();
    let waiting;
    window.addEventListener("resize", () => { clearTimeout(waiting); waiting = setTimeout(draw, 150); });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  }

  const data = JSON.parse(document.getElementById("data").textContent);
  return { data, color, config, phone, axis, layout, points, line, front, floorShape, floorText, start };
})();
