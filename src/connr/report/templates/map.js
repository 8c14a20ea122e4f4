"use strict";
// The map: points on a canvas, a picture beside the one that is pointed at, clusters to be shown or hidden.
(() => {
  const data = JSON.parse(document.getElementById("points").textContent);
  const GRID = 10000, MARGIN = 22, REACH = 22;
  const $ = (id) => document.getElementById(id);
  const plane = $("plane"), pick = $("pick"), picked = $("picked");
  const count = data.x.length;
  const boxes = [...document.querySelectorAll("#legend input[name=cluster]")];
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const sheet = new Image();
  let shown = [], at = -1, colours = [], ink = "", ground = "", scale = 1, size = 1, left = 0, top = 0;

  const px = (i) => left + data.x[i] * scale;
  const py = (i) => top + (GRID - data.y[i]) * scale;
  const radius = (i) => size * (data.edge[i] ? 1.4 : count > 2500 ? 2.6 : 3.4);

  function restyle() {
    const style = getComputedStyle(document.documentElement);
    colours = Array.from({ length: data.clusters }, (_, c) => style.getPropertyValue("--c" + c).trim());
    ink = style.getPropertyValue("--ink").trim();
    ground = style.getPropertyValue("--sheet").trim();
    draw();
  }

  function filter() {
    const visible = new Set(boxes.filter((box) => box.checked).map((box) => Number(box.value)));
    const edges = $("edges").checked;
    shown = [];
    for (let i = 0; i < count; i++) if (visible.has(data.cluster[i]) && (edges || !data.edge[i])) shown.push(i);
    $("shown").textContent = `${shown.length.toLocaleString("en")} of ${count.toLocaleString("en")} points shown.`;
    if (!shown.includes(at)) choose(-1);
    draw();
  }

  function draw() {
    const width = plane.clientWidth, height = plane.clientHeight, density = devicePixelRatio || 1;
    if (!width || !colours.length) return;
    plane.width = Math.round(width * density);
    plane.height = Math.round(height * density);
    scale = Math.max(1e-6, (Math.min(width, height) - 2 * MARGIN) / GRID);
    size = Math.min(1, Math.max(0.7, width / 760));
    left = (width - GRID * scale) / 2;
    top = (height - GRID * scale) / 2;
    const pen = plane.getContext("2d");
    pen.scale(density, density);
    pen.globalAlpha = 0.85;
    for (const i of shown) {
      pen.fillStyle = colours[data.cluster[i]];
      pen.beginPath();
      pen.arc(px(i), py(i), radius(i), 0, 2 * Math.PI);
      pen.fill();
    }
    pen.globalAlpha = 1;
    number(pen);
    if (at >= 0) {
      pen.lineWidth = 2.5;
      pen.strokeStyle = ink;
      pen.beginPath();
      pen.arc(px(at), py(at), 7.5, 0, 2 * Math.PI);
      pen.stroke();
    }
  }

  // The number of each cluster, at the point that is nearest to its median: colour is not all that tells them apart.
  function number(pen) {
    const members = new Map();
    for (const i of shown) members.has(data.cluster[i]) ? members.get(data.cluster[i]).push(i) : members.set(data.cluster[i], [i]);
    pen.font = `600 ${data.clusters > 30 ? 12 : 15}px system-ui, sans-serif`;
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    pen.lineJoin = "round";
    pen.lineWidth = 5;
    for (const [cluster, points] of members) {
      const middle = (values) => values.sort((a, b) => a - b)[values.length >> 1];
      const x = middle(points.map(px)), y = middle(points.map(py));
      pen.strokeStyle = ground;
      pen.fillStyle = ink;
      pen.strokeText(cluster, x, y);
      pen.fillText(cluster, x, y);
    }
  }

  function choose(i) {
    if (i === at) return;
    at = i;
    pick.hidden = i < 0;
    if (i >= 0) show(i);
    draw();
  }

  function show(i) {
    const near = data.edge[i] ? "near a boundary" : "";
    const label = data.label[i] ? `labelled ${data.label[i]}` : "";
    const lines = [`cluster ${data.cluster[i]} · distance ${data.distance[i].toFixed(2)}`, label, near].filter(Boolean);
    const name = document.createElement("b");
    name.textContent = data.name[i];
    $("pick-text").replaceChildren(name, ...lines.map((line) => {
      const part = document.createElement("span");
      part.textContent = line;
      return part;
    }));
    $("said").textContent = [data.name[i], ...lines].join(", ");
    if (!data.sheet) return place(i);
    picked.setAttribute("aria-label", `Picture ${data.name[i]}`);
    picked.width = picked.height = data.side;
    const column = i % data.columns, row = Math.floor(i / data.columns);
    picked.getContext("2d").drawImage(sheet, column * data.side, row * data.side, data.side, data.side, 0, 0, data.side, data.side);
    place(i);
  }

  function place(i) {
    pick.dataset.index = i;
    const { offsetWidth: width, offsetHeight: height } = pick, x = px(i), y = py(i), gap = 16;
    const beside = x + gap + width <= plane.clientWidth ? x + gap : x - gap - width;
    pick.style.left = `${Math.min(Math.max(4, beside), plane.clientWidth - width - 4)}px`;
    pick.style.top = `${Math.min(Math.max(4, y - height / 2), Math.max(4, plane.clientHeight - height - 4))}px`;
  }

  function nearest(x, y, reach) {
    let best = -1, least = reach * reach;
    for (const i of shown) {
      const distance = (px(i) - x) ** 2 + (py(i) - y) ** 2;
      if (distance <= least) [best, least] = [i, distance];
    }
    return best;
  }

  // The nearest point within 45 degrees of a direction, those straight ahead preferred.
  function next(dx, dy) {
    let best = at, least = Infinity;
    for (const i of shown) {
      const x = px(i) - px(at), y = py(i) - py(at);
      const ahead = x * dx + y * dy, aside = Math.abs(x * dy - y * dx);
      if (ahead > 0.01 && aside <= ahead && ahead + 2 * aside < least) [best, least] = [i, ahead + 2 * aside];
    }
    return best;
  }

  const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const STEPS = { PageDown: 1, PageUp: -1 };
  plane.addEventListener("keydown", (event) => {
    if (event.key === "Escape") return choose(-1);
    if (!(event.key in ARROWS || event.key in STEPS) || !shown.length || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    if (at < 0) return choose(nearest(plane.clientWidth / 2, plane.clientHeight / 2, Infinity));
    if (event.key in ARROWS) return choose(next(...ARROWS[event.key]));
    choose(shown[(shown.indexOf(at) + STEPS[event.key] + shown.length) % shown.length]);
  });
  const point = (event) => {
    const box = plane.getBoundingClientRect();
    choose(nearest(event.clientX - box.left - plane.clientLeft, event.clientY - box.top - plane.clientTop, REACH));
  };
  plane.addEventListener("pointermove", point);
  plane.addEventListener("pointerdown", point);
  plane.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && choose(-1));
  plane.addEventListener("blur", () => choose(-1));

  const check = (wanted) => {
    boxes.forEach((box) => { box.checked = wanted(Number(box.value)); });
    filter();
  };
  $("legend").addEventListener("change", filter);
  $("all").addEventListener("click", () => check(() => true));
  $("none").addEventListener("click", () => check(() => false));
  document.querySelectorAll("[data-only]").forEach((button) => button.addEventListener("click", () => {
    check((cluster) => cluster === Number(button.dataset.only));
    $("map").scrollIntoView();
    plane.focus({ preventScroll: true });
  }));
  $("legend").addEventListener("submit", (event) => event.preventDefault());
  dark.addEventListener("change", restyle);
  new ResizeObserver(draw).observe(plane);
  boxes.forEach((box) => { box.checked = true; }); // browsers remember boxes over a reload
  $("edges").checked = true;
  sheet.addEventListener("load", () => {
    if (at >= 0) show(at);
    document.documentElement.dataset.ready = "true";
  });
  if (data.sheet) sheet.src = data.sheet;
  else { // rows of features have no picture
    picked.hidden = true;
    document.documentElement.dataset.ready = "true";
  }
  restyle();
  filter();
})();
