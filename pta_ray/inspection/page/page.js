const state = { data: null, source: 0, at: 0, places: [] };
const WHERE = {
  shared: "Both models have read the same bytes here.",
  silent: "The source says nothing here.",
};

const label = (i) => labelled(state.data.labels[i]);
const words = (i) => state.data.labels[i].join("");
const bits = (value) => (value === null ? "not named" : value.toFixed(2));

function share(value) {
  if (value === 0) return "0";
  return value < 0.0005 ? value.toExponential(1) : value.toFixed(4);
}

function cellText(value) {
  if (value === 0) return "";
  if (value < 0.005) return "·";
  return value >= 0.995 ? "1" : value.toFixed(2).slice(1);
}

// The text.

function drawText() {
  const { windows } = state.data;
  const all = document.createDocumentFragment();
  state.places = [];
  windows.forEach((view, w) => {
    const title = `Window ${w + 1} of ${windows.length}, from byte ${count(view.start)}: ${view.winner} wins`;
    const box = make("div", { role: "group", "aria-label": title });
    if (windows.length > 1) box.append(make("div", { class: "window-title", "aria-hidden": "true" }, title));
    const source = view.sources[state.source];
    const above = [];
    for (const line of source.lines) {
      const row = make("div", { class: "line", role: "presentation", dir: line.right_to_left ? "rtl" : "ltr" });
      for (const group of line.groups) row.append(drawGroup(w, view, source, group, line, above));
      box.append(row);
    }
    all.append(box);
  });
  byId("text").replaceChildren(all);
}

function drawGroup(w, view, source, group, line, above) {
  const upper = make("div", { class: "upper", "aria-hidden": "true" });
  for (let s = group.source[0]; s < group.source[1]; s++) {
    above[s] = make("span", { class: "token" }, label(source.tokens[s]));
    upper.append(above[s]);
  }
  const lower = make("div", { class: "lower", role: "presentation" });
  const pairing = `${group.source[1] - group.source[0]} source to ${group.target[1] - group.target[0]} target tokens`;
  for (let t = group.target[0]; t < group.target[1]; t++) {
    const { where } = source.boundaries[t - 1];
    const place = state.places.length;
    const name = `${words(view.tokens[t])}, ${where === "inside" ? "inside a source token" : where}, ${pairing}`;
    const node = make("span", { class: `token ${where}`, role: "option", "aria-selected": "false", tabindex: "-1",
      "aria-label": name, title: pairing, "data-place": place }, label(view.tokens[t]));
    state.places.push({ w, m: t - 1, node, above, rightToLeft: line.right_to_left });
    lower.append(node);
  }
  const middle = make("div", { class: "middle", "aria-hidden": "true" });
  if (group.text !== null) middle.append(label(group.text));
  return make("div", { class: "group", role: "presentation" }, upper, middle, lower);
}

// Choosing a boundary.

function choose(place, focus) {
  const old = state.places[state.at];
  old?.node.setAttribute("aria-selected", "false");
  old?.node.setAttribute("tabindex", "-1");
  byId("text").querySelector(".answers")?.classList.remove("answers");
  state.at = Math.min(Math.max(place, 0), state.places.length - 1);
  const found = state.places[state.at];
  if (!found) return;
  found.node.setAttribute("aria-selected", "true");
  found.node.setAttribute("tabindex", "0");
  const { source_token } = boundaryAt(found);
  if (source_token >= 0) found.above[source_token]?.classList.add("answers");
  if (focus) found.node.focus({ preventScroll: true });
  keepInView(found.node);
  requestAnimationFrame(() => keepInView(found.node)); // lines on the way have got their true heights by then
  drawBoundary(found);
  drawWindow(found.w);
}

const boundaryAt = ({ w, m }) => state.data.windows[w].sources[state.source].boundaries[m];

