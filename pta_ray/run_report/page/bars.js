// Shares as bars: who won which part of a domain, how much of its time a stage was busy.

function stacked(id, title, rows, names) {
  const paint = (width) => {
    const svg = shape("svg", { width });
    svg.append(words(title, 0, 14, "title"));
    let y = 34 + legend(svg, names, width, 36, (i, x, at) =>
      shape("rect", { class: `area-${i % NUM_COLOURS}`, x, y: at - 6, width: 20, height: 12 }));
    for (const { name, numbers } of rows) {
      const total = numbers.reduce((sum, number) => sum + number, 0);
      svg.append(words(fitted(`${name}, ${count(total)} windows`, width), 0, y + 12));
      let x = 0;
      numbers.forEach((number, i) => {
        const wide = (number / total) * width;
        if (!wide) return;
        svg.append(shape("rect", { class: `area-${i % NUM_COLOURS}`, x, y: y + 18, width: wide, height: 24 },
          shape("title", {}, `${names[i]}: ${count(number)} windows, ${percent(number / total)}`)));
        if (wide > 46) svg.append(words(percent(number / total), x + wide / 2, y + 34, "on-colour"));
        x += wide;
      });
      y += 56;
    }
    svg.setAttribute("height", y);
    return svg;
  };
  return figure(id, title, paint);
}

function busy(id, title, stages, limits) {
  const paint = (width) => {
    const svg = shape("svg", { width });
    svg.append(words(title, 0, 14, "title"));
    let y = 30;
    for (const stage of stages) {
      const limiting = limits.includes(stage.name);
      svg.append(words(fitted(limiting ? `${stage.name}: sets the pace` : stage.name, width), 0, y + 12),
        shape("rect", { class: "track", x: 0, y: y + 18, width: width - 52, height: 14 }),
        shape("rect", { class: limiting ? "area-1" : "area-0", x: 0, y: y + 18,
          width: stage.busy_share * (width - 52), height: 14 }),
        words(percent(stage.busy_share), width, y + 30, "end"));
      y += 42;
    }
    svg.setAttribute("height", y);
    return svg;
  };
  return figure(id, title, paint);
}
