"""The web page of `ros2-loc places relabel`: one file, no libraries; what comes from names of files enters it as text only."""

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>places relabel</title>
<style nonce="NONCE">
body { font: 15px system-ui, sans-serif; margin: 0; background: #f4f4f2; color: #222; }
header { display: flex; gap: 1em; align-items: center; padding: .5em 1em; background: #fff; border-bottom: 1px solid #ccc; }
header b { white-space: nowrap; } #name { color: #666; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; flex: 1; }
main { display: grid; grid-template-columns: 1fr 1fr; gap: 1em; padding: 1em; }
figure { margin: 0; } figure img { width: 100%; max-height: 52vh; object-fit: contain; background: #000; }
figcaption { color: #555; padding: .2em 0; }
#map { width: 260px; height: 260px; background: #fff; border: 1px solid #ccc; flex: none; }
#near { display: flex; flex-wrap: wrap; gap: 4px; align-content: flex-start; }
#near img { width: 150px; height: 100px; object-fit: cover; cursor: pointer; border: 3px solid transparent; }
#near img.chosen { border-color: #d97706; }
#below { grid-column: 1 / 3; display: flex; gap: 1em; }
#side { display: flex; flex-direction: column; gap: .5em; width: 260px; flex: none; }
input { width: 7.5em; } button { font: inherit; padding: .4em .9em; cursor: pointer; }
#next { background: #15803d; color: #fff; border: 0; } #move { background: #d97706; color: #fff; border: 0; }
#drop { background: #b91c1c; color: #fff; border: 0; } #said { color: #15803d; } #wrong { color: #b91c1c; }
</style></head><body>
<header><b id="count"></b><span id="name"></span><span id="said"></span><span id="wrong"></span>
<button id="back">back (b)</button><button id="next">Next: it is right (n)</button>
<button id="move">Move it there (m)</button><button id="drop">OK: skip it (x)</button></header>
<main>
<figure><img id="photo" alt="the photo"><figcaption>the photo</figcaption></figure>
<figure><img id="place" alt="the chosen image of the database"><figcaption id="what"></figcaption></figure>
<div id="below"><div id="side"><svg id="map" viewBox="-60 -60 120 120"></svg>
<label>east <input id="east"> m</label><label>north <input id="north"> m</label><label>heading <input id="heading"> deg</label>
<button id="look">show what is near there</button></div><div id="near"></div></div>
</main>
<script nonce="NONCE">
"use strict";
const token = "TOKEN", by = id => document.getElementById(id);
const url = (path, more) => path + "?" + new URLSearchParams({token, ...more});
let state = null, chosen = null;
async function ask(path, body) {
  const reply = await fetch(url(path), body === undefined ? {} :
    {method: "POST", headers: {"Content-Type": "application/json", "X-Token": token}, body: JSON.stringify(body)});
  const said = await reply.json();
  if (!reply.ok) throw new Error(said.error || reply.statusText);
  return said;
}
async function show(promise) {
  by("wrong").textContent = "";
  try { state = await promise; } catch (error) { by("wrong").textContent = error.message; return; }
  chosen = null;
  by("count").textContent = (state.number + 1) + " of " + state.count + ", " + state.open + " open";
  by("name").textContent = state.name;
  by("said").textContent = state.word || "";
  by("photo").src = url("/photo/" + state.number);
  fill(state.east_m, state.north_m, state.heading_deg);
  draw();
  if (state.near.length) choose(state.near[0], false);
}
function fill(east, north, heading) {
  by("east").value = east.toFixed(2); by("north").value = north.toFixed(2);
  by("heading").value = heading === null ? "" : heading.toFixed(1);
}
function choose(place, take) {
  chosen = place;
  by("place").src = url("/database/" + place.number);
  const away = Math.hypot(place.east_m, place.north_m).toFixed(1);
  const looks = place.heading_deg === null ? "" : ", looks to " + place.heading_deg.toFixed(0) + " deg";
  by("what").textContent = "database: " + away + " m away" + looks;
  if (take) fill(state.shown.east_m + place.east_m, state.shown.north_m + place.north_m, place.heading_deg);
  draw();
}
function mark(parent, kind, attributes) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", kind);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  parent.appendChild(node);
  return node;
}
function arrow(map, x, y, heading, color, size) {
  if (heading !== null) {
    const a = heading * Math.PI / 180, x2 = x + 2.5 * size * Math.sin(a), y2 = y - 2.5 * size * Math.cos(a);
    mark(map, "line", {x1: x, y1: y, x2, y2, stroke: color, "stroke-width": size / 2});
  }
  return mark(map, "circle", {cx: x, cy: y, r: size, fill: color});
}
function draw() {
  const map = by("map"), near = by("near");
  map.replaceChildren(); near.replaceChildren();
  const reach = Math.max(30, ...state.near.map(p => Math.hypot(p.east_m, p.north_m))) / 52;
  mark(map, "circle", {cx: 0, cy: 0, r: 25 / reach, fill: "none", stroke: "#bbb", "stroke-dasharray": 2});
  for (const place of state.near) {
    const is = chosen && chosen.number === place.number, color = is ? "#d97706" : "#2563eb";
    const dot = arrow(map, place.east_m / reach, -place.north_m / reach, place.heading_deg, color, is ? 3 : 2);
    dot.addEventListener("click", () => choose(place, true));
    const image = document.createElement("img");
    image.src = url("/database/" + place.number); image.alt = "database image"; image.className = is ? "chosen" : "";
    image.addEventListener("click", () => choose(place, true));
    near.appendChild(image);
  }
  const dx = state.east_m - state.shown.east_m, dy = state.north_m - state.shown.north_m;
  arrow(map, dx / reach, -dy / reach, state.heading_deg, "#b91c1c", 2.5);
}
const say = (word, place) => show(ask("/say", {number: state.number, word, ...place}));
const typed = id => by(id).value.trim() === "" ? null : Number(by(id).value);
const actions = {
  next: () => say("right", {}), drop: () => say("dropped", {}),
  move: () => say("moved", {east_m: typed("east"), north_m: typed("north"), heading_deg: typed("heading")}),
  back: () => show(ask("/state/" + Math.max(state.number - 1, 0))),
  look: () => show(ask("/near", {number: state.number, east_m: typed("east"), north_m: typed("north")}))
};
for (const [id, act] of Object.entries(actions)) by(id).addEventListener("click", act);
document.addEventListener("keydown", event => {
  const act = {n: "next", x: "drop", m: "move", b: "back"}[event.key];
  if (act && event.target.tagName !== "INPUT") actions[act]();
});
show(ask("/state"));
</script></body></html>
"""
