// What is shown of a boundary.

function drawBoundary(place) {
  const { data } = state;
  const view = data.windows[place.w];
  const boundary = boundaryAt(place);
  const parts = [bar(place, view), lead(place, view, boundary), figures(place, view, boundary)];
  if (boundary.where !== "silent") {
    parts.push(
      make("div", { class: "pair" }, sourceCandidates(boundary), targetCandidates(boundary)),
      ...heatMaps(boundary), aligned(boundary),
    );
  }
  byId("boundary").replaceChildren(...parts);
}

function bar(place, view) {
  const of = `Boundary ${place.m + 1} of ${count(view.bits.length)}`;
  const at = view.ends === null ? "" : `, byte ${count(view.start + Math.max(view.ends[place.m], 0))}`;
  const step = (name, by, disabled) => {
    const button = make("button", { type: "button" }, name);
    button.disabled = disabled;
    button.addEventListener("click", () => {
      choose(state.at + by, false);
      document.querySelectorAll(".steps button")[by > 0 ? 1 : 0].focus();
    });
    return button;
  };
  const steps = make("div", { class: "steps" }, step("‹ previous", -1, state.at === 0),
    step("next ›", 1, state.at === state.places.length - 1));
  return make("div", { class: "boundary-bar" }, make("h2", { id: "boundary-heading" }, of + at), steps);
}

function lead(place, view, boundary) {
  const boxed = (kind, i) => make("span", { class: `token of-${kind}` }, label(i));
  const text = make("p", { class: "lead" }, "Next token: ", boxed("target", view.tokens[place.m + 1]), " ");
  if (boundary.where !== "inside") {
    text.append(WHERE[boundary.where]);
    return text;
  }
  const token = state.data.windows[place.w].sources[state.source].tokens[boundary.source_token];
  text.append("It begins inside the source's token ", boxed("source", token), ", of which ",
    boxed("source", boundary.residue), " has been read; the source's candidates that begin so are kept.");
  return text;
}

function figures(place, view, boundary) {
  const { data } = state;
  const silent = boundary.where === "silent";
  const rows = [["confidence", "confidence", share(boundary.confidence)]];
  if (!silent) {
    rows.push(["source-tail", "source's tail", share(boundary.source.tail)],
      ["aligned-tail", "aligned tail", share(boundary.aligned[data.method].tail)]);
    if (boundary.pinned !== null) rows.push(["pinned", "next token, pinned", share(boundary.pinned)]);
  }
  rows.push(["target-bits", `bits, ${data.target}`, bits(view.bits[place.m])]);
  if (!silent) {
    rows.push(["source-bits", `bits, ${data.sources[state.source]}`, bits(boundary.source_bits)]);
    for (const [method, value] of Object.entries(boundary.bits)) rows.push([`${method}-bits`, `bits, ${method}`, bits(value)]);
  }
  const list = make("dl", { class: "figures" });
  for (const [id, name, value] of rows) {
    list.append(make("div", {}, make("dt", {}, name), make("dd", { "data-figure": id }, value)));
  }
  return list;
}

function barCell(value, most, kind) {
  const cell = make("td", { class: `bar of-${kind}-bar` }, share(value));
  cell.style.setProperty("--share", `${(100 * value) / (most || 1)}%`);
  return cell;
}

function table(id, caption, headings, rows) {
  const head = make("tr", {}, ...headings.map((name, i) => make("th", { scope: "col", class: name === "outcome" ? "wraps" : i ? "number" : "" }, name)));
  return make("div", {}, make("h3", { id }, caption), make("div", { class: "scroll" },
    make("table", { "aria-labelledby": id }, make("thead", {}, head), make("tbody", {}, ...rows))));
}

const rowHead = (i) => make("th", { scope: "row" }, label(i));
const tailRow = (...cells) => make("tr", { class: "tail" }, make("th", { scope: "row" }, "tail"), ...cells);

function sourceCandidates({ source, to_move }) {
  const most = Math.max(...source.probs, source.tail);
  const rows = source.labels.map((i, n) => make("tr", { class: n ? "" : "actual" }, rowHead(i),
    barCell(source.probs[n], most, "source"), make("td", { class: "number" }, share(to_move[n]))));
  return table("source-heading", "Source's candidates", ["candidate", "p", "to move"],
    [...rows, tailRow(barCell(source.tail, most, "source"), make("td"))]);
}

function targetCandidates({ target }) {
  const most = Math.max(...target.probs, target.tail);
  const rows = target.labels.map((i, n) => make("tr", { class: n ? "" : "actual" }, rowHead(i),
    barCell(target.probs[n], most, "target")));
  return table("target-heading", "Target's candidates", ["candidate", "q"],
    [...rows, tailRow(barCell(target.tail, most, "target"))]);
}

