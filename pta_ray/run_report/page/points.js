// Points in the plane, by group: each has a colour and a shape of its own.

const MARKS = [
  (r) => `M${-r} 0a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0Z`,
  (r) => `M${-r} ${-r}h${2 * r}v${2 * r}h${-2 * r}Z`,
  (r) => `M0 ${-1.2 * r}L${1.1 * r} ${r}H${-1.1 * r}Z`,
  (r) => `M0 ${-1.3 * r}L${1.3 * r} 0L0 ${1.3 * r}L${-1.3 * r} 0Z`,
  (r) => `M${-r} 0H${r}M0 ${-r}V${r}`,
  (r) => `M0 ${1.2 * r}L${1.1 * r} ${-r}H${-1.1 * r}Z`,
  (r) => `M${-r} ${-r}L${r} ${r}M${r} ${-r}L${-r} ${r}`,
  (r) => `M${-1.3 * r} ${-r / 2}h${2.6 * r}v${r}h${-2.6 * r}Z`,
];

function marker(i, x, y, size = 4) {
  const open = [4, 6].includes(i % NUM_COLOURS);
  const kind = open ? `cross line-${i % NUM_COLOURS}` : `area-${i % NUM_COLOURS}`;
  return shape("path", { class: kind, transform: `translate(${x} ${y})`, d: MARKS[i % NUM_COLOURS](size) });
}

function points(id, title, found) {
  const names = found.tokens.map((label) => label.join(""));
  const panels = [["before", found.before], ["after", found.after]];
  const all = panels.flatMap(([, states]) => states.points);
  const most = 1.08 * Math.max(...all.flatMap((point) => point.map(Math.abs)));
  let chosen = -1;

  const onStep = (move) => {
    if (move === "first" || move === "last") chosen = move === "first" ? 0 : names.length - 1;
    else chosen = chosen < 0 && move < 0 ? names.length - 1 : (chosen + move + names.length) % names.length;
    return say();
  };
  const say = () => {
    const number = found.groups.filter((group) => group === chosen).length;
    return chosen < 0 ? ["all tokens"] : ["before the token ", labelled(found.tokens[chosen]), `: ${number} positions`];
  };

  const paint = (width) => {
    const svg = shape("svg", { width });
    svg.append(words(title, 0, 14, "title"));
    const across = width >= 560;
    const size = across ? (width - 24) / 2 : width;
    const side = Math.min(size, 420);
    let top = 36 + legend(svg, names, width, 38, (i, x, y) => marker(i, x + 10, y, 5), "token");
    svg.querySelectorAll("[data-series]").forEach((node, i) => faintUnless(node, i));
    panels.forEach(([when, states], p) => {
      const left = across ? p * (size + 24) : 0;
      if (p && !across) top += side + 40;
      svg.append(words(`${when}: compactness ${states.compactness.toFixed(3)}`, left, top + 12));
      svg.append(shape("rect", { class: "grid", x: left, y: top + 20, width: side, height: side }));
      states.points.forEach(([x, y], n) => {
        const node = marker(found.groups[n], left + (side * (1 + x / most)) / 2, top + 20 + (side * (1 - y / most)) / 2);
        faintUnless(node, found.groups[n]);
        svg.append(node);
      });
    });
    svg.setAttribute("height", top + side + 24);
    return svg;
  };
  const faintUnless = (node, group) => chosen >= 0 && group !== chosen && node.classList.add("faint");

  const made = figure(id, title, paint, onStep);
  made.canvas.addEventListener("click", (event) => {
    const series = event.target.closest("[data-series]");
    if (!series) return;
    chosen = Number(series.dataset.series) === chosen ? -1 : Number(series.dataset.series);
    made.say(...say());
    made.repaint();
  });
  return made;
}
