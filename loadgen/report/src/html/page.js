// Draws the charts of the page, and draws them again when a server is switched or the colours change.
"use strict";
(() => {
  const plots = JSON.parse(document.getElementById("plots").textContent);
  const boxes = [...document.querySelectorAll("input[data-server]")];
  const button = document.getElementById("theme");
  const root = document.documentElement;
  const config = { displayModeBar: false, responsive: true };
  const system = matchMedia("(prefers-color-scheme: dark)");

  const shown = () => new Set(boxes.filter((box) => box.checked).map((box) => box.dataset.server));
  const isDark = () => (root.dataset.theme || (system.matches ? "dark" : "light")) === "dark";

  // Bars have their servers as categories, everything else has a trace for each.
  const only = (trace, servers) => {
    if (trace.type !== "bar") {
      return servers.has(trace.legendgroup) ? trace : null;
    }
    const keeps = trace.y.map((name) => servers.has(name.replace(/ †$/, "")));
    const kept = (values) => (Array.isArray(values) ? values.filter((_, at) => keeps[at]) : values);
    return {
      ...trace,
      x: kept(trace.x),
      y: kept(trace.y),
      text: kept(trace.text),
      hovertext: kept(trace.hovertext),
    };
  };

  const colours = () => {
    const style = getComputedStyle(root);
    const colour = (name) => style.getPropertyValue(name).trim();
    return { ink: colour("--ink"), soft: colour("--soft"), grid: colour("--grid"), line: colour("--line"), card: colour("--card") };
  };

  const axis = (of, c) => ({
    ...of,
    gridcolor: c.grid, zerolinecolor: c.line, linecolor: c.line, tickcolor: c.line, color: c.soft,
    title: of.title && { ...of.title, font: { size: 13, color: c.ink }, standoff: 8 },
  });

  const draw = (id) => {
    const element = document.getElementById(id);
    const { data, layout } = plots[id];
    const c = colours();
    const servers = shown();
    const traces = data.map((trace) => only(trace, servers)).filter(Boolean).map((trace) =>
      trace.type === "bar"
        ? { ...trace, marker: { ...trace.marker, line: { width: 1, color: c.card } }, textfont: { color: c.ink } }
        : trace,
    );
    element.dataset.drawn = "true";
    return Plotly.react(element, traces, {
      ...layout,
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: c.ink },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      dragmode: false,
      hoverlabel: { align: "left", bgcolor: c.card, bordercolor: c.line, font: { color: c.ink, size: 13 } },
      xaxis: axis(layout.xaxis, c),
      yaxis: axis(layout.yaxis, c),
    }, config);
  };

  // Only what is in view, or nearly, is drawn: a page may have a hundred charts.
  const near = new Set();
  const drawAll = () => {
    for (const id of Object.keys(plots)) {
      document.getElementById(id).dataset.drawn = "false";
    }
    near.forEach(draw);
  };
  const observer = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (!isIntersecting) {
        near.delete(target.id);
        continue;
      }
      near.add(target.id);
      if (target.dataset.drawn !== "true") {
        draw(target.id);
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

  // Paper is white, and narrower than most windows.
  let themeBefore;
  addEventListener("beforeprint", () => {
    themeBefore = root.dataset.theme;
    root.dataset.theme = "light";
    for (const id of Object.keys(plots)) {
      draw(id);
      const isWide = document.getElementById(id).closest(".wide") !== null;
      Plotly.relayout(id, { width: isWide ? 690 : 330 });
    }
  });
  addEventListener("afterprint", () => {
    if (themeBefore === undefined) {
      delete root.dataset.theme;
    } else {
      root.dataset.theme = themeBefore;
    }
    drawAll();
  });

  label();
  for (const [id, { layout }] of Object.entries(plots)) {
    const element = document.getElementById(id);
    // So that nothing moves when it is drawn.
    element.style.minHeight = `${layout.height}px`;
    observer.observe(element);
  }
})();
