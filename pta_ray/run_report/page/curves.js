// Values by step, one line for each series; a vertical line shows where they are read.

function curves(id, title, unit, series) {
  const steps = [...new Set(series.flatMap(({ points }) => points.map(([step]) => step)))].sort((a, b) => a - b);
  let at = -1;
  let places = { left: 0, right: 1 };

  const say = () => {
    const step = steps[at];
    const values = series.flatMap(({ name, points }) => {
      const found = points.find(([other]) => other === step);
      return found ? [`${name ? `${name} ` : ""}${short(found[1])}`] : [];
    });
    return [`step ${short(step)}: ${values.join(", ")}`];
  };
  const onStep = (move) => {
    if (move === "first" || move === "last") at = move === "first" ? 0 : steps.length - 1;
    else at = Math.min(Math.max(at + move, 0), steps.length - 1);
    return say();
  };

  const paint = (width) => {
    const svg = shape("svg", { width });
    svg.append(words(title, 0, 14, "title"));
    const names = series.map(({ name }) => name).filter(Boolean);
    const used = legend(svg, names, width, 36, (i, x, y) =>
      shape("g", {}, line(`M${x} ${y}h20`, i), marker(i, x + 10, y)));
    const [top, height] = [36 + used + (unit ? 14 : 0), 210];
    const values = series.flatMap(({ points }) => points.map(([, value]) => value));
    const levels = ticks(Math.min(...values), Math.max(...values), 5);
    const left = 10 + Math.max(...levels.map((level) => widthOf(short(level))));
    const right = width - 16;
    const [low, high] = [levels[0], levels.at(-1)];
    const [first, last] = [steps[0], Math.max(steps.at(-1), steps[0] + 1)];
    const xOf = (step) => left + ((step - first) / (last - first)) * (right - left);
    const yOf = (value) => top + height - ((value - low) / (high - low)) * height;
    places = { left, right };
    svg.append(words(unit, 0, top - 12, "quiet"));
    for (const level of levels) {
      svg.append(shape("path", { class: "grid", d: `M${left} ${yOf(level)}H${right}` }),
        words(short(level), left - 6, yOf(level) + 4, "quiet end"));
    }
    for (const step of ticks(first, last, Math.max(2, Math.floor((right - left) / 90)))) {
      if (step < first || step > last || !Number.isInteger(step)) continue;
      svg.append(words(short(step), xOf(step), top + height + 18, "quiet middle"));
    }
    svg.append(words("step", right, top + height + 34, "quiet end"));
    if (at >= 0) svg.append(shape("path", { class: "cursor", d: `M${xOf(steps[at])} ${top}v${height}` }));
    series.forEach(({ points }, i) => {
      svg.append(line(`M${points.map(([step, value]) => `${xOf(step).toFixed(1)} ${yOf(value).toFixed(1)}`).join("L")}`, i));
      if (points.length <= 40) svg.append(...points.map(([step, value]) => marker(i, xOf(step), yOf(value), 3.5)));
    });
    svg.setAttribute("height", top + height + 40);
    return svg;
  };

  const made = figure(id, title, paint, onStep);
  made.canvas.addEventListener("pointermove", (event) => {
    const x = event.clientX - made.canvas.getBoundingClientRect().left;
    const step = steps[0] + ((x - places.left) / (places.right - places.left)) * (steps.at(-1) - steps[0]);
    const nearest = steps.reduce((best, other, i) => (Math.abs(other - step) < Math.abs(steps[best] - step) ? i : best), 0);
    if (nearest === at) return;
    at = nearest;
    made.say(...say());
    made.repaint();
  });
  return made;
}

const line = (d, i) => shape("path", { class: `curve line-${i % NUM_COLOURS}`, "stroke-dasharray": DASHES[i % NUM_COLOURS], d });