// Scrolls the box of the text alone, and never the page.
function keepInView(node) {
  const box = byId("text");
  const [inner, outer] = [node.closest(".group").getBoundingClientRect(), box.getBoundingClientRect()];
  if (inner.top < outer.top) box.scrollTop += inner.top - outer.top - 12;
  else if (inner.bottom > outer.bottom) box.scrollTop += inner.bottom - outer.bottom + 12;
}

// The nearest token of the row above or below.
function placeInNextRow(step) {
  const middleOf = (rect) => (rect.left + rect.right) / 2;
  const here = state.places[state.at].node.getBoundingClientRect();
  let [best, distance, top] = [state.at, Infinity, null];
  for (let i = state.at + step; i >= 0 && i < state.places.length; i += step) {
    const rect = state.places[i].node.getBoundingClientRect();
    if (Math.abs(rect.top - here.top) < here.height) continue;
    top ??= rect.top;
    if (Math.abs(rect.top - top) > here.height) break;
    const off = Math.abs(middleOf(rect) - middleOf(here));
    if (off < distance) [best, distance] = [i, off];
  }
  return best;
}

function placeForKey(key) {
  const forward = state.places[state.at]?.rightToLeft ? "ArrowLeft" : "ArrowRight";
  switch (key) {
    case "ArrowLeft":
    case "ArrowRight": return state.at + (key === forward ? 1 : -1);
    case "ArrowDown": return placeInNextRow(1);
    case "ArrowUp": return placeInNextRow(-1);
    case "Home": return 0;
    case "End": return state.places.length - 1;
    case "PageDown": return state.at + 20;
    case "PageUp": return state.at - 20;
    default: return null;
  }
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const tabs = [...byId("sources").children];
  const source = Number(event.key) - 1;
  if (Number.isInteger(source) && tabs[source]) return chooseSource(source, false);
  if (byId("sources").contains(event.target)) {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step) chooseSource((state.source + step + tabs.length) % tabs.length, true);
    return;
  }
  if (event.target !== document.body && !byId("text").contains(event.target)) return;
  const place = placeForKey(event.key);
  if (place === null || !state.places.length) return;
  event.preventDefault();
  choose(place, true);
}

function chooseSource(source, focus) {
  state.source = source;
  [...byId("sources").children].forEach((tab, i) => {
    tab.setAttribute("aria-selected", String(i === source));
    tab.setAttribute("tabindex", i === source ? "0" : "-1");
  });
  if (focus) byId("sources").children[source].focus();
  const hadFocus = byId("text").contains(document.activeElement);
  const scrolled = byId("text").scrollTop;
  drawText();
  byId("text").scrollTop = scrolled;
  choose(state.at, hadFocus);
}

// The start.

function drawHead() {
  const { data } = state;
  const total = data.windows.reduce((sum, view) => sum + view.num_bytes, 0);
  byId("facts").textContent = `Target ${data.target}. Alignment: ${data.settings}. Text: ${count(total)} bytes.`;
  if (data.left_out.length) byId("facts").append(` Not asked, and not in the contest: ${data.left_out.join(", ")}.`);
  byId("warning").hidden = !data.simulated.length;
  byId("warning").textContent = `Simulated, so made up: what ${data.simulated.join(", ")} says.`;
  data.sources.forEach((name, i) => {
    const tab = make("button", { type: "button", role: "tab", "aria-controls": "boundary" }, name);
    tab.addEventListener("click", () => chooseSource(i, true));
    byId("sources").append(tab);
  });
}

async function start() {
  state.data = await unpack(byId("data").textContent);
  drawHead();
  chooseSource(0, false);
  document.addEventListener("keydown", onKey);
  byId("text").addEventListener("click", (event) => {
    const node = event.target.closest("[data-place]");
    if (node) choose(Number(node.dataset.place), true);
  });
  darkness.addEventListener("change", () => choose(state.at, false));
  document.documentElement.dataset.drawn = "yes";
}

start();
