"use strict";
// One recording: html.py of tf_marl's combat/replay says what is in it. Units are numbered agents first; row i of a
// column is the battle after i env steps, and action[i] leads from there to i + 1.
const replay = JSON.parse(document.getElementById("replay").textContent);
const N = replay.numAgents, U = replay.episodes[0].units.length, MAP = replay.terrain.length;
const SPEEDS = [1, 2, 4, 8, 16, 32];  // env steps per second
const $ = id => document.getElementById(id);

const view = {
  episode: 0,   // which
  t: 0,         // env steps into it, with a fraction between two
  playing: false,
  speed: 4,
  agent: null,  // the picked one
  whole: false, // the whole map instead of where the battle is
};
const episode = () => replay.episodes[view.episode];
const steps = () => episode().reward.length;
const step = () => Math.floor(view.t + 1e-6);
const unitOf = u => episode().units[u];  // SMACv2's teams differ between episodes
const typeOf = u => replay.types[unitOf(u).type];
const isAgent = u => u < N;
const unitName = u => `${typeOf(u).name} ${isAgent(u) ? u : u - N}`;
const sum = numbers => numbers.reduce((total, number) => total + number, 0);

// What the recording says

/** A column's entry for a unit, between two steps if need be. */
function at(column, u) {
  const i = step(), next = Math.min(i + 1, steps());
  return column[i][u] + (view.t - i) * (column[next][u] - column[i][u]);
}

const livesAt = (u, i) => episode().health[i][u] > 0;

/** The unit that an agent's action is about, or -1. */
function victim(agent, action) {
  const slot = action - replay.moves.length;
  return slot < 0 ? -1 : unitOf(agent).energy ? slot : N + episode().slots[slot];
}

/** Whom unit u attacks or heals on the way from step i to i + 1: a unit, or -1. */
function aim(u, i) {
  const {target, action} = episode();
  if (target[i + 1][u] >= 0) return target[i + 1][u];
  // A target that died in this step is one no longer; then it is the one the unit was told to attack.
  const told = isAgent(u) ? victim(u, action[i][u]) : target[i][u];
  return told >= 0 && livesAt(told, i) && !livesAt(told, i + 1) ? told : -1;
}

const isAvailable = (agent, action, i) =>
  Boolean(parseInt(episode().available[i][agent][action >> 2], 16) >> (action & 3) & 1);

function actionName(agent, action) {
  const other = victim(agent, action);
  if (other < 0) return replay.moves[action];
  return isAgent(other) ? `heal ${unitName(other)}` : unitOf(agent).energy ? "–" : `attack ${unitName(other)}`;
}

const numActions = replay.moves.length + U - N;
const returnUpTo = i => sum(episode().reward.slice(0, i));

// The battlefield

const canvas = $("battle"), pen = canvas.getContext("2d");
let colours = {}, scale = 1;  // pixels of the page per map unit

function readColours() {
  const style = getComputedStyle(document.documentElement);
  for (const name of ["ground", "grid", "cliff", "rock", "ink", "dim", "agents", "enemies", "health", "shield", "energy", "bar", "unit-edge", "unit-ink", "accent"])
    colours[name] = style.getPropertyValue(`--${name}`).trim();
}

const bounds = () => view.whole ? [0, 0, MAP, MAP] : replay.view;
const px = x => (x - bounds()[0]) * scale;
const py = y => (bounds()[3] - y) * scale;

/** Fits the canvas into its column and the window's height. */
function fit() {
  const [left, bottom, right, top] = bounds(), ratio = (top - bottom) / (right - left);
  const column = $("stage").parentElement.clientWidth - 24;
  const width = Math.max(260, Math.min(column, innerHeight * .68 / ratio));
  scale = width / (right - left);
  $("stage").style.width = `${width}px`;
  canvas.style.height = `${width * ratio}px`;
  canvas.width = Math.round(width * devicePixelRatio);
  canvas.height = Math.round(width * ratio * devicePixelRatio);
  canvas.dataset.view = bounds().join(" ");
}

/** The outline of a unit type: a circle, or a regular polygon. */
function outline([corners, turned], x, y, r) {
  pen.beginPath();
  if (!corners) return pen.arc(x, y, r, 0, 2 * Math.PI);
  for (let k = 0; k < corners; k++) {
    // The first side lies at the bottom, as Pillow has it too.
    const angle = Math.PI / 2 + (2 * k + 1) * Math.PI / corners - turned * Math.PI / 180;
    pen.lineTo(x + 1.2 * r * Math.cos(angle), y + 1.2 * r * Math.sin(angle));
  }
  pen.closePath();
}

