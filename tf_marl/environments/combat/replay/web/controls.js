// What changes the view

/** Shows everything that depends on the time. */
function show() {
  draw();
  showTotals();
  showClock();
  showAgent();
  moveCursors();
}

function seek(t) {
  view.t = Math.min(Math.max(t, 0), steps());
  show();
}

function play(on) {
  if (on && view.t >= steps()) view.t = 0;
  view.playing = on;
  show();
  if (on) requestAnimationFrame(start => tick(start, start));
}

/** One picture of a running battle. Args: when the one before was drawn, and now, in milliseconds. */
function tick(before, now) {
  if (!view.playing) return;
  const t = view.t + (now - before) / 1000 * view.speed;
  if (t >= steps()) view.playing = false;
  seek(t);
  if (view.playing) requestAnimationFrame(next => tick(now, next));
}

function stepBy(count) {
  view.playing = false;
  seek(count < 0 && view.t > step() ? step() : step() + count);
}

function pick(agent) {
  view.agent = agent;
  drawCharts();
  show();
}

function pickNext(by) {
  pick(view.agent === null ? (by > 0 ? 0 : N - 1) : (view.agent + by + N) % N);
}

function choose(number) {
  view.episode = (number + replay.episodes.length) % replay.episodes.length;
  view.t = 0;
  [...$("episodes").children].forEach((button, k) => button.setAttribute("aria-pressed", k === view.episode));
  $("scrub").max = steps();
  drawCharts();
  show();
}

function setSpeed(speed) {
  view.speed = speed;
  show();
}

const faster = by => setSpeed(SPEEDS[Math.min(Math.max(SPEEDS.indexOf(view.speed) + by, 0), SPEEDS.length - 1)]);

function resize() {
  fit();
  draw();
}

// Set-up

const KEYS = {
  " ": () => play(!view.playing),
  ArrowLeft: () => stepBy(-1),
  ArrowRight: () => stepBy(1),
  Home: () => seek(0),
  End: () => seek(steps()),
  ArrowUp: () => pickNext(-1),
  ArrowDown: () => pickNext(1),
  Escape: () => pick(null),
  "[": () => faster(-1),
  "]": () => faster(1),
  n: () => choose(view.episode + 1),
  p: () => choose(view.episode - 1),
  m: () => $("whole").click(),
};

document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const digit = /^[0-9]$/.test(event.key) ? Number(event.key) : null;
  if (digit !== null && digit < N) pick(digit);
  else if (KEYS[event.key]) KEYS[event.key]();
  else return;
  event.preventDefault();  // neither scroll the page nor press the button that was clicked last
});

$("play").addEventListener("click", () => play(!view.playing));
$("begin").addEventListener("click", () => play(true));
$("back").addEventListener("click", () => stepBy(-1));
$("forth").addEventListener("click", () => stepBy(1));
$("scrub").addEventListener("input", event => { view.playing = false; seek(Number(event.target.value)); });
$("speed").addEventListener("change", event => setSpeed(Number(event.target.value)));
$("whole").addEventListener("change", event => { view.whole = event.target.checked; resize(); });
canvas.addEventListener("click", event => {
  const box = canvas.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
  const distance = u => Math.hypot(px(at(episode().x, u)) - x, py(at(episode().y, u)) - y) - radiusOf(u);
  const near = [...Array(N).keys()].filter(u => distance(u) < 8).sort((a, b) => distance(a) - distance(b));
  pick(near.length ? near[0] : null);
});
addEventListener("resize", resize);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { readColours(); draw(); });

document.title = `${replay.map} replay`;
$("map").textContent = replay.map;
$("title").textContent = replay.title;
$("seed").textContent = `seed ${replay.seed.join(", ")}`;
fill($("speed"), ...SPEEDS.map(speed => make("option", {value: speed}, `${speed} steps/s`)));
fill($("roster"), ...Array.from({length: N}, (_, u) => {
  const button = make("button", {}, String(u));
  button.addEventListener("click", () => pick(view.agent === u ? null : u));
  return button;
}));
fill($("episodes"), ...replay.episodes.map(({outcome, reward}, k) => {
  const mark = {won: "✓", lost: "✗"}[outcome] || "=";
  const button = make("button", {class: outcome},
    make("b", {}, `${mark} ${outcome}`), make("small", {class: "number"}, `${k + 1}: return ${sum(reward).toFixed(1)}`));
  button.addEventListener("click", () => choose(k));
  return button;
}));
$("legend").prepend(...replay.types.map(type => {
  const [corners, turned] = type.shape, points = [];
  for (let k = 0; k < corners; k++) {
    const angle = Math.PI / 2 + (2 * k + 1) * Math.PI / corners - turned * Math.PI / 180;
    points.push(`${8 + 7 * Math.cos(angle)},${8 + 7 * Math.sin(angle)}`);
  }
  const icon = svg("svg", {width: 16, height: 16, fill: "currentColor"});
  icon.append(corners ? svg("polygon", {points: points.join(" ")}) : svg("circle", {cx: 8, cy: 8, r: 6}));
  return make("span", {}, icon, type.name);
}));
addChart("reward", "Reward");
addChart("return", "Return");
addChart("value", "Value");
readColours();
fit();
choose(0);
