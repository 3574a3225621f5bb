"use strict";
(() => {
  const section = document.getElementById("thresholds");
  const data = JSON.parse(section.dataset.curves);
  const choice = section.querySelector("select");
  const slider = section.querySelector("input");
  const SVG = "http://www.w3.org/2000/svg";
  const SIZE = 260, LEFT = 34, BOTTOM = 226, TOP = 10, RIGHT = 250;
  const x = (value) => LEFT + value * (RIGHT - LEFT);
  const y = (value) => BOTTOM - value * (BOTTOM - TOP);

  function add(parent, name, attributes, text) {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== undefined) element.textContent = text;
    parent.append(element);
    return element;
  }

  function axes(svg, across, up) {
    svg.replaceChildren();
    for (const tick of [0, 0.25, 0.5, 0.75, 1]) {
      add(svg, "path", { d: `M${x(tick)} ${TOP}V${BOTTOM}M${LEFT} ${y(tick)}H${RIGHT}`, class: "grid" });
      add(svg, "text", { x: x(tick), y: BOTTOM + 15, "text-anchor": "middle" }, String(tick).replace("0.", "."));
      add(svg, "text", { x: LEFT - 6, y: y(tick) + 4, "text-anchor": "end" }, String(tick).replace("0.", "."));
    }
    add(svg, "text", { x: (LEFT + RIGHT) / 2, y: SIZE - 2, "text-anchor": "middle" }, across);
    add(svg, "text", { x: 8, y: (TOP + BOTTOM) / 2, "text-anchor": "middle", transform: `rotate(-90 8 ${(TOP + BOTTOM) / 2})` }, up);
  }

  const nearest = (value) => data.cuts.reduce((best, cut, i) => (Math.abs(cut - value) < Math.abs(data.cuts[best] - value) ? i : best), 0);
  const recall = (label, i) => label.hits[i] / label.photos;
  const precision = (label, i) => (label.given[i] ? label.hits[i] / label.given[i] : NaN);
  const told = (value) => (Number.isFinite(value) ? value.toFixed(2) : "–");

  function marker(svg, label, i, className) {
    if (label.given[i]) add(svg, "circle", { cx: x(recall(label, i)), cy: y(precision(label, i)), r: 5.5, class: className });
  }

  function draw() {
    const label = data.labels[choice.selectedIndex], i = Number(slider.value), own = nearest(label.threshold);
    const curve = section.querySelector(".precision"), bins = section.querySelector(".bins");
    axes(curve, "recall", "precision");
    const points = data.cuts.map((_, cut) => cut).filter((cut) => label.given[cut]);
    add(curve, "polyline", { points: points.map((cut) => `${x(recall(label, cut))},${y(precision(label, cut))}`).join(" "), class: "line" });
    marker(curve, label, own, "own");
    marker(curve, label, i, "now");
    axes(bins, "probability", "fraction with the label");
    add(bins, "path", { d: `M${x(0)} ${y(0)}L${x(1)} ${y(1)}`, class: "ideal" });
    add(bins, "polyline", { points: label.bins.map(([mean, share]) => `${x(mean)},${y(share)}`).join(" "), class: "line" });
    for (const [mean, share, count] of label.bins) {
      const dot = add(bins, "circle", { cx: x(mean), cy: y(share), r: 2 + 1.2 * Math.log10(count), class: "now" });
      add(dot, "title", {}, `${count} photos`);
    }
    const missed = label.photos - label.hits[i], wrong = label.given[i] - label.hits[i];
    const f1 = (2 * label.hits[i]) / (label.given[i] + label.photos);
    const photos = (n) => `${n} ${n === 1 ? "photo" : "photos"}`;
    section.querySelector("output").textContent =
      `At ${data.cuts[i]}${i === own ? " (about the chosen threshold)" : ""}: ${label.hits[i]} of ${photos(label.photos)} with the label get it, ` +
      `${missed} do not, and ${wrong} get it wrongly. Precision ${told(precision(label, i))}, recall ${told(recall(label, i))}, F1 ${told(f1)}.`;
  }

  function select() {
    slider.value = nearest(data.labels[choice.selectedIndex].threshold);
    draw();
  }

  slider.max = data.cuts.length - 1;
  choice.addEventListener("change", select);
  slider.addEventListener("input", draw);
  section.querySelector(".needs-script").hidden = true;
  section.querySelector(".curves").hidden = false;
  select();
})();
