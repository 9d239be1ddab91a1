// Pictures: elements, axes, the frame around them, and how they are saved.

const SVG = "http://www.w3.org/2000/svg";
const NUM_COLOURS = 8;
const DASHES = ["", "7 3", "2 3", "9 3 2 3", "12 4", "4 2", "1 4", "6 2 1 2"];
const KEPT = ["fill", "stroke", "stroke-width", "stroke-dasharray", "stroke-linejoin", "opacity", "font-family", "font-size",
  "font-weight", "text-anchor"];

function shape(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

const words = (text, x, y, kind = "") => shape("text", { x, y, class: kind }, text);
const LETTER = 7; // the width of one in the pictures, about
const widthOf = (text) => LETTER * text.length;

function fitted(text, width) {
  if (widthOf(text) <= width) return text;
  return `${[...text].slice(0, Math.floor(width / LETTER) - 1).join("")}…`;
}

function short(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e5 || size < 1e-3) return value.toExponential(1).replace("+", "");
  return Number(value.toPrecision(4)).toLocaleString("en", { maximumFractionDigits: 6 });
}

// Round numbers that cover a range.
function ticks(low, high, number) {
  const range = high - low || Math.abs(high) || 1;
  const rough = range / number;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough);
  const found = [];
  for (let n = Math.floor(low / step); n <= Math.ceil(high / step + 1e-9); n++) found.push(Number((n * step).toPrecision(12)));
  return found.length > 1 ? found : [found[0], found[0] + step];
}

// What a line, a bar or a point looks like in the legend; returns the height it took.
function legend(svg, names, width, top, sample, kind = "") {
  let [x, y] = [0, top];
  names.forEach((whole, i) => {
    const name = fitted(whole, width - 34);
    const needs = 34 + widthOf(name);
    if (x && x + needs > width) [x, y] = [0, y + 20];
    const around = shape("rect", { x, y: y - 10, width: needs, height: 20, fill: "transparent" }); // can be clicked
    svg.append(shape("g", { "data-series": i }, around, sample(i, x + 4, y), words(name, x + 30, y + 4, kind)));
    x += needs + 10;
  });
  return names.length ? y - top + 20 : 0;
}

// A picture of its own, drawn anew when its width changes. `paint` gets the width and returns the picture; `onStep`, if
// it is given, is what arrow keys do: it gets the step, or a place (first or last), and returns what to say about it.
function figure(id, title, paint, onStep) {
  const canvas = make("div", { class: "canvas" });
  const readout = make("p", { class: "readout", "aria-live": "polite" });
  const button = make("button", { type: "button", "aria-label": `Save the picture “${title}”` }, "Save picture");
  const node = make("figure", { id, "aria-label": title }, canvas, make("div", { class: "tools" }, readout, button));
  let width = 0;
  const repaint = () => {
    if (!canvas.clientWidth) return;
    width = canvas.clientWidth;
    const svg = paint(Math.max(width, 260));
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", title);
    canvas.replaceChildren(svg);
  };
  const say = (...text) => readout.replaceChildren(...text);
  if (onStep) {
    say(make("span", { class: "hint" }, "← → to read values"));
    canvas.setAttribute("tabindex", "0");
    canvas.setAttribute("role", "group");
    canvas.setAttribute("aria-label", `${title}: arrow keys read its values`);
    canvas.addEventListener("keydown", (event) => {
      const move = { ArrowLeft: -1, ArrowRight: 1, Home: "first", End: "last" }[event.key];
      if (move === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      say(...onStep(move));
      repaint();
    });
  }
  button.addEventListener("click", () => save(canvas.firstChild, `${state.report.name}-${id}.svg`));
  new ResizeObserver(() => canvas.clientWidth !== width && repaint()).observe(canvas);
  return { node, canvas, repaint, say };
}

// The picture as it is seen, with its colours written into it.
function save(svg, name) {
  const copy = svg.cloneNode(true);
  const copies = [copy, ...copy.querySelectorAll("*")];
  [svg, ...svg.querySelectorAll("*")].forEach((node, i) => {
    const style = getComputedStyle(node);
    for (const kind of KEPT) copies[i].setAttribute(kind, style.getPropertyValue(kind));
  });
  copy.querySelectorAll(".cursor").forEach((node) => node.remove());
  const paper = getComputedStyle(document.body).backgroundColor;
  copy.prepend(shape("rect", { width: "100%", height: "100%", fill: paper }));
  const blob = new Blob([new XMLSerializer().serializeToString(copy)], { type: "image/svg+xml" });
  const link = make("a", { download: name, href: URL.createObjectURL(blob) });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
