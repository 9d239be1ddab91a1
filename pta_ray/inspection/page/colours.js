// Viridis: even steps of lightness, told apart with any kind of colour vision. Its bright end stands for little on white
// paper and for much on black, so that much always stands out.
const VIRIDIS = ["#440154", "#472d7b", "#3b528b", "#2c728e", "#21918c", "#28ae80", "#5ec962", "#addc30", "#fde725"];
const darkness = matchMedia("(prefers-color-scheme: dark)");

function channels(hex) {
  return [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
}

function between(stops, share) {
  const at = Math.min(Math.max(share, 0), 1) * (stops.length - 1);
  const i = Math.min(Math.floor(at), stops.length - 2);
  const [low, high] = [channels(stops[i]), channels(stops[i + 1])];
  return low.map((value, c) => Math.round(value + (high[c] - value) * (at - i)));
}

function stopsOf(kind) {
  if (kind === "cost") return darkness.matches ? ["#1c2026", "#b9c0ca"] : ["#ffffff", "#4b5361"];
  return darkness.matches ? VIRIDIS : [...VIRIDIS].reverse();
}

// Background and legible ink for a share from 0 to 1.
function paint(node, kind, share) {
  const rgb = between(stopsOf(kind), share);
  const [r, g, b] = rgb.map((value) => (value / 255) ** 2.2);
  node.style.background = `rgb(${rgb})`;
  node.style.color = 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.18 ? "#000" : "#fff";
}

function ramp(kind) {
  const colours = Array.from({ length: 9 }, (_, i) => `rgb(${between(stopsOf(kind), i / 8)})`);
  return `linear-gradient(to right, ${colours})`;
}
