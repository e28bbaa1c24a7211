// Opens the event that a link names, switches colours, and opens everything for printing. The style sheet alone
// filters the rows.
"use strict";
(() => {
  const root = document.documentElement;
  const theme = document.getElementById("theme");
  const all = document.getElementById("all");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const rows = [...document.querySelectorAll(".row > details")];
  const isDark = () => (root.dataset.theme || (system.matches ? "dark" : "light")) === "dark";

  const label = () => {
    theme.textContent = isDark() ? "Light" : "Dark";
    theme.setAttribute("aria-pressed", String(isDark()));
  };
  theme.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    label();
  });
  system.addEventListener("change", label);

  all.addEventListener("click", () => {
    const open = all.getAttribute("aria-pressed") !== "true";
    rows.forEach((row) => (row.open = open));
    all.setAttribute("aria-pressed", String(open));
    all.textContent = open ? "Close all" : "Open all";
  });

  const show = () => {
    const row = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const details = row?.querySelector(":scope > details");
    if (details) {
      details.open = true;
      row.scrollIntoView({ block: "center" });
    }
  };
  addEventListener("hashchange", show);

  // Rows cannot be opened on paper: tables of sockets are expanded, everything else stays closed.
  let before = [];
  addEventListener("beforeprint", () => {
    before = rows.map((row) => row.open);
    rows.forEach((row) => (row.open = row.parentElement.classList.contains("sockets")));
  });
  addEventListener("afterprint", () => rows.forEach((row, at) => (row.open = before[at] ?? row.open)));

  label();
  show();
})();
