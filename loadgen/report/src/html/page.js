// Draws the charts of the page as they come near the window, highlights the server that is pointed at, and
// draws again when a server is switched or the colours change.
"use strict";
(() => {
  const servers = JSON.parse(document.getElementById("servers").textContent)
    .map(([name, hue, symbol, dash]) => ({ name, hue, symbol, dash }));
  const boxes = [...document.querySelectorAll("input[data-server]")];
  const plots = [...document.querySelectorAll(".plot")];
  const button = document.getElementById("theme");
  const root = document.documentElement;
  const config = { displayModeBar: false };
  const system = matchMedia("(prefers-color-scheme: dark)");

  const shown = () => new Set(boxes.filter((box) => box.checked).map((box) => box.dataset.server));
  const isDark = () => (root.dataset.theme || (system.matches ? "dark" : "light")) === "dark";
  const style = () => {
    const computed = getComputedStyle(root);
    return (name) => computed.getPropertyValue(`--${name}`).trim();
  };
  // plotly interprets some markup in texts; ours are literal.
  const plain = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  // Wrapped to lines that fit on a phone.
  const folded = (text) => text.split("\n").map((line) => {
    const lines = [""];
    for (const word of line.split(" ")) {
      const last = lines.length - 1;
      if (lines[last] && lines[last].length + word.length > 42) {
        lines.push(word);
      } else {
        lines[last] += (lines[last] && " ") + word;
      }
    }
    return lines.map(plain).join("<br>");
  }).join("<br>");
  const number = (value) => {
    if (value >= 999.5) {
      return Math.round(value).toLocaleString("en-US");
    }
    return value.toFixed(value < 9.995 ? 2 : value < 99.95 ? 1 : 0);
  };

  const axis = (of, c) => ({
    automargin: true, fixedrange: true, zeroline: false, separatethousands: true, exponentformat: "none",
    gridcolor: c("grid"), linecolor: c("line"), tickcolor: c("line"), color: c("soft"),
    type: of.log ? "log" : "linear",
    ...(of.title && { title: { text: of.title, font: { size: 13, color: c("ink") }, standoff: 8 } }),
    ...(of.ticks.length && { tickvals: of.ticks.map((it) => it[0]), ticktext: of.ticks.map((it) => it[1]) }),
  });
  // From the first tick to the last, as plotly counts on that axis, with room at the ends.
  const ends = (of, before, after) => {
    if (!of.ticks.length) {
      return undefined;
    }
    const scale = of.log ? Math.log10 : (value) => value;
    const [first, last] = [scale(of.ticks[0][0]), scale(of.ticks[of.ticks.length - 1][0])];
    const room = last - first || 1;
    return [first - before * room, last + after * room];
  };

  // Labels of ticks, without those that would run into the next.
  const legible = (of, range, width) => {
    const scale = of.log ? Math.log10 : (value) => value;
    let next = Infinity;
    return of.ticks.map(([value, text]) => [(width * (scale(value) - range[0])) / (range[1] - range[0]), text])
      .reverse()
      .map(([at, text]) => {
        const reach = 4 * text.length + 3;
        if (at + reach > next) {
          return "";
        }
        next = at - reach;
        return text;
      })
      .reverse();
  };

  const marker = (server, c, open) => ({
    symbol: server.symbol + (open ? "-open" : ""), size: 8, color: c(`c${server.hue}`),
    ...(open && { line: { width: 1.5 } }),
  });

  // Lines and points of a server: those that are compared, and hollow ones, which no line joins.
  const scatter = (chart, one, c) => {
    const server = servers[one.server];
    const isLine = chart.kind !== "dots";
    const hollow = new Set(one.hollow === true ? one.y.keys() : one.hollow || []);
    const colour = c(`c${server.hue}`);
    const says = one.says || one.y.map((y, at) => `${chart.grid[at][1]}: ${number(y)} µs`
      + (one.remark ? `\n${one.remark}` : ""));
    const part = (open) => {
      const only = (list) => list.map((value, at) => (hollow.has(at) === open ? value : null));
      const x = only(one.x || chart.grid.slice(0, one.y.length).map((it) => it[0]));
      if (x.every((value) => value === null)) {
        return null;
      }
      const values = isLine ? one.y : one.x;
      const error = one.low && {
        type: "data", symmetric: false, thickness: 1.2, width: 0, color: colour,
        array: only(values.map((value, at) => (one.high[at] === null ? 0 : Math.max(0, one.high[at] - value)))),
        arrayminus: only(values.map((value, at) => (one.low[at] === null ? 0 : Math.max(0, value - one.low[at])))),
      };
      const isJoined = isLine && (!open || chart.kind === "curves");
      return {
        type: "scatter", meta: server.name, x, y: only(one.y), cliponaxis: false, connectgaps: false,
        mode: isJoined ? "lines+markers" : "markers",
        marker: { ...marker(server, c, open), ...(chart.kind === "curves" && { maxdisplayed: 9 }) },
        ...(isJoined && { line: { color: colour, width: open ? 1.2 : 2, dash: server.dash } }),
        ...(error && { [isLine ? "error_y" : "error_x"]: error }),
        hoverinfo: "text",
        hovertext: only(says).map((text) => text && `<b>${plain(server.name)}</b><br>${folded(text)}`),
      };
    };
    return [part(false), part(true)].filter(Boolean);
  };

  // Names beside the ends of lines, without overlaps; `height` is that of the drawing without its margins.
  const names = (chart, series, range, height, c) => {
    const scale = chart.y.log ? Math.log10 : (value) => value;
    const share = (value) => (scale(value) - range[0]) / (range[1] - range[0]);
    const apart = 12.5 / height;
    const all = series.map((one) => {
      const at = one.y.findLastIndex((value) => value !== null);
      const x = one.x ? one.x[at] : chart.grid[at][0];
      return { server: servers[one.server], x, y: one.y[at], from: share(one.y[at]) };
    });
    all.sort((a, b) => b.from - a.from);
    let next = 1;
    for (const one of all) {
      one.to = Math.min(one.from, next);
      next = one.to - apart;
    }
    let least = 0;
    for (const one of [...all].reverse()) {
      one.to = Math.max(one.to, least);
      least = one.to + apart;
    }
    return {
      all,
      annotations: all.map((one) => ({
        text: plain(one.server.name), name: one.server.name, showarrow: false, captureevents: true,
        xref: "paper", x: 1, xanchor: "left", xshift: 29, yref: "paper", y: one.to, yanchor: "middle",
        font: { size: 11, color: c("ink") },
      })),
      shapes: all.map((one) => ({
        type: "line", name: one.server.name, xref: "paper", xsizemode: "pixel", xanchor: 1, x0: 3, x1: 29,
        yref: "paper", y0: one.from, y1: one.to, line: { color: c(`c${one.server.hue}`), width: 1.5 },
      })),
    };
  };

  // The widest name, in pixels of the font of names.
  const pen = document.createElement("canvas").getContext("2d");
  const widest = (series) => {
    pen.font = `11px ${getComputedStyle(document.body).fontFamily}`;
    return Math.max(0, ...series.map((one) => pen.measureText(servers[one.server].name).width));
  };

  const ofPoints = (chart, visible, height, width, c) => {
    const series = chart.series.filter((one) => visible.has(servers[one.server].name));
    const data = series.flatMap((one) => scatter(chart, one, c));
    const layout = { xaxis: axis(chart.x, c), yaxis: axis(chart.y, c), margin: { t: 12, b: 48, l: 58, r: 14, pad: 2 } };
    if (chart.kind === "dots") {
      // The first row on top.
      layout.yaxis.range = [chart.y.ticks.length - 0.5, -0.5];
      layout.xaxis.range = ends(chart.x, 0.02, 0.02);
      layout.margin.l = 12;
      return { data, layout };
    }
    const tops = series.flatMap((one) => [...one.y, ...(one.high || [])]).filter((value) => value !== null);
    layout.margin.r = 36 + widest(series);
    const range = chart.y.ticks.length ? ends(chart.y, 0.02, 0.02) : [0, 1.05 * Math.max(0, ...tops) || 1];
    layout.yaxis.range = range;
    layout.xaxis.range = ends(chart.x, 0.03, 0);
    Object.assign(layout.xaxis, { tickangle: 0, ticktext: legible(chart.x, layout.xaxis.range, width - layout.margin.l - layout.margin.r) });
    const inner = height - layout.margin.t - layout.margin.b;
    const { all, annotations, shapes } = names(chart, series, range, inner, c);
    const right = chart.x.ticks[chart.x.ticks.length - 1][0];
    // From a line that ends early to its name.
    const leaders = all.filter((one) => one.x < right).map((one) => ({
      type: "scatter", meta: one.server.name, mode: "lines", x: [one.x, right], y: [one.y, one.y], hoverinfo: "skip",
      line: { color: c(`c${one.server.hue}`), width: 1, dash: "1px,5px" },
    }));
    return { data: [...leaders, ...data], layout: { ...layout, annotations, shapes } };
  };

  const ofBars = (chart, visible, c) => {
    const kept = [...chart.servers.keys()].filter((at) => visible.has(servers[chart.servers[at]].name)).reverse();
    const name = (at) => servers[chart.servers[at]].name;
    const label = (at) => name(at) + (chart.hollow.includes(at) ? " †" : "");
    const total = (at) => chart.parts.reduce((sum, part) => sum + part.values[at], 0);
    const y = kept.map(label);
    const meta = kept.map(name);
    const data = chart.parts.map((part, place) => ({
      type: "bar", orientation: "h", y, meta, x: kept.map((at) => part.values[at]),
      marker: { color: c(`p${place % 8}`), line: { width: 1, color: c("card") } },
      hoverinfo: "text",
      hovertext: kept.map((at) => `<b>${plain(name(at))}</b><br>${plain(part.name)}: ${number(part.values[at])} of ${number(total(at))}`),
    }));
    // Totals behind the bars.
    data.push({
      type: "bar", orientation: "h", y, meta, x: kept.map(() => 0), text: kept.map((at) => number(total(at))),
      textposition: "outside", cliponaxis: false, hoverinfo: "skip", textfont: { color: c("ink") },
    });
    const layout = {
      barmode: "stack", bargap: 0.3, margin: { t: 12, b: 48, l: 12, r: 48, pad: 2 },
      xaxis: { ...axis(chart.x, c), rangemode: "tozero" },
      yaxis: { ...axis(chart.y, c), type: "category", tickmode: "array", tickvals: y, ticktext: y.map(plain), tickfont: { size: 11 } },
    };
    return { data, layout };
  };

  // Marks carry the name of their server, so that a single style rule highlights it everywhere.
  const name = (element) => {
    const tag = (it, of) => {
      if (of) {
        it.dataset.of = of;
      }
    };
    for (const it of element.querySelectorAll(".scatterlayer > .trace")) {
      tag(it, it.__data__[0].trace.meta);
    }
    for (const trace of element.querySelectorAll(".barlayer .trace")) {
      const meta = trace.__data__[0].trace.meta;
      trace.querySelectorAll(".point").forEach((it, at) => tag(it, meta[at]));
    }
    const of = element.layout;
    for (const [kind, list] of [[".annotation", of.annotations], [".shapelayer path", of.shapes]]) {
      for (const it of element.querySelectorAll(kind)) {
        tag(it, list?.[it.dataset.index]?.name);
      }
    }
    for (const it of element.querySelectorAll(".annotation[data-of]")) {
      it.dataset.name = it.dataset.of;
    }
    if (element.data[0]?.type === "bar") {
      for (const it of element.querySelectorAll(".ytick text")) {
        const of = it.textContent.replace(/ †$/, "");
        tag(it, of);
        it.dataset.name = of;
        it.style.pointerEvents = "all";
      }
    }
  };

  const draw = (element, width = element.clientWidth) => {
    const chart = JSON.parse(document.getElementById(`data-${element.id}`).textContent);
    const c = style();
    const height = Number(element.dataset.height);
    const visible = shown();
    const { data, layout } = chart.kind === "bars" ? ofBars(chart, visible, c) : ofPoints(chart, visible, height, width, c);
    element.dataset.drawn = "true";
    const isNew = !element.layout;
    const done = Plotly.react(element, data, {
      ...layout, height, width, showlegend: false, hovermode: "closest", dragmode: false,
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: c("ink") },
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      hoverlabel: { align: "left", bgcolor: c("card"), bordercolor: c("line"), font: { color: c("ink"), size: 13 } },
    }, config);
    name(element);
    if (isNew) {
      element.on("plotly_afterplot", () => name(element));
      element.on("plotly_hover", ({ points: [point] }) => {
        const { meta } = point.data;
        light(Array.isArray(meta) ? meta[point.pointIndex] : meta);
      });
      element.on("plotly_unhover", () => light(null));
    }
    return done;
  };

  const sheet = document.head.appendChild(document.createElement("style"));
  let lit = null;
  const light = (server) => {
    if (server === lit) {
      return;
    }
    lit = server;
    const other = `[data-of]:not([data-of=${CSS.escape(server ?? "")}])`;
    sheet.textContent = server === null ? "" : `${other} { opacity: .3; } svg ${other} { opacity: .12 !important; }`;
  };
  document.addEventListener("pointerover", ({ target }) => {
    light(target.closest?.("[data-name]")?.dataset.name ?? null);
  });
  document.addEventListener("focusin", ({ target }) => {
    light(target.matches("input[data-server]:focus-visible") ? target.dataset.server : null);
  });
  document.addEventListener("focusout", () => light(null));

  // Only what is in view, or nearly, is drawn: a page may have hundreds of charts.
  const near = new Set();
  const drawAll = () => {
    for (const it of plots) {
      it.dataset.drawn = "false";
    }
    near.forEach((it) => draw(it));
  };
  const observer = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (!isIntersecting) {
        near.delete(target);
        continue;
      }
      near.add(target);
      if (target.dataset.drawn !== "true") {
        draw(target);
      }
    }
  }, { rootMargin: "600px 0px" });

  const label = () => {
    button.textContent = isDark() ? "Light" : "Dark";
    button.setAttribute("aria-pressed", String(isDark()));
  };
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    label();
    drawAll();
  });
  system.addEventListener("change", () => {
    label();
    drawAll();
  });
  boxes.forEach((box) => box.addEventListener("change", drawAll));
  // Which labels fit depends on the width. On a phone the height changes with every scroll.
  let wide = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth !== wide) {
      wide = innerWidth;
      // Printing draws for paper, and again for the window when it is done.
      requestAnimationFrame(() => before || drawAll());
    }
  });

  // A link opens what it leads to.
  const open = () => {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    for (let it = target; it; it = it.parentElement) {
      if (it.tagName === "DETAILS") {
        it.open = true;
      }
    }
    if (target) {
      target.scrollIntoView();
    }
  };
  addEventListener("hashchange", open);

  // On paper everything is drawn, on white, and workloads and tables are unfolded.
  let before = null;
  addEventListener("beforeprint", () => {
    before = { theme: root.dataset.theme, closed: [...document.querySelectorAll("details:not([open])")] };
    before.closed = before.closed.filter((it) => it.matches(".workload, .rest, .further, #verdicts *, #where *"));
    root.dataset.theme = "light";
    light(null);
    before.closed.forEach((it) => { it.open = true; });
    plots.forEach((it) => draw(it, it.closest(".wide, .dense") ? 690 : 330));
  });
  addEventListener("afterprint", () => {
    before.closed.forEach((it) => { it.open = false; });
    if (before.theme === undefined) {
      delete root.dataset.theme;
    } else {
      root.dataset.theme = before.theme;
    }
    before = null;
    drawAll();
  });

  label();
  plots.forEach((it) => observer.observe(it));
  open();
})();
