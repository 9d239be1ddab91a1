// What the page tells, section by section.

const state = { report: null };

const percent = (value) => `${(100 * value).toFixed(value > 0 && value < 0.0995 ? 1 : 0)}%`;
const fixed = (value, digits = 3) => (value === null || value === undefined ? "n/a" : value.toFixed(digits));
const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

function duration(seconds) {
  if (seconds < 120) return `${seconds.toFixed(0)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 120 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

function section(id, heading, ...parts) {
  return make("section", { id, "aria-labelledby": `${id}-heading` }, make("h2", { id: `${id}-heading` }, heading), ...parts);
}

const note = (...text) => make("p", { class: "note" }, ...text);
const side = (...parts) => make("div", { class: "wide" }, ...parts);

// Cells are text, or nodes as they are; columns from `firstNumber` on hold numbers.
function table(headings, rows, firstNumber = Infinity) {
  const kind = (column) => (column >= firstNumber ? "number" : "");
  const head = headings.map((text, column) => make("th", { class: kind(column), scope: "col" }, text));
  const body = rows.map((row) => make("tr", {}, ...row.map((cell, column) => {
    if (cell instanceof Node && cell.tagName === "TD") return cell;
    return column ? make("td", { class: kind(column) }, cell) : make("th", { scope: "row" }, cell);
  })));
  return make("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": `table: ${headings.join(", ")}` },
    make("table", {}, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...body)));
}

const pictures = [];
function picture(made) {
  pictures.push(made);
  return made.node;
}

function summary(report) {
  const before = report.bits_per_byte[report.target];
  const after = report.bits_per_byte.fused;
  const rows = [];
  if (after) {
    if (before && !report.simulated.includes(report.target)) {
      const [start, end] = [mean(Object.values(before)), mean(Object.values(after))];
      const change = `${end < start ? "−" : "+"}${percent(Math.abs(end / start - 1))}`;
      rows.push(["bits", "bits per byte, mean of domains", `${fixed(start)} → ${fixed(end)} (${change})`]);
    } else {
      rows.push(["bits", "bits per byte, mean of domains", fixed(mean(Object.values(after)))]);
    }
  }
  rows.push(["steps", "optimizer steps", count(report.steps)]);
  if (report.best_step !== null) rows.push(["best-step", "step of the result", count(report.best_step)]);
  rows.push(["windows", "windows learned from", count(report.num_windows)], ["time", "time", duration(report.seconds)],
    ["set-aside", "set aside", count(report.num_set_aside)]);
  return make("dl", { class: "figures" }, ...rows.map(([name, term, value]) =>
    make("div", {}, make("dt", {}, term), make("dd", { "data-figure": name }, value))));
}

function fused(report) {
  const models = report.models.map(({ name, role, place, sha256 }) => [name, role, place, make("code", {}, sha256)]);
  const parts = [table(["model", "role", "from", "SHA-256"], models), table(["text", "domain", "from"], report.text)];
  if (report.cache) parts.push(note(`The target learned from the cache ${report.cache}; no source was loaded.`));
  for (const [name, rows] of [["Settings", report.settings], ["Versions", report.packages]]) {
    parts.push(make("details", {}, make("summary", {}, name), table(["name", "value"], rows)));
  }
  return section("fused", "What was fused", ...parts);
}

function learning(report) {
  const parts = [];
  if (report.losses.length) {
    parts.push(picture(curves("loss", "Loss", "nats per position", [{ name: "", points: report.losses }])));
  }
  const domains = Object.entries(report.bits_curves).map(([name, points]) => ({ name, points }));
  if (domains.length) parts.push(picture(curves("bits", "Bits per byte on held-out text", "lower is better", domains)));
  if (report.learning_rates.length) {
    parts.push(picture(curves("rate", "Learning rate", "", [{ name: "", points: report.learning_rates }])));
  }
  const begins = domains.some(({ points }) => points[0]?.[0] === 0);
  const said = begins ? "Step 0 of the bits per byte is the target before training." : "";
  const missing = domains.length ? "" : "No held-out text was given.";
  const chosen = report.best_step === null ? "" : ` The weights of step ${count(report.best_step)} are the result: `
    + "the same text chose them, which flatters them a little.";
  return section("learning", "Learning", side(...parts), note(said + missing + chosen), quality(report));
}

function quality(report) {
  const names = Object.keys(report.bits_per_byte);
  if (!names.length) return "";
  const domains = Object.keys(report.bits_per_byte.fused ?? report.bits_per_byte[names[0]]);
  const labels = { [report.target]: `${report.target}, before`, fused: `${report.target}, fused` };
  const order = [...names.filter((name) => !labels[name]), ...[report.target, "fused"].filter((name) => names.includes(name))];
  const values = order.map((name) => {
    const row = domains.map((domain) => report.bits_per_byte[name][domain]);
    return [...row, mean(row)];
  });
  const lowest = values[0].map((_, column) => Math.min(...values.map((row) => row[column])));
  const rows = order.map((name, i) => [labels[name] ?? name, ...values[i].map((value, column) =>
    make("td", { class: value === lowest[column] ? "number best" : "number" }, fixed(value)))]);
  return make("div", { id: "quality" }, table(["bits per byte", ...domains, "mean"], rows, 1));
}

function winners(report) {
  const won = Object.entries(report.won);
  if (!won.length) return "";
  const known = report.models.map(({ name }) => name);
  const names = [...known, ...new Set(won.flatMap(([, by]) => Object.keys(by)).filter((name) => !known.includes(name)))];
  const rows = won.map(([name, by]) => ({ name, numbers: names.map((model) => by[model] ?? 0) }));
  const cells = rows.map(({ name, numbers }) => {
    const total = numbers.reduce((sum, number) => sum + number, 0);
    return [name, count(total), ...numbers.map((number) => percent(number / total))];
  });
  return section("winners", "Who won the windows",
    note("Whose distribution the target learned from, in windows of each domain."),
    picture(stacked("won", "Windows won, by domain", rows, names)), table(["domain", "windows", ...names], cells, 1));
}

function alignment(report) {
  const kinds = [["coverage", "coverage"], ["information_kept", "information kept"],
    ["next_byte_divergence_bits", "next-byte divergence, bits"], ["next_byte_agreement", "same next byte"]];
  const rows = Object.entries(report.alignment).map(([source, figures]) => [source, ...kinds.map(([kind]) => {
    const value = figures[kind];
    if (kind.endsWith("_bits") || value === null) return fixed(value);
    return make("td", { class: "number bar", style: `--share: ${100 * Math.min(value, 1)}%` }, fixed(value));
  })]);
  if (!rows.length) return "";
  return section("alignment", "What alignment kept of the sources",
    note("On a sample of the windows. Coverage and information kept are 1 where nothing is lost, divergence is 0."),
    table(["source", ...kinds.map(([, label]) => label)], rows, 1));
}

function stages(report) {
  if (!report.stages.length) return "";
  const limit = report.bottleneck;
  // An operator may do the work of several stages in turn: "score one, other".
  const limits = limit ? limit.operator.split(", ").map((name, i) => (i ? `score ${name}` : name)) : [];
  const rows = report.stages.map((stage) => [stage.name, count(stage.rows), stage.tokens ? count(stage.tokens) : "",
    stage.tokens ? count(Math.round(stage.tokens_per_second)) : "", percent(stage.busy_share), count(stage.processes),
    count(stage.failures)]);
  const said = limit ? [make("p", { class: "limit", id: "limit" }, "Limited by ", make("strong", {}, limit.operator),
    `, which was busy ${percent(limit.busy_share)} of its time `,
    `and can do ${short(limit.windows_per_second)} windows a second. `,
    limits.length > 1 ? "Its stages take turns in the same processes. " : "",
    `What would help: ${limit.remedy}.`)] : [];
  return section("stages", "What the stages did", ...said,
    picture(busy("busy", "Busy share of each stage", report.stages, limits)),
    table(["stage", "windows", "tokens", "tokens/s", "busy", "processes", "failures"], rows, 1));
}

function setAside(report) {
  if (!report.num_set_aside) return section("aside", "Set aside", note("Nothing."));
  const rows = report.set_aside.map(({ stage, reason, number, share, first }) => {
    const which = first.join(", ") + (number > first.length ? ", …" : "");
    const part = share === null ? "unknown" : percent(share);
    return [make("span", { class: "long" }, reason), stage, which, count(number), part];
  });
  const rest = report.num_set_aside - report.set_aside.reduce((sum, { number }) => sum + number, 0);
  return section("aside", "Set aside",
    note(`${count(report.num_set_aside)} windows or documents that the run went on without; `,
      "quarantine.parquet holds all of them."),
    table(["reason", "stage", "which", "number", "of the text"], rows, 3),
    rest ? note(`${count(rest)} more, for other reasons.`) : "");
}

function representations(report) {
  const found = report.representations;
  const heading = "Representations of tokens";
  if (!found) return section("representations", heading, note(
    "Not measured: that takes held-out text, and tokens in it that come again."));
  const { before, after } = found;
  const change = after.compactness < before.compactness ? "closer together" : "farther apart";
  return section("representations", heading,
    make("p", {}, "Compactness ", make("strong", { "data-figure": "compactness-before" }, fixed(before.compactness)),
      " before, ", make("strong", { "data-figure": "compactness-after" }, fixed(after.compactness)),
      ` after: measured against all, states that precede the same token lie ${change}.`),
    picture(points("plane", "Last hidden states, by the token that follows", found)),
    note(`Last hidden states h of ${count(found.groups.length)} positions of the held-out text, as in the figure of PTA-LLM `,
      "(Zeng et al., arXiv 2509.17276) of token representations. With μ their mean, g the positions that precede the same ",
      "token as h and μ", make("sub", {}, "g"), " the mean of these, compactness is mean |h − μ", make("sub", {}, "g"),
      "| / mean |h − μ|: 0 where every group is one point, 1 where groups are no closer together than all positions are. ",
      "It is measured in all dimensions; the picture shows the two principal components of each model's states, in units ",
      `of mean |h − μ|, which hold ${percent(before.variance_share)} and ${percent(after.variance_share)} of the variance.`));
}

async function start() {
  const report = await unpack(byId("data").textContent);
  state.report = report;
  const sources = report.models.slice(1).map(({ name }) => name).join(", ");
  byId("title").textContent = `${report.name}: fusion report`;
  byId("facts").textContent = `${sources} into ${report.target}`;
  byId("warning").hidden = !report.simulated.length;
  byId("warning").textContent = `A trial of the machinery: ${report.simulated.join(", ")} did not run. `
    + "What they say was made up, and figures that tell of them mean nothing.";
  byId("main").append(...[summary, fused, learning, winners, alignment, stages, representations, setAside]
    .map((part) => part(report)).filter(Boolean));
  pictures.forEach(({ repaint }) => repaint());
  document.documentElement.dataset.drawn = "yes";
}

start();