function drawGround() {
  pen.fillStyle = colours.ground;
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.strokeStyle = colours.grid;
  pen.lineWidth = 1;
  pen.beginPath();
  for (let k = 0; k <= MAP; k += 2) {
    pen.moveTo(px(k), py(0)); pen.lineTo(px(k), py(MAP));
    pen.moveTo(px(0), py(k)); pen.lineTo(px(MAP), py(k));
  }
  pen.stroke();
  replay.terrain.forEach((row, y) => {
    for (const run of row.matchAll(/#+|\^+/g)) {
      pen.fillStyle = run[0][0] === "#" ? colours.rock : colours.cliff;
      pen.fillRect(px(run.index) - .25, py(y + 1) - .25, run[0].length * scale + .5, scale + .5);  // more hides the seams
    }
  });
}

function drawCircle(x, y, radius, dashes, label) {
  pen.setLineDash(dashes);
  pen.beginPath();
  pen.arc(px(x), py(y), radius * scale, 0, 2 * Math.PI);
  pen.stroke();
  pen.setLineDash([]);
  const above = py(y + radius) + 11;
  pen.fillText(label, px(x), above > 11 ? above : py(y - radius) - 11);
}

function drawReach(u) {
  pen.strokeStyle = pen.fillStyle = colours.agents;
  pen.lineWidth = 1.3;
  pen.globalAlpha = .8;
  pen.font = "11px system-ui, sans-serif";
  drawCircle(at(episode().x, u), at(episode().y, u), unitOf(u).sight, [5, 5], `sight ${unitOf(u).sight}`);
  drawCircle(at(episode().x, u), at(episode().y, u), unitOf(u).attackDistance, [], `attack ${unitOf(u).attackDistance}`);
  pen.globalAlpha = 1;
}

function drawAim(u, i) {
  const other = aim(u, i);
  if (other < 0 || !livesAt(u, i)) return;
  const picked = u === view.agent;
  pen.strokeStyle = unitOf(u).energy ? colours.health : isAgent(u) ? colours.agents : colours.enemies;
  pen.lineWidth = picked ? 2.6 : 1.2;
  pen.globalAlpha = picked ? 1 : .6;
  const x = px(at(episode().x, u)), y = py(at(episode().y, u));
  const dx = px(at(episode().x, other)) - x, dy = py(at(episode().y, other)) - y;
  // From the edge of the one to the edge of the other, where a dot says who attacks whom.
  const length = Math.hypot(dx, dy) || 1, from = Math.min(radiusOf(u) / length, .5), to = 1 - .6 * radiusOf(other) / length;
  pen.beginPath();
  pen.moveTo(x + from * dx, y + from * dy);
  pen.lineTo(x + to * dx, y + to * dy);
  pen.stroke();
  pen.fillStyle = pen.strokeStyle;
  pen.beginPath();
  pen.arc(x + to * dx, y + to * dy, picked ? 4 : 2.6, 0, 2 * Math.PI);
  pen.fill();
  pen.globalAlpha = 1;
}

const radiusOf = u => Math.max(unitOf(u).radius * scale, 5);  // pixels

function drawDead(u) {
  const x = px(at(episode().x, u)), y = py(at(episode().y, u)), arm = Math.max(.22 * scale, 3.5);
  pen.strokeStyle = isAgent(u) ? colours.agents : colours.enemies;
  pen.globalAlpha = .45;
  pen.lineWidth = 2;
  pen.beginPath();
  pen.moveTo(x - arm, y - arm); pen.lineTo(x + arm, y + arm);
  pen.moveTo(x - arm, y + arm); pen.lineTo(x + arm, y - arm);
  pen.stroke();
  pen.globalAlpha = 1;
}

function drawUnit(u, i) {
  const {x, y, health, shield} = episode(), unit = unitOf(u), r = radiusOf(u);
  const X = px(at(x, u)), Y = py(at(y, u)), next = Math.min(i + 1, steps());
  const lost = health[i][u] - health[next][u] + (shield ? shield[i][u] - shield[next][u] : 0);
  pen.globalAlpha = livesAt(u, next) ? 1 : 1 - .8 * (view.t - i);  // the dying fade
  if (lost > 0 && view.t > i) {  // a hit shows as a halo
    outline(typeOf(u).shape, X, Y, r + 2.5);
    pen.strokeStyle = isAgent(u) ? colours.enemies : colours.agents;
    pen.lineWidth = 3;
    pen.stroke();
  }
  outline(typeOf(u).shape, X, Y, r);
  pen.fillStyle = isAgent(u) ? colours.agents : colours.enemies;
  pen.fill();
  pen.strokeStyle = colours["unit-edge"];
  pen.lineWidth = 1.2;
  pen.stroke();
  if (u === view.agent) {
    pen.strokeStyle = colours.ink;
    pen.lineWidth = 2;
    pen.beginPath();
    pen.arc(X, Y, 1.2 * r + 5, 0, 2 * Math.PI);
    pen.stroke();
  }
  if (r >= 6) {  // its number among its side's; the type shows in the shape
    pen.fillStyle = colours["unit-ink"];
    pen.font = `700 ${Math.round(r * 1.05)}px system-ui, sans-serif`;
    pen.fillText(isAgent(u) ? u : u - N, X, Y + r * .08);
  }
  const half = Math.max(r, 7);
  let top = Y - 1.2 * r - 6;
  function bar(fraction, colour) {
    pen.fillStyle = colours.bar;
    pen.fillRect(X - half, top, 2 * half, 3.5);
    pen.fillStyle = colour;
    pen.fillRect(X - half, top, 2 * half * fraction, 3.5);
    top -= 4.5;
  }
  bar(at(health, u) / unit.health, colours.health);
  if (unit.shield) bar(at(shield, u) / unit.shield, colours.shield);
  pen.globalAlpha = 1;
}

function draw() {
  const i = step(), units = episode().units.map((_, u) => u);
  pen.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
  pen.textAlign = "center";
  pen.textBaseline = "middle";
  drawGround();
  units.filter(u => !livesAt(u, i)).forEach(drawDead);
  const alive = units.filter(u => livesAt(u, i)).sort((a, b) => (a === view.agent) - (b === view.agent));  // it on top
  if (alive.includes(view.agent)) drawReach(view.agent);
  alive.forEach(u => drawUnit(u, i));
  if (i < steps()) alive.forEach(u => drawAim(u, i));
}
