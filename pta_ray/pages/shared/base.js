"use strict";

const byId = (id) => document.getElementById(id);
const count = (n) => n.toLocaleString("en");

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

// A label: plain text and symbols in turn, in a direction of its own.
function labelled(label) {
  return make("bdi", {}, ...label.map((part, n) => (n % 2 ? make("i", { class: "symbol" }, part) : part)));
}

async function unpack(packed) {
  const bytes = Uint8Array.from(atob(packed), (char) => char.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).json();
}
