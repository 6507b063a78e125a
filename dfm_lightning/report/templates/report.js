"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (name) => document.getElementById(name);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const on = (name, event, action) => byId(name)?.addEventListener(event, action);

  // Colours: as the system has them, or as was chosen here.
  const themes = { auto: "◐", light: "☀", dark: "☾" };
  let theme = "auto";
  try { theme = localStorage.getItem("dfm-report-theme") || "auto"; } catch { /* some browsers keep nothing for files */ }
  const setTheme = (name) => {
    theme = name in themes ? name : "auto";
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    byId("theme").textContent = `${themes[theme]} ${theme}`;
    byId("theme").setAttribute("aria-label", `${theme}: colours ${theme === "auto" ? "of the system" : ""}`);
  };
  setTheme(theme);
  on("theme", "click", () => {
    const names = Object.keys(themes);
    setTheme(names[(names.indexOf(theme) + 1) % names.length]);
    try { localStorage.setItem("dfm-report-theme", theme); } catch { /* then it is for this time only */ }
  });

  // Tables as text.
  const copyOtherwise = (text) => {
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  };
  for (const button of all(".copy")) {
    button.addEventListener("click", async () => {
      const link = button.previousElementSibling;
      const text = decodeURIComponent(link.getAttribute("href").split(",").slice(1).join(","));
      try { await navigator.clipboard.writeText(text); } catch { copyOtherwise(text); }
      button.focus();
      byId("said").textContent = "copied";
      button.textContent = "copied";
      setTimeout(() => { button.textContent = "copy"; }, 1500);
    });
  }

  if (!byId("cards")) return;

  // Pictures: each canvas shows a part of the sheet of its scene and run, and is drawn when it comes near.
  const sheets = new Map();
  const sheet = (name) => {
    if (!sheets.has(name)) {
      sheets.set(name, new Promise((resolve, reject) => {
        const image = new Image();
        image.onload = () => resolve(image);
        image.onerror = reject;
        image.src = data.sheets[name];
      }));
    }
    return sheets.get(name);
  };
  let view = 0;
  const draw = async (canvas, target = canvas) => {
    const { sheet: name, top, pictures, views, alt } = canvas.dataset;
    const image = await sheet(name);
    const number = Math.min(view, pictures - 1);
    const [width, height] = [canvas.width, canvas.height];
    if (target !== canvas) { target.width = width; target.height = height; }
    target.getContext("2d").drawImage(image, number * width, top, width, height, 0, 0, width, height);
    const label = pictures > 1 ? `${alt}, ${views.split("|")[number] ?? ""}` : alt;
    target.setAttribute("aria-label", label);
    target.dataset.drawn = "yes";
    return label;
  };
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const near = new Set();
  const show = (card) => {
    for (const canvas of all("canvas", card)) draw(canvas);
    for (const video of all("video", card)) {
      if (!video.src) video.src = data.videos[video.dataset.video];
      if (!calm) video.play().catch(() => {});
    }
  };
  const observer = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (isIntersecting) { near.add(target); show(target); } else {
        near.delete(target);
        for (const video of all("video", target)) video.pause();
      }
    }
  }, { rootMargin: "600px" });
  const cards = all(".scene");
  for (const card of cards) observer.observe(card);

  const large = byId("large");
  let enlarged = null;
  const setView = (number) => {
    view = number;
    if (byId("view")) byId("view").value = String(number);
    for (const card of near) for (const canvas of all("canvas", card)) draw(canvas);
    if (large.open) enlarge(enlarged);
  };
  const most = byId("view") ? byId("view").options.length : 1;
  on("view", "change", () => setView(Number(byId("view").value)));
  let timer = 0;
  on("play", "change", () => {
    clearInterval(timer);
    if (byId("play").checked) timer = setInterval(() => setView((view + 1) % most), 400);
  });

  // Which layers and samples are shown.
  const choose = () => {
    const sample = byId("sample")?.value ?? "";
    const hidden = new Set(all(".layer-choice").filter((box) => !box.checked).map((box) => box.value));
    for (const figure of all("figure.layer", byId("cards"))) {
      const other = sample !== "" && figure.dataset.sample !== undefined && figure.dataset.sample !== sample;
      figure.hidden = other || hidden.has(figure.dataset.layer);
    }
  };
  on("sample", "change", choose);
  for (const box of all(".layer-choice")) box.addEventListener("change", choose);
  on("size", "input", () => document.documentElement.style.setProperty("--cell", `${byId("size").value}px`));

  // The order of the scenes.
  const order = () => {
    const by = byId("sort").value, name = byId("score")?.value, sign = byId("falling").checked ? -1 : 1;
    const values = cards.map((card) => data.scores[card.dataset.card].map((row) => row[name]));
    const known = values.map((row) => row.filter((value) => value !== undefined));
    const place = known.map((row, number) => {
      if (by === "name") return number;
      if (by === "runs") return row.length > 1 ? Math.max(...row) - Math.min(...row) : NaN;
      return row.length ? row.reduce((a, b) => a + b) / row.length : NaN;
    });
    const numbers = cards.map((_, number) => number).sort((a, b) => {
      // Scenes without the score come last.
      if (Number.isNaN(place[a]) || Number.isNaN(place[b])) return Number.isNaN(place[a]) - Number.isNaN(place[b]);
      return sign * (place[a] - place[b]) || a - b;
    });
    byId("cards").append(...numbers.map((number) => cards[number]));
    cards.forEach((card, number) => {
      for (const span of all(".score", card)) {
        const value = values[number][span.dataset.row];
        span.textContent = value === undefined ? "" : `${name}: ${Number(value.toPrecision(4))}`;
      }
    });
  };
  for (const name of ["sort", "score", "falling"]) on(name, "change", order);
  all("form.tools")[0].addEventListener("submit", (event) => event.preventDefault());

  // One picture large; arrow keys go on to its neighbours and to the other views.
  async function enlarge(canvas) {
    enlarged = canvas;
    large.classList.toggle("sheet", canvas.closest("figure").classList.contains("sheet"));
    byId("large-text").textContent = await draw(canvas, all("canvas", large)[0]);
    if (!large.open) large.showModal();
  }
  const step = (by) => {
    const shown = all("figure.layer:not([hidden]) canvas", enlarged.closest(".scene"));
    enlarge(shown[(shown.indexOf(enlarged) + by + shown.length) % shown.length]);
  };
  for (const button of all(".enlarge")) button.addEventListener("click", () => enlarge(all("canvas", button)[0]));
  on("before", "click", () => step(-1));
  on("after", "click", () => step(1));
  on("close", "click", () => large.close());
  large.addEventListener("close", () => enlarged?.closest("button").focus());
  large.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: () => step(-1), ArrowRight: () => step(1),
      ArrowUp: () => setView((view + most - 1) % most), ArrowDown: () => setView((view + 1) % most) };
    if (event.key in steps) { event.preventDefault(); steps[event.key](); }
  });

  // What a model has to make up is not in the context: begin with the next view.
  const first = all("canvas", byId("cards")).find((canvas) => canvas.dataset.pictures > 1);
  const begin = first ? first.dataset.views.split("|").findIndex((name) => !name.startsWith("context")) : 0;
  setView(Math.max(begin, 0));
  order();
})();