function aligned(boundary) {
  const methods = Object.keys(boundary.aligned);
  const masses = [boundary.target, ...methods.map((method) => boundary.aligned[method])].map((found) => {
    const sums = new Map();
    found.labels.forEach((i, n) => sums.set(i, (sums.get(i) ?? 0) + found.probs[n]));
    return sums;
  });
  const most = Math.max(...masses.flatMap((sums) => [...sums.values()]));
  const actual = boundary.aligned[methods[0]].labels[0];
  const named = new Set(masses.slice(1).flatMap((sums) => [...sums.keys()]));
  named.delete(actual);
  const order = (i) => masses.slice(1).map((sums) => sums.get(i) ?? 0);
  const rest = [...named].sort((i, j) => {
    const [a, b] = [order(i), order(j)];
    return a.map((value, n) => b[n] - value).find((difference) => difference !== 0) ?? 0;
  });
  const kinds = ["target", "aligned", ...methods.slice(1).map(() => "other")];
  const rows = [actual, ...rest].map((i, n) => make("tr", { class: n ? "" : "actual" }, rowHead(i),
    ...masses.map((sums, k) => (sums.has(i) ? barCell(sums.get(i), most, kinds[k]) : make("td", { class: "number" }, "–")))));
  const tails = [boundary.target, ...Object.values(boundary.aligned)].map((found) => make("td", { class: "number" }, share(found.tail)));
  return table("aligned-heading", "Aligned distribution", ["token", "target's q", ...methods], [...rows, tailRow(...tails)]);
}

// Heat maps, drawn for the chosen boundary alone.

function heatMaps(boundary) {
  if (!boundary.senders.length) return [make("p", { class: "note" }, "Nothing is left to be transported.")];
  const moved = boundary.senders.map((c) => boundary.to_move[c]);
  const full = (rows, usual) => rows.map((row) => boundary.target.labels.map((_, y) => row[y] ?? usual));
  const [cost, plan] = [full(boundary.cost, 1), full(boundary.plan, 0)];
  const most = Math.max(...plan.flat(), 1e-9);
  return [heat("cost", "Cost", boundary, cost, 1), heat("plan", "Transport plan", boundary, plan, most, moved)];
}

function heat(kind, caption, boundary, values, most, sums) {
  const columns = boundary.target.labels;
  const head = columns.map((i, y) => make("th", { scope: "col", class: y ? "" : "is-actual", title: words(i) }, make("span", {}, label(i))));
  const body = values.map((row, r) => {
    const from = boundary.source.labels[boundary.senders[r]];
    const cells = row.map((value, y) => {
      const cell = make("td", { "data-told": `${words(from)} → ${words(columns[y])}: ${share(value)}` },
        value === 0 && kind === "cost" ? "0" : cellText(value));
      if (value > 0) paint(cell, kind, value / most);
      return cell;
    });
    if (sums) cells.push(make("td", { class: "sum" }, cellText(sums[r])));
    return make("tr", {}, make("th", { scope: "row", title: words(from) }, label(from)), ...cells);
  });
  const parts = [make("thead", {}, make("tr", {}, make("td", { class: "sum" }), ...head, ...(sums ? [make("th", { scope: "col" }, make("span", {}, "sent"))] : []))),
    make("tbody", {}, ...body)];
  if (sums) {
    const received = columns.map((_, y) => values.reduce((sum, row) => sum + row[y], 0));
    parts.push(make("tfoot", {}, make("tr", {}, make("th", { scope: "row" }, "received"), ...received.map((sum) => make("td", {}, cellText(sum))), make("td", { class: "sum" }))));
  }
  const scale = make("span", { class: "ramp", role: "presentation" });
  scale.style.background = ramp(kind);
  const readout = make("p", { class: "readout" }, "Rows: source candidates. Columns: the target's.");
  const drawn = make("table", { class: `heat ${kind}`, "aria-labelledby": `${kind}-heading` }, ...parts);
  const tell = (event) => {
    const told = event.target.closest("td[data-told]");
    if (told) readout.textContent = told.dataset.told;
  };
  drawn.addEventListener("pointerover", tell);
  drawn.addEventListener("click", tell);
  return make("div", {}, make("h3", { id: `${kind}-heading` }, caption),
    make("p", { class: "note" }, "0", scale, share(most)),
    make("div", { class: "scroll", tabindex: "0", role: "region", "aria-labelledby": `${kind}-heading` }, drawn), readout);
}

// Which model wins the window.

function drawWindow(w) {
  const { windows } = state.data;
  const view = windows[w];
  const heading = `Window ${w + 1} of ${windows.length}: ${view.winner} wins`;
  const row = (claim) => make("tr", { class: claim.name === view.winner ? "won" : "" },
    make("th", { scope: "row" }, claim.name === view.winner ? `★ ${claim.name}` : claim.name),
    make("td", { class: "number" }, claim.num_bytes ? claim.bits_per_byte.toFixed(3) : "–"),
    make("td", { class: "number" }, `${count(claim.num_spoken)} of ${count(view.bits.length)}`),
    make("td", { class: "wraps" }, claim.reason));
  const made = table("window-heading", heading, ["model", "bits per byte, own tokens", "speaks at", "outcome"], view.claims.map(row));
  byId("window").replaceChildren(made);
}
